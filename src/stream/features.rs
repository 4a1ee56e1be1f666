//! Stream features (RFC 6120 section 4.3.2): what a client may do next.

use super::sasl::{Bindings, Ht, Mechanism};
use super::sasl2::UPGRADE_TASK;
use crate::xml::{Builder, Element, ns};

/// Features before authentication.
pub(super) struct BeforeAuth<'a> {
    /// STARTTLS can be had; true inside when it must be.
    pub starttls: Option<bool>,
    /// Those of modules.
    pub extra: &'a [Element],
    /// Mechanisms to log in with; none when STARTTLS must come first.
    pub mechanisms: &'a [Mechanism],
    /// What SASL2 brings along, where that can be had.
    pub inline: Option<Inline<'a>>,
    /// For XEP-0440.
    pub bindings: &'a Bindings,
    /// Bytes of the longest element that is accepted now (XEP-0478).
    pub bytes_max: u32,
}

/// What a client can ask for together with its login (XEP-0388 section 2.1).
pub(super) struct Inline<'a> {
    /// Mechanisms of XEP-0484; none when there are no tokens.
    pub tokens: Vec<Ht>,
    /// Features of XEP-0386, beside stream management.
    pub bind: &'a [&'static str],
}

impl Inline<'_> {
    fn write(&self, mechanisms: &[Mechanism], b: &mut Builder) {
        b.open(ns::SASL2, "authentication");
        for mechanism in mechanisms {
            b.leaf(ns::SASL2, "mechanism", mechanism.name());
        }
        b.open(ns::SASL2, "inline").open(ns::SM, "sm").close();
        b.open(ns::BIND2, "bind").open(ns::BIND2, "inline");
        for feature in self.bind.iter().chain(&[ns::SM]) {
            b.open(ns::BIND2, "feature").attr("var", feature).close();
        }
        b.close().close();
        if !self.tokens.is_empty() {
            b.open(ns::FAST, "fast");
            for mechanism in &self.tokens {
                b.leaf(ns::FAST, "mechanism", mechanism.name());
            }
            b.close();
        }
        b.close().leaf(ns::SASL_UPGRADE, "upgrade", UPGRADE_TASK).close();
    }
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
                if let Some(inline) = &self.inline {
                    inline.write(self.mechanisms, b);
                }
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
        others(b, extra, bytes_max);
    });
}

/// Writes `<stream:features/>` of a stream with a resource: those in `extra`.
pub(super) fn write_bound(extra: &[Element], bytes_max: u32, out: &mut Vec<u8>) {
    write(out, |b| others(b, extra, bytes_max));
}

fn others(b: &mut Builder, extra: &[Element], bytes_max: u32) {
    for feature in extra {
        b.copy(feature.root());
    }
    limits(b, bytes_max);
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
