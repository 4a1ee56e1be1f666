//! What connections to other servers share.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;

use super::peer::PeerVerifier;
#[cfg(feature = "acme")]
use super::peer::WebVerifier;
use super::{ExporterTap, TlsError};
#[cfg(feature = "acme")]
use crate::net::authorities::Authorities;
use crate::net::certs::CertStore;

/// XEP-0368 and the registry of ALPN protocols: XMPP from a client.
pub const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// HTTP/1.1 (RFC 7301 section 6).
#[cfg(feature = "http")]
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// The same from a server.
pub const ALPN_SERVER: &[u8] = b"xmpp-server";

/// RFC 8737 section 6.2: a connection that proves who a name belongs to, and carries nothing.
#[cfg(feature = "acme")]
pub const ALPN_ACME: &[u8] = b"acme-tls/1";

/// For clients of HTTP that believe these authorities alone, and only what names the server.
///
/// # Errors
/// When the cryptography at hand does not support TLS 1.2 and 1.3.
#[cfg(feature = "acme")]
pub fn https(authorities: Authorities) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WebVerifier::new(authorities)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The configuration that connections to other servers share.
#[derive(Clone)]
pub struct TlsConnector {
    base: Arc<ClientConfig>,
    certificates: Option<CertStore>,
}

impl TlsConnector {
    /// A connector for TLS 1.2 and 1.3 that shows certificates of ours, if there are any.
    ///
    /// # Errors
    /// When the cryptography at hand does not support these versions.
    pub fn new(certificates: Option<CertStore>, verifier: Arc<PeerVerifier>) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Protocol)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        base.resumption = Resumption::disabled();
        base.key_log = Arc::new(ExporterTap);
        Ok(Self { base: Arc::new(base), certificates })
    }

    /// For a connection in the name of `host`, one of ours; `direct` where TLS starts with the first byte.
    pub(super) fn config(&self, host: &str, direct: bool) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.base);
        if let Some(certificates) = &self.certificates {
            config.client_auth_cert_resolver = certificates.client_resolver(host);
        }
        if direct {
            config.alpn_protocols = vec![ALPN_SERVER.to_vec()];
        }
        Arc::new(config)
    }
}

#[cfg(test)]
impl TlsConnector {
    /// Speaks one version alone.
    pub(super) fn only(&mut self, version: &'static rustls::SupportedProtocolVersion, verifier: Arc<PeerVerifier>) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        self.base = Arc::new(base);
    }
}
