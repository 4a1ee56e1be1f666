//! The world as a visit to an authority meets it: HTTPS, files, and the three ways to prove a name.

use std::time::Duration;

use async_io::Timer;
use ring::digest;
use zeroize::Zeroizing;

use super::files::Files;
use super::hook::Hook;
use super::https::Https;
use super::jws::base64url;
use super::message::{Request, Response};
use super::request;
use super::session::{Account, Challenge, Kind, Pending, World};
use crate::http::{Page, Pages};
use crate::net::certs::CertStore;

/// The world, for the certificate of one host.
pub struct Reality {
    /// To the authority.
    pub https: Https,
    /// Shows proofs of TLS.
    pub certificates: CertStore,
    /// Shows those of HTTP.
    pub pages: Pages,
    /// Writes those of DNS.
    pub hook: Option<Hook>,
    /// How long it takes until they are everywhere.
    pub dns_wait_s: u32,
    /// What is kept.
    pub files: Files,
    /// The authority.
    pub directory: String,
    /// The host, as A-labels.
    pub host: String,
    /// The key of its next certificate, in PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    /// Proofs that are shown, to be taken away when all ends early.
    pub shown: Vec<Challenge>,
}

/// Name and value of the record that proves a name (RFC 8555 section 8.4).
fn record(challenge: &Challenge) -> (String, String) {
    let hash = digest::digest(&digest::SHA256, challenge.authorization.as_bytes());
    (format!("_acme-challenge.{}", challenge.name), base64url(hash))
}

/// Where the file is that proves a name (RFC 8555 section 8.3).
fn path(challenge: &Challenge) -> String {
    format!("/.well-known/acme-challenge/{}", challenge.token)
}

impl Reality {
    fn unshow(&self, challenge: &Challenge) {
        match challenge.kind {
            Kind::Http => self.pages.remove(&path(challenge)),
            Kind::TlsAlpn => self.certificates.show_proof(&challenge.name, None),
            Kind::Dns => {}
        }
    }
}

impl Drop for Reality {
    fn drop(&mut self) {
        for challenge in &self.shown {
            self.unshow(challenge);
        }
    }
}

impl World for Reality {
    async fn exchange(&mut self, request: &Request) -> Result<Response, String> {
        let answer = self.https.exchange(request).await;
        let told = answer.as_ref().map_or_else(Clone::clone, |response| format!("status {}", response.status));
        log::debug!("{}: {told}", request.url);
        answer
    }

    async fn present(&mut self, challenge: &Challenge) -> Result<(), String> {
        match challenge.kind {
            Kind::Http => {
                let media_type = "application/octet-stream".to_owned();
                let content = challenge.authorization.clone().into_bytes();
                self.pages.put(path(challenge), Page { media_type, content });
            }
            Kind::TlsAlpn => {
                let wall_ms = self.https.clock.now().wall_ms;
                let proof = request::proof(&challenge.name, &challenge.authorization, wall_ms);
                self.certificates.show_proof(&challenge.name, Some(proof.map_err(|error| error.to_string())?));
            }
            Kind::Dns => {
                let hook = self.hook.as_ref().ok_or("acme.hook names no program")?;
                let (name, value) = record(challenge);
                hook.run("add", &name, &value).await?;
                self.wait(u64::from(self.dns_wait_s) * 1000).await;
            }
        }
        self.shown.push(challenge.clone());
        Ok(())
    }

    async fn withdraw(&mut self, challenge: &Challenge) {
        self.unshow(challenge);
        self.shown.retain(|shown| shown != challenge);
        if let (Kind::Dns, Some(hook)) = (challenge.kind, &self.hook) {
            let (name, value) = record(challenge);
            if let Err(why) = hook.run("del", &name, &value).await {
                log::warn!("the record {name} may still be there: {why}");
            }
        }
    }

    async fn wait(&mut self, ms: u64) {
        Timer::after(Duration::from_millis(ms)).await;
    }

    fn begun(&mut self, pending: &Pending) -> Result<(), String> {
        self.files.set_begun(&self.host, &self.directory, pending, &self.key).map_err(|error| error.to_string())
    }

    fn ended(&mut self, _names: &[String]) {
        self.files.end(&self.host);
    }

    fn registered(&mut self, account: &Account) -> Result<(), String> {
        self.files.set_account(&self.directory, account).map_err(|error| error.to_string())
    }

    fn request(&mut self, names: &[String]) -> Result<Vec<u8>, String> {
        request::certificate_request(&self.key, names).map_err(|error| error.to_string())
    }
}
