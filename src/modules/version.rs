//! Software version (XEP-0092).

use super::{IqRoute, Module, Scope, Xep};
use crate::core::{Answer, Core, Request};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ns};

section! {
    /// Software version (XEP-0092).
    pub struct Config in "modules.version" {
        /// What is said of the operating system; empty says nothing.
        pub os: String = String::new(),
    }
}

/// The module.
pub struct Version {
    os: String,
}

impl Module for Version {
    const XEPS: &'static [Xep] = &[Xep { number: 92, version: "1.1" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::VERSION];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::VERSION, "query")];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { os: config.os }
    }

    fn iq(&mut self, _: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let mut b = Builder::new(ns::VERSION, "query");
        b.leaf(ns::VERSION, "name", "Couplet").leaf(ns::VERSION, "version", env!("CARGO_PKG_VERSION"));
        if !self.os.is_empty() {
            b.leaf(ns::VERSION, "os", &self.os);
        }
        Ok(Answer::Result(b.finish()))
    }
}
