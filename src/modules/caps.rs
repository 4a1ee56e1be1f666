//! Entity capabilities (XEP-0115): the server's own, as a stream feature.

use super::{Module, Xep};
use crate::core::Core;
use crate::core::disco::{Disco, Info};
use crate::core::settings::Settings;
use crate::xml::{Builder, Element, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

crate::section! {
    /// Entity capabilities (XEP-0115).
    pub struct Config in "modules.caps" {}
}

/// Names the software, as XEP-0115 section 4 asks.
const NODE: &str = "https://couplet.im/";

/// The module.
pub struct Caps;

impl Module for Caps {
    const XEPS: &'static [Xep] = &[Xep { number: 115, version: "1.6.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::CAPS];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn features(&self, core: &Core, out: &mut Vec<Element>) {
        let ver = verification(&core.disco.host);
        let mut b = Builder::new(ns::CAPS, "c");
        b.attr("hash", "sha-1").attr("node", NODE).attr("ver", &ver);
        out.push(b.finish());
    }

    fn disco(&self, _: &Settings, disco: &mut Disco) {
        disco.node_prefix = Some(NODE);
    }
}

/// Section 5.1: the hash over sorted identities and features. `Info` keeps both sorted by bytes, as `i;octet` asks.
fn verification(info: &Info) -> String {
    let mut s = String::new();
    for i in &info.identities {
        s.push_str(&format!("{}/{}//{}<", i.category, i.kind, i.name));
    }
    for feature in &info.features {
        s.push_str(feature);
        s.push('<');
    }
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, s.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::disco::Identity;

    #[test]
    fn the_example_of_section_5_2_has_its_hash() {
        let mut info = Info::default();
        info.identities.insert(Identity { category: "client", kind: "pc", name: "Exodus 0.9.1".to_string() });
        info.features.extend([ns::CAPS, ns::DISCO_INFO, ns::DISCO_ITEMS, "http://jabber.org/protocol/muc"]);
        assert_eq!(verification(&info), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }
}
