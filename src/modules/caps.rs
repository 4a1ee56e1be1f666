//! Entity capabilities (XEP-0115): the server's own, as a stream feature.

use super::{Module, Xep};
use crate::core::Core;
use crate::core::disco::NODE;
use crate::setting::section;
use crate::xml::{Builder, Element, ns};

section! {
    /// Entity capabilities (XEP-0115).
    pub struct Config in "modules.caps" {}
}

/// The module.
pub struct Caps;

impl Module for Caps {
    const XEPS: &'static [Xep] = &[Xep { number: 115, version: "1.6.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::CAPS];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn features(&self, core: &Core, host: &str, out: &mut Vec<Element>) {
        let Some(disco) = core.disco.at(host) else { return };
        let mut b = Builder::new(ns::CAPS, "c");
        b.attr("hash", "sha-1").attr("node", NODE).attr("ver", &disco.ver);
        out.push(b.finish());
    }
}
