//! `[acme]`: certificates by themselves.

use std::net::IpAddr;

use super::address::Address;
use super::{Config, ConfigError, check::at};
use crate::jid::{Jid, idna};
use crate::setting::{Seconds, Secret, quote, section, words};

section! {
    /// Certificates by themselves: from a public authority, or one of your own, that speaks ACME (RFC 8555). Each host
    /// has one of its own, renewed in time; until there is the first, and where the authority refuses, it has a
    /// self-signed one. A certificate that you have put into the folder yourself stays in force. `couplet cert list`
    /// shows what is in force, `couplet check` what is wrong.
    pub struct Acme in "acme" {
        /// Get certificates.
        pub enabled: bool = false,
        /// You agree to the authority's terms. Where they are is in the log and in `couplet check`, until you do.
        pub terms_agreed: bool = false,
        /// The directory of the authority: where its server for ACME is.
        pub directory: String = "https://acme-v02.api.letsencrypt.org/directory".to_string() => |url| directory(url),
        /// Addresses of people whom the authority may write to, such as "romeo@example.org".
        pub contacts: Vec<String> = Vec::new(),
        /// How the authority sees that a name is yours. "tls-alpn-01": it connects to port 443 of the name; let that
        /// lead to a port of c2s.direct_tls_listen or http.tls_listen, or put "[::]:443" there. "http-01": it connects
        /// to port 80, see listen. "dns-01": it asks for a record of DNS, which hook writes.
        pub challenge: Challenge = Challenge::TlsAlpn,
        /// Addresses and ports for "http-01", which show the proof and nothing else. Where another web server has port
        /// 80, write [] and let it pass /.well-known/acme-challenge/ on to a port of http.listen.
        pub listen: Vec<Address> = vec![Address::any(80)],
        /// Hosts that get one; [] is all of hosts. Addresses and "localhost" get none.
        pub hosts: Vec<String> = Vec::new(),
        /// Further names, such as "conference.example.org", or with "dns-01" "*.example.org": each is put into the
        /// certificate of the host that it ends with. Where the authority refuses one, the others are had without it.
        pub names: Vec<String> = Vec::new(),
        /// The program that writes records, for "dns-01": with "add" or "del", the name of the record, and the text of
        /// a TXT record as its three arguments. It runs without a shell, as the server's user, and in its sandbox: it
        /// reaches /etc, the programs of the system, the folder that it lies in itself, and for files of its own the
        /// folder that TMPDIR names. Changed only by a restart when process.sandbox is on.
        pub hook: String = String::new(),
        /// After that time it is killed.
        pub hook_timeout: Seconds = Seconds(120) => |time| a_second(*time),
        /// Time from the end of the program until all name servers of the domain have the record.
        pub dns_wait: Seconds = Seconds(30),
        /// Account that the authority has given you in another way (External Account Binding): the name of its key.
        pub eab_key_id: String = String::new(),
        /// That key, in base64url.
        pub eab_hmac_key: Secret = Secret::default(),
        /// File of the root certificates, in PEM form, that vouch for an authority of your own, relative to the folder
        /// of this file. "" is the system's list.
        pub ca: String = String::new(),
    }
}

words! {
    /// How an authority sees that a name is ours.
    pub enum Challenge {
        /// By a certificate, on port 443 (RFC 8737).
        TlsAlpn = "tls-alpn-01",
        /// By a file over HTTP, on port 80 (RFC 8555 section 8.3).
        Http = "http-01",
        /// By a record of DNS (RFC 8555 section 8.4).
        Dns = "dns-01",
    }
}

fn directory(url: &str) -> Result<(), String> {
    match url.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && url.bytes().all(|b| b.is_ascii_graphic()) => Ok(()),
        _ => Err(format!("{} is no address of an authority; write one that begins with https://", quote(url))),
    }
}

fn a_second(time: Seconds) -> Result<(), String> {
    if time.0 > 0 { Ok(()) } else { Err("0 s is too short; write \"1 s\" or more".to_string()) }
}

impl Config {
    /// Where a proof is shown and nothing else: none of the addresses where the whole HTTP server is, which shows it,
    /// too.
    pub fn acme_listen(&self) -> Vec<Address> {
        let is_used = self.acme.enabled && self.acme.challenge == Challenge::Http;
        let is_own = |address: &&Address| is_used && !self.http.listen.contains(address);
        self.acme.listen.iter().filter(is_own).copied().collect()
    }

