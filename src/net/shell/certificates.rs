//! The shell's side of certificates: taking up changed files, and getting some by themselves.

#[cfg(feature = "acme")]
use smol::channel::Sender;

use super::Shell;
#[cfg(feature = "acme")]
use crate::core::admin::Reply;
#[cfg(feature = "acme")]
use crate::net::acme::Acme;
use crate::net::certs::Notice;

impl Shell {
    /// Looks whether certificates were renewed.
    pub(super) fn check_certificates(&mut self) {
        match self.tls.certificates.reload() {
            Ok(notices) => {
                tell(&notices);
                self.certificates_error.clear();
            }
            Err(error) => {
                // The files stay as they are until somebody acts: once a minute is too often to say so.
                let text = error.to_string();
                if text != self.certificates_error {
                    log::error!("certificates: {text}; the old ones stay in force");
                    self.certificates_error = text;
                }
            }
        }
    }
}

/// Tells the operator about certificates.
pub fn tell(notices: &[Notice]) {
    for notice in notices {
        let level = if notice.is_warning() { log::Level::Warn } else { log::Level::Info };
        log::log!(level, "{notice}");
    }
}

#[cfg(feature = "acme")]
impl Shell {
    /// Begins with that, or again when the settings are others.
    pub(super) fn start_acme(&mut self) {
        let Some(settings) = &self.tuning.acme else {
            self.acme = None;
            return;
        };
        if !self.acme.as_ref().is_some_and(|work| work.is_of(settings)) {
            // The old work ends before the new begins: both would show proofs for the same names.
            self.acme = None;
            let (certificates, executor) = (self.tls.certificates.clone(), self.dials.executor());
            let (settings, pages) = (settings.clone(), self.pages());
            self.acme = Some(Acme::start(settings, certificates, pages, self.clock, executor));
        }
    }

    /// An operator wants certificates renewed now.
    pub(super) fn renew(&self, host: Option<String>, reply: Sender<Reply>) {
        match &self.acme {
            Some(work) => work.renew(host, reply),
            None => {
                let text = "the running server gets no certificates by itself; set acme.enabled = true, then run \
                            couplet reload";
                let _ = reply.try_send(Reply::failed(text));
            }
        }
    }
}
