//! Entity time (XEP-0202): the server's clock, in UTC.

use super::{IqRoute, Module, Scope, Xep};
use crate::clock::datetime;
use crate::core::{Answer, Core, Request};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ns};

section! {
    /// Entity time (XEP-0202).
    pub struct Config in "modules.time" {}
}

/// The module.
pub struct Time;

impl Module for Time {
    const XEPS: &'static [Xep] = &[Xep { number: 202, version: "2.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::TIME];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::TIME, "time")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let mut b = Builder::new(ns::TIME, "time");
        b.leaf(ns::TIME, "tzo", "+00:00").leaf(ns::TIME, "utc", &datetime(core.now.wall_ms));
        Ok(Answer::Result(b.finish()))
    }
}
