//! External service discovery (XEP-0215): tells clients which STUN and TURN servers help their calls through, with
//! passwords that last a while.
//!
//! A TURN server shares a secret with us (`static-auth-secret` of coturn, draft-uberti-behave-turn-rest-00): the user
//! name is the second at which it ends, the password its HMAC. Neither server has to ask the other.

use super::{IqRoute, Module, Scope, Xep};
use crate::clock::datetime;
use crate::core::disco::Disco;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::setting::{Seconds, Secret, section};
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ElementRef, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

section! {
    /// Servers for calls (XEP-0215).
    pub struct Config in "modules.external_services" {
        /// Addresses as in RFC 7064 and RFC 7065, such as "stun:turn.example.org" or
        /// "turn:turn.example.org:3478?transport=udp".
        pub services: Vec<String> = Vec::new() => |services: &Vec<String>| check(services),
        /// What the TURN servers share with this one: "static-auth-secret" of coturn. Without it no passwords are
        /// given.
        pub secret: Secret = Secret::default(),
        /// How long a password lasts.
        pub lifetime: Seconds = Seconds(86_400) => |time| long_enough(*time),
    }
}

fn check(services: &[String]) -> Result<(), String> {
    match services.iter().find(|s| Service::parse(s).is_none()) {
        None => Ok(()),
        Some(wrong) => Err(format!(
            "\"{wrong}\" is no server for calls; write for example \"turn:turn.example.org:3478?transport=udp\""
        )),
    }
}

fn long_enough(time: Seconds) -> Result<(), String> {
    if time.0 >= 60 { Ok(()) } else { Err("this is too short for a call; write \"1 min\" or more".to_string()) }
}

/// A service as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    kind: &'static str,
    host: String,
    port: u16,
    transport: &'static str,
}

/// Scheme, default port, default transport (RFC 7064 section 3.2, RFC 7065 section 3.2).
const KINDS: [(&str, u16, &str); 4] =
    [("stun", 3478, "udp"), ("stuns", 5349, "tcp"), ("turn", 3478, "udp"), ("turns", 5349, "tcp")];

impl Service {
    fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let (kind, port, transport) = *KINDS.iter().find(|k| k.0 == scheme)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match query {
            "" => transport,
            "transport=udp" => "udp",
            "transport=tcp" => "tcp",
            _ => return None,
        };
        let (host, after) = match place.strip_prefix('[') {
            Some(v6) => v6.split_once(']').filter(|(host, _)| host.contains(':'))?,
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        let port = match after.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port > 0)?,
            None if after.is_empty() => port,
            None => return None,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        let fits = !host.is_empty() && host.chars().all(is_name);
        fits.then(|| Self { kind, host: host.to_string(), port, transport })
    }

    /// True when somebody asks for it by these attributes.
    fn is(&self, asked: ElementRef<'_>) -> bool {
        asked.attr("type") == Some(self.kind)
            && asked.attr("host") == Some(&self.host)
            && asked.attr("port").is_none_or(|port| port.parse() == Ok(self.port))
    }
}

/// The module.
pub struct ExternalServices {
    config: Config,
    services: Vec<Service>,
}

impl Module for ExternalServices {
    const XEPS: &'static [Xep] = &[Xep { number: 215, version: "1.0.0" }];
    const IQ: &'static [IqRoute] =
        &[(Scope::Host, ns::EXTDISCO, "services"), (Scope::Host, ns::EXTDISCO, "credentials")];
    type Config = Config;

    fn new(config: Config) -> Self {
        let services = config.services.iter().filter_map(|s| Service::parse(s)).collect();
        Self { config, services }
    }

    /// Where nothing is configured there is nothing to ask for.
    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        if !self.services.is_empty() {
            disco.host.features.push(ns::EXTDISCO);
        }
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if self.services.is_empty() {
            return Ok(Answer::NotMine);
        }
        if request.session.is_none() {
            return Err(Condition::Forbidden.because("The services are for users of this server."));
        }
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let name = request.child.name();
        let mut b = Builder::new(ns::EXTDISCO, name);
        if name == "services" {
            let kind = request.child.attr("type");
            if let Some(kind) = kind {
                b.attr("type", kind);
            }
            for service in self.services.iter().filter(|s| kind.is_none_or(|k| k == s.kind)) {
                self.write(core, service, true, &mut b);
            }
        } else {
            let Some(asked) = request.child.child(ns::EXTDISCO, "service") else {
                return Err(Condition::BadRequest.because("The service is missing."));
            };
            let mut found = self.services.iter().filter(|s| s.is(asked) && self.needs_password(s)).peekable();
            if found.peek().is_none() {
                return Err(Condition::ItemNotFound.because("There are no passwords for such a service."));
            }
            for service in found {
                self.write(core, service, false, &mut b);
            }
        }
        Ok(Answer::Result(b.finish()))
    }
}

impl ExternalServices {
    fn needs_password(&self, service: &Service) -> bool {
        !self.config.secret.0.is_empty() && matches!(service.kind, "turn" | "turns")
    }

    /// Adds a service: all of it, or what identifies it, with its password.
    fn write(&self, core: &Core, service: &Service, whole: bool, b: &mut Builder) {
        b.open(ns::EXTDISCO, "service").attr("type", service.kind).attr("host", &service.host);
        b.attr("port", &service.port.to_string());
        if whole {
            b.attr("transport", service.transport);
        }
        if self.needs_password(service) {
            let expires_s = core.now.wall_ms.div_euclid(1000) + i64::from(self.config.lifetime.0);
            let user = expires_s.to_string();
            b.attr("username", &user).attr("password", &password(self.config.secret.0.as_bytes(), &user));
            b.attr("expires", &datetime(expires_s * 1000));
            if whole {
                b.attr("restricted", "true");
            }
        }
        b.close();
    }
}

fn password(secret: &[u8], user: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    STANDARD.encode(hmac::sign(&key, user.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_rfc_7064_and_7065() {
        let of = |uri: &str| Service::parse(uri).map(|s| format!("{} {} {} {}", s.kind, s.host, s.port, s.transport));
        for (uri, expected) in [
            ("stun:a.example", "stun a.example 3478 udp"),
            ("turns:a.example", "turns a.example 5349 tcp"),
            ("turn:192.0.2.1:9000?transport=tcp", "turn 192.0.2.1 9000 tcp"),
            ("turn:[2001:db8::1]:9000", "turn 2001:db8::1 9000 udp"),
            ("stuns:[2001:db8::1]", "stuns 2001:db8::1 5349 tcp"),
        ] {
            assert_eq!(of(uri).as_deref(), Some(expected), "{uri}");
        }
        let wrong = [
            "",
            "a.example",
            "http:a",
            "turn:",
            "turn:a:0",
            "turn:a:x",
            "turn:a?transport=sctp",
            "turn:[a]",
            "turn:a b",
        ];
        for wrong in wrong {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    /// With `printf 1795305600 | openssl dgst -sha1 -hmac secret -binary | base64`.
    #[test]
    fn the_password_is_what_coturn_computes() {
        assert_eq!(password(b"secret", "1795305600"), "pkwoswKX+gb8eQSEjBGHq2vD4Tg=");
    }
}