    /// Hosts that get certificates by themselves, each with the names of its certificate as A-labels, its own first.
    pub fn acme_names(&self) -> Vec<(String, Vec<String>)> {
        let Acme { enabled, hosts, names, .. } = &self.acme;
        let is_wanted = |host: &&String| *enabled && (hosts.is_empty() || hosts.contains(host));
        let wanted: Vec<(String, String)> = self
            .server
            .hosts
            .iter()
            .filter(is_wanted)
            .filter_map(|host| Some((host.clone(), provable(host)?)))
            .collect();
        let mut all: Vec<(String, Vec<String>)> =
            wanted.iter().map(|(host, ascii)| (host.clone(), vec![ascii.clone()])).collect();
        for name in names {
            let Some(name) = ascii(name) else { continue };
            let owner = (0..wanted.len()).filter(|&index| is_below(&name, &wanted[index].1));
            let owner = owner.max_by_key(|&index| wanted[index].1.len());
            if let Some((_, names)) = owner.and_then(|index| all.get_mut(index)).filter(|(_, n)| !n.contains(&name)) {
                names.push(name);
            }
        }
        all
    }
}

/// A host that an authority can have proved, as A-labels.
fn provable(host: &str) -> Option<String> {
    let is_name = |name: &String| name.parse::<IpAddr>().is_err() && !name.contains(':') && name != "localhost";
    idna::to_ascii(host).filter(is_name)
}

/// A name that may begin with a wildcard, as A-labels.
fn ascii(name: &str) -> Option<String> {
    match name.strip_prefix("*.") {
        Some(rest) => idna::to_ascii(rest).map(|rest| format!("*.{rest}")),
        None => idna::to_ascii(name),
    }
}

fn is_below(name: &str, host: &str) -> bool {
    name.strip_suffix(host).is_some_and(|front| front.ends_with('.'))
}

/// Values that must fit together.
pub fn check(config: &mut Config, errors: &mut Vec<ConfigError>) {
    let Acme { enabled, challenge, hook, eab_key_id, eab_hmac_key, .. } = &config.acme;
    let mut wrong = Vec::new();
    let mut prepared = Vec::new();
    for host in &config.acme.hosts {
        match Jid::parse(host).ok().filter(|jid| config.server.hosts.iter().any(|own| own == jid.domain())) {
            Some(jid) => prepared.push(jid.domain().to_string()),
            None => wrong.push(("hosts", format!("{} is none of hosts; add it there, or take it out", quote(host)))),
        }
    }
    for name in &config.acme.names {
        let is_ours = |name: &str| config.server.hosts.iter().filter_map(|h| provable(h)).any(|h| is_below(name, &h));
        if !ascii(name).is_some_and(|name| is_ours(&name)) {
            let text = format!("{} ends with none of hosts; write for example \"conference.example.org\"", quote(name));
            wrong.push(("names", text));
        } else if name.starts_with("*.") && *challenge != Challenge::Dns {
            let text = format!("{} can be proved with challenge = \"dns-01\" alone", quote(name));
            wrong.push(("names", text));
        }
    }
    for contact in &config.acme.contacts {
        let address = contact.strip_prefix("mailto:").unwrap_or(contact);
        if !address.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && domain.contains('.'))
            || !address.bytes().all(|b| b.is_ascii_graphic() && !b"\",?<>".contains(&b))
        {
            let text =
                format!("{} is not an address of e-mail; write for example \"romeo@example.org\"", quote(contact));
            wrong.push(("contacts", text));
        }
    }
    if eab_key_id.is_empty() != eab_hmac_key.0.is_empty() {
        let text = "eab_key_id and eab_hmac_key belong together; write both, or none of them";
        wrong.push(("eab_key_id", text.to_string()));
    }
    if *enabled && *challenge == Challenge::Dns && hook.is_empty() {
        wrong.push(("challenge", "\"dns-01\" needs hook; name the program that writes records".to_string()));
    }
    let direct = [&config.c2s.direct_tls_listen, &config.http.tls_listen, &config.s2s.direct_tls_listen];
    if *enabled && *challenge == Challenge::TlsAlpn && direct.iter().all(|addresses| addresses.is_empty()) {
        let text =
            "\"tls-alpn-01\" needs a port with direct TLS; write for example c2s.direct_tls_listen = [\"[::]:443\"]";
        wrong.push(("challenge", text.to_string()));
    }
    if *enabled && *challenge == Challenge::Http && config.acme.listen.is_empty() && config.http.listen.is_empty() {
        let text = "\"http-01\" needs a port; write for example listen = [\"[::]:80\"]";
        wrong.push(("listen", text.to_string()));
    }
    config.acme.hosts = prepared;
    errors.extend(wrong.into_iter().map(|(key, text)| at(config, "acme", key, text)));
}
