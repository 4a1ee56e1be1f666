//! What is made of a peer's certificate: signatures of the handshake are checked, and whatever else there is to say of
//! it goes into the facts. No handshake fails for a certificate that nobody vouches for: server dialback (XEP-0220)
//! may prove its owner all the same, and the engine is the one to judge that.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
#[cfg(feature = "acme")]
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::note_peer;
use crate::net::authorities::Authorities;
use crate::net::x509::{self, CertInfo};
use crate::stream::{PeerCert, Trust};

/// Looks at certificates of other servers, whether they connect or are connected to.
#[derive(Debug)]
pub struct PeerVerifier {
    authorities: Authorities,
    provider: Arc<CryptoProvider>,
}

impl PeerVerifier {
    /// A verifier that believes these authorities.
    pub fn new(authorities: Authorities) -> Self {
        Self { authorities, provider: Arc::new(rustls::crypto::ring::default_provider()) }
    }

    /// What there is to say of a chain. It is checked for use by a server in both directions: public authorities
    /// issue no certificates for clients any more.
    fn look(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> PeerCert {
        PeerCert { trust: self.trust(leaf, chain, now), names: x509::peer_names(leaf) }
    }

    fn trust(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> Trust {
        let parsed = match ParsedCertificate::try_from(leaf) {
            Ok(parsed) => parsed,
            Err(error) => return Trust::Other(error.to_string()),
        };
        let found = self.authorities.find(leaf, chain);
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &found.roots, chain, now, algorithms) {
            Ok(()) => Trust::Valid,
            Err(Error::InvalidCertificate(error)) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Trust::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Trust::NotYetValid,
                CertificateError::Revoked => Trust::Revoked,
                error => match CertInfo::parse(leaf, Default::default()) {
                    // The operator has named this very certificate; its time was checked before the error.
                    Some(info) if found.is_leaf && info.self_signed => Trust::Valid,
                    Some(info) if info.self_signed => Trust::SelfSigned,
                    // A wrong signature is by another key than that of the authority with this name.
                    _ if matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                        Trust::UnknownIssuer
                    }
                    _ => Trust::Other(error.to_string()),
                },
            },
            Err(error) => Trust::Other(error.to_string()),
        }
    }
}

/// What rustls asks of verifiers of either side in the same words: the signature of a handshake.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        note_peer(self.look(leaf, chain, now));
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: what a server has it shall show.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        note_peer(self.look(leaf, chain, now));
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

/// Believes servers of the web: those that an authority vouches for, under the name that was asked for (RFC 6125).
#[cfg(feature = "acme")]
#[derive(Debug)]
pub struct WebVerifier {
    authorities: Authorities,
    provider: Arc<CryptoProvider>,
}

#[cfg(feature = "acme")]
impl WebVerifier {
    /// A verifier that believes these authorities.
    pub fn new(authorities: Authorities) -> Self {
        Self { authorities, provider: Arc::new(rustls::crypto::ring::default_provider()) }
    }
}

#[cfg(feature = "acme")]
impl ServerCertVerifier for WebVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let roots = self.authorities.find(leaf, chain).roots;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, chain, now, algorithms)?;
        verify_server_name(&parsed, name)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}
