//! The server that is attacked: the real binary with all its ports, its accounts and the certificates of its peers.

use std::io;
use std::path::PathBuf;

use crate::server::Server;
use crate::wire::Identity;

/// Who has an account. The witness does nothing but ask whether it is served.
pub const USERS: [&str; 7] = ["romeo", "juliet", "tybalt", "mercutio", "nurse", "escalus", "witness"];

/// Domains whose certificates the server believes.
const BELIEVED: [&str; 2] = ["capulet.example", "montague.example"];
/// Domains that have one that it does not believe.
const DOUBTED: [&str; 2] = ["paris.example", "dial.example"];

/// A running server with all kinds of ports.
pub struct Target {
    pub server: Server,
    peers: Vec<(&'static str, Identity)>,
    folder: PathBuf,
}

impl Target {
    /// Starts it with these settings beside those of the suite.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("couplet-attack-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (mut peers, mut believed) = (Vec::new(), String::new());
        for domain in BELIEVED.into_iter().chain(DOUBTED) {
            let (pem, identity) = certificate(domain)?;
            peers.push((domain, identity));
            if BELIEVED.contains(&domain) {
                believed.push_str(&pem);
            }
        }
        let authorities = folder.join("authorities.pem");
        std::fs::write(&authorities, believed)?;
        let (authorities, gate) = (authorities.display().to_string(), crate::gate::port()?);
        let routes = format!(
            "dial.example=127.0.0.1:{gate},capulet.example=127.0.0.1:1,montague.example=127.0.0.1:1,\
             paris.example=127.0.0.1:1,verona.example=127.0.0.1:1,nowhere.example=127.0.0.1:1"
        );
        let mut all = vec![
            ("COUPLET_ADMINS", "escalus@localhost"),
            ("COUPLET_C2S__LISTEN", "127.0.0.1:0"),
            ("COUPLET_S2S__LISTEN", "127.0.0.1:0"),
            ("COUPLET_S2S__DIRECT_TLS_LISTEN", "127.0.0.1:0"),
            ("COUPLET_S2S__CA", &authorities),
            ("COUPLET_S2S__ROUTES", &routes),
            ("COUPLET_S2S__DIALBACK", "true"),
            ("COUPLET_S2S__INSECURE_DOMAINS", "dial.example"),
            ("COUPLET_COMPONENTS__LISTEN", "127.0.0.1:0"),
            ("COUPLET_COMPONENTS__SECRETS", "irc.localhost=shared,icq.localhost=other"),
            // Nobody is looked for outside of this machine.
            ("COUPLET_DNS__SERVERS", "127.0.0.1:1"),
            // A build for debugging weighs more than twice as much by itself.
            ("COUPLET_MEMORY__MAX", "64 MB"),
            ("COUPLET_LIMITS__OFFLINE_MESSAGES_MAX", "100"),
            ("COUPLET_LIMITS__OFFLINE_BYTES_MAX", "1 MiB"),
            ("COUPLET_LIMITS__OUT_BYTES_MAX", "1536 KiB"),
            ("COUPLET_LIMITS__SM_SPOOL_DELAY_MS", "100"),
        ];
        if cfg!(feature = "http") {
            all.push(("COUPLET_HTTP__LISTEN", "127.0.0.1:0"));
        }
        all.extend(settings);
        let mut server = Server::new(&format!("attack-{name}"), &all)?;
        server.start()?;
        for user in USERS {
            server.add_user(user)?;
        }
        Ok(Self { server, peers, folder })
    }

    /// The certificate of a domain.
    pub fn identity(&self, domain: &str) -> Option<&Identity> {
        self.peers.iter().find(|(known, _)| *known == domain).map(|(_, identity)| identity)
    }

    /// Where it listens for that, in the words of its log.
    pub fn port(&self, kind: &str) -> io::Result<u16> {
        self.server.port_of(kind).ok_or_else(|| io::Error::other(format!("no port for {kind}")))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A certificate that a domain has signed itself, as PEM and to be shown.
pub fn certificate(domain: &str) -> io::Result<(String, Identity)> {
    let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
    let wanted = rcgen::CertificateParams::new(vec![domain.to_owned()]).map_err(io::Error::other)?;
    let cert = wanted.self_signed(&key).map_err(io::Error::other)?;
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((cert.pem(), (cert.der().clone(), secret.into())))
}
