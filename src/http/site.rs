//! What is where: the resources of this server by their paths, and who may use them from other sites (CORS).

use std::net::IpAddr;

use super::answer::{Answer, Status};
use super::endpoint::{self, Place};
use super::head::{Head, Method};
use super::host_meta;
use super::invitation;
use super::pages::Pages;
use super::upload::FilesOptions;
use crate::core::gate::Network;
use crate::core::slots::{FOLDER, MOVED_FOLDER};

/// WebSocket's path, as Prosody's.
pub const WEBSOCKET_PATH: &str = "/xmpp-websocket";
/// BOSH's path, as Prosody's.
pub const BOSH_PATH: &str = "/http-bind";

/// The configuration of the site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteOptions {
    /// Hosts, prepared; the first answers for names that are none of them.
    pub hosts: Vec<String>,
    /// How clients reach this server, with `{host}` in place of the name.
    pub external_url: String,
    /// Proxies that are believed.
    pub trusted: Vec<Network>,
    /// Such proxies begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Sites whose scripts may use what is here; `*` is every one.
    pub origins: Vec<String>,
    /// Clients can come by WebSocket.
    pub websocket: bool,
    /// Clients can come by BOSH.
    pub bosh: bool,
    /// Who may read the figures.
    pub metrics_from: Vec<Network>,
    /// Application servers can bring something for clients (UnifiedPush).
    pub endpoints: bool,
    /// Users' files; none when there are none.
    pub files: Option<FilesOptions>,
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Resource {
    /// Something that is known at once.
    Ready(Answer),
    /// Whether the server is alive.
    Health,
    /// Whether the server takes clients.
    Readiness,
    /// Figures.
    Metrics,
    /// A WebSocket for a client.
    WebSocket,
    /// A session of BOSH.
    Bosh,
    /// A file.
    File,
    /// The page of an invitation.
    Invitation,
    /// An endpoint of an application, or the place of what was brought to one.
    Endpoint(Place),
}

/// The site.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Its configuration.
    pub options: SiteOptions,
    /// What others have put up.
    pub pages: Pages,
}

impl Site {
    /// What others have put up there.
    pub fn page(&self, head: &Head) -> Option<Answer> {
        let reads = matches!(head.method, Method::Get | Method::Head);
        let page = self.pages.get(&head.path)?;
        Some(if reads { page.answer() } else { not_allowed("GET, HEAD") })
    }

    /// What a request is for.
    pub fn resource(&self, head: &Head) -> Resource {
        if let Some(answer) = self.page(head) {
            return Resource::Ready(answer);
        }
        if head.path.starts_with(FOLDER) || head.path.starts_with(MOVED_FOLDER) {
            return Resource::File;
        }
        if head.path == invitation::PATH {
            return Resource::Invitation;
        }
        if let Some(place) = endpoint::place(&head.path).filter(|_| self.options.endpoints) {
            return Resource::Endpoint(place);
        }
        if head.path.trim_end_matches('/') == BOSH_PATH && self.options.bosh {
            return Resource::Bosh;
        }
        let of_host_meta = |answer: fn(&[(&str, String)]) -> Answer| {
            let url = self.url(self.host(head));
            // XEP-0156 section 3: only what TLS protects.
            let bosh = Some(BOSH_PATH).filter(|_| self.options.bosh);
            let websocket = Some(WEBSOCKET_PATH).filter(|_| self.options.websocket);
            let links = host_meta::links(&url, websocket, bosh).into_iter().filter(|_| url.starts_with("https"));
            let links: Vec<_> = links.collect();
            // XEP-0156 section 3: whoever asks may see it.
            answer(&links).with("Access-Control-Allow-Origin", "*").with("Cache-Control", "max-age=3600")
        };
        let resource = match head.path.as_str() {
            "/healthz" => Resource::Health,
            "/readyz" => Resource::Readiness,
            "/metrics" => Resource::Metrics,
            "/.well-known/host-meta" => Resource::Ready(of_host_meta(host_meta::xml)),
            "/.well-known/host-meta.json" => Resource::Ready(of_host_meta(host_meta::json)),
            WEBSOCKET_PATH if self.options.websocket => Resource::WebSocket,
            "*" => {
                return Resource::Ready(
                    Answer::empty(Status::NoContent).with("Allow", "GET, HEAD, POST, PUT, OPTIONS"),
                );
            }
            _ => Resource::Ready(Answer::error(Status::NotFound)),
        };
        match head.method {
            Method::Get | Method::Head => resource,
            Method::Options => Resource::Ready(self.preflight(head, "GET, HEAD")),
            Method::Post | Method::Put => match resource {
                Resource::Ready(answer) if answer.status == Status::NotFound => Resource::Ready(answer),
                _ => Resource::Ready(not_allowed("GET, HEAD")),
            },
        }
    }

    /// The host that is asked, or the first.
    pub fn host(&self, head: &Head) -> &str {
        let hosts = &self.options.hosts;
        let asked = hosts.iter().find(|host| **host == head.host);
        asked.or(hosts.first()).map_or("localhost", String::as_str)
    }

    /// How clients reach this server for a host.
    pub fn url(&self, host: &str) -> String {
        self.options.external_url.replace("{host}", host)
    }

