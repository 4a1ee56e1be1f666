//! Stream features (RFC 6120 section 4.3.2): what a client may do next.

use super::sasl::{Bindings, Mechanism};
use crate::xml::{Builder, Element, ns};

/// Features before authentication.
pub(super) struct BeforeAuth<'a> {
    /// STARTTLS can be had; true inside when it must be.
    pub starttls: Option<bool>,
    /// Those of modules.
    pub extra: &'a [Element],
    /// Mechanisms to log in with; none when STARTTLS must come first.
    pub mechanisms: &'a [Mechanism],
    /// For XEP-0440.
    pub bindings: &'a Bindings,
    /// Bytes of the longest element that is accepted now (XEP-0478).
    pub bytes_max: u32,
}

impl BeforeAuth<'_> {
    /// Writes `<stream:features/>`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(out, |b| {
            if let Some(required) = self.starttls {
                b.open(ns::TLS, "starttls");
                if required {
                    b.open(ns::TLS, "required").close();
                }
                b.close();
            }
            if !self.mechanisms.is_empty() {
                b.open(ns::SASL, "mechanisms");
                for mechanism in self.mechanisms {
                    b.leaf(ns::SASL, "mechanism", mechanism.name());
                }
                b.close();
                if !self.bindings.is_empty() {
                    b.open(ns::CHANNEL_BINDING, "sasl-channel-binding");
                    for name in self.bindings.names() {
                        b.open(ns::CHANNEL_BINDING, "channel-binding").attr("type", name).close();
                    }
                    b.close();
                }
            }
            for feature in self.extra {
                b.copy(feature.root());
            }
            limits(b, self.bytes_max);
        });
    }
}

/// Writes `<stream:features/>` after authentication: resource binding, the session of RFC 3921 that nobody needs, and
/// those in `extra`.
pub(super) fn write_after_auth(extra: &[Element], bytes_max: u32, out: &mut Vec<u8>) {
    write(out, |b| {
        b.open(ns::BIND, "bind").close();
        b.open(ns::SESSION, "session").open(ns::SESSION, "optional").close().close();
        for feature in extra {
            b.copy(feature.root());
        }
        limits(b, bytes_max);
    });
}

fn limits(b: &mut Builder, bytes_max: u32) {
    b.open(ns::STREAM_LIMITS, "limits").leaf(ns::STREAM_LIMITS, "max-bytes", &bytes_max.to_string()).close();
}

fn write(out: &mut Vec<u8>, build: impl FnOnce(&mut Builder)) {
    let mut b = Builder::new(ns::STREAM, "features");
    build(&mut b);
    out.extend_from_slice(b"<stream:features>");
    b.finish().root().write_content(out);
    out.extend_from_slice(b"</stream:features>");
}