    /// Whether a request is for a name under which this server can be known: an address, a name of its own, or one that
    /// nobody can have in public. Under any other a page may ask in the name of its site, by having the name lead here
    /// (DNS rebinding): browsers take the answer for that site's own.
    pub fn is_known(&self, name: &str) -> bool {
        const LOCAL: [&str; 6] = [".localhost", ".local", ".lan", ".home", ".home.arpa", ".internal"];
        let authority = |url: &str| {
            let authority = url.split('/').nth(2).unwrap_or_default();
            authority.rsplit_once(':').map_or(authority, |(name, _)| name).to_ascii_lowercase()
        };
        // An address of IPv6 has no dot, unless it is one of IPv4 in disguise.
        !name.contains('.')
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || LOCAL.iter().any(|tail| name.ends_with(tail))
            || self.options.hosts.iter().any(|host| host == name || authority(&self.url(host)) == name)
    }

    /// Whether scripts of a site may use what is here.
    pub fn allows(&self, origin: &str) -> bool {
        self.options.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }

    /// The answer as scripts of the site that asks may read it (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
    pub fn share(&self, head: &Head, answer: Answer) -> Answer {
        let answer = answer.with("Vary", "Origin");
        match head.field("origin") {
            Some(origin) if self.allows(origin) && origin.bytes().all(|b| b.is_ascii_graphic()) => {
                let everybody = self.options.origins.iter().any(|allowed| allowed == "*");
                answer.with("Access-Control-Allow-Origin", if everybody { "*" } else { origin })
            }
            _ => answer,
        }
    }

    /// The answer to a browser that asks what it may do.
    pub fn preflight(&self, head: &Head, methods: &str) -> Answer {
        self.share(head, Answer::empty(Status::NoContent))
            .with("Allow", format!("{methods}, OPTIONS"))
            .with("Access-Control-Allow-Methods", format!("{methods}, OPTIONS"))
            .with(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Encoding, Content-Type, TTL, Topic, Urgency, X-Requested-With",
            )
            .with("Access-Control-Max-Age", "7200")
    }
}

/// A method that a resource does not have.
pub fn not_allowed(methods: &str) -> Answer {
    Answer::error(Status::MethodNotAllowed).with("Allow", format!("{methods}, OPTIONS"))
}

#[cfg(test)]
mod tests {
    use super::super::pages::Page;
    use super::*;

    fn site(origins: &[&str]) -> Site {
        let options = SiteOptions {
            hosts: vec!["a.example".to_owned(), "b.example".to_owned()],
            external_url: "https://{host}:5281/".to_owned(),
            origins: origins.iter().map(ToString::to_string).collect(),
            ..SiteOptions::default()
        };
        Site { options, pages: Pages::default() }
    }

    fn head(request: &str) -> Head {
        let text = format!("{request}\r\n\r\n");
        super::super::head::read(text.as_bytes()).unwrap().unwrap().0
    }

    fn status(site: &Site, line: &str) -> u16 {
        match site.resource(&head(&format!("{line} HTTP/1.1\r\nHost: b.example"))) {
            Resource::Ready(answer) => answer.status.code(),
            Resource::Bosh | Resource::File | Resource::Health | Resource::Invitation | Resource::Endpoint(_) => 200,
            Resource::Metrics | Resource::Readiness => 200,
            Resource::WebSocket => 101,
        }
    }

    #[test]
    fn pages_come_and_go() {
        let site = site(&["*"]);
        assert_eq!(status(&site, "GET /.well-known/acme-challenge/x"), 404);
        let pages = site.pages.clone();
        pages.put("/.well-known/acme-challenge/x", Page::text("x.y"));
        assert_eq!(status(&site, "GET /.well-known/acme-challenge/x"), 200);
        assert_eq!(status(&site, "PUT /.well-known/acme-challenge/x"), 405);
        pages.remove("/.well-known/acme-challenge/x");
        assert_eq!(status(&site, "GET /.well-known/acme-challenge/x"), 404);
    }

    #[test]
    fn methods_and_paths() {
        let site = site(&["*"]);
        for (line, code) in [
            ("GET /healthz", 200),
            ("HEAD /readyz", 200),
            ("POST /healthz", 405),
            ("OPTIONS /healthz", 204),
            ("OPTIONS *", 204),
            ("GET /", 404),
            ("PUT /x", 404),
            ("GET /.well-known/host-meta", 200),
            ("GET /.well-known/host-meta.json", 200),
            ("GET /../healthz", 404),
        ] {
            assert_eq!(status(&site, line), code, "{line}");
        }
        let request = head("GET / HTTP/1.1\r\nHost: c.example");
        assert_eq!(site.url(site.host(&request)), "https://a.example:5281/");
    }

    #[test]
    fn names_that_lead_here_and_are_none_of_ours() {
        let mut site = site(&[]);
        site.options.external_url = "https://xmpp.{host}:5281/".to_owned();
        for name in ["", "a.example", "xmpp.b.example", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "pi", "pi.local"] {
            assert!(site.is_known(name), "{name}");
        }
        for name in ["evil.example", "a.example.evil.example", "127.0.0.1.evil.example", "1.2.3", "evil.example.com"] {
            assert!(!site.is_known(name), "{name}");
        }
    }

    #[test]
    fn sites_are_let_in_or_not() {
        let from = |site: &Site, origin: &str| {
            let head = head(&format!("OPTIONS /healthz HTTP/1.1\r\nHost: a.example\r\nOrigin: {origin}"));
            let answer = site.share(&head, Answer::empty(Status::Ok));
            answer.fields.into_iter().find(|(name, _)| *name == "Access-Control-Allow-Origin").map(|(_, value)| value)
        };
        assert_eq!(from(&site(&["*"]), "https://evil.example").as_deref(), Some("*"));
        let one = site(&["https://chat.example"]);
        assert_eq!(from(&one, "https://chat.example").as_deref(), Some("https://chat.example"));
        assert_eq!(from(&one, "https://chat.example.evil.example"), None);
        assert_eq!(from(&one, "null"), None);
    }
}
