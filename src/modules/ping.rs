//! XMPP ping (XEP-0199): the server answers for itself and for the account that asks.

use super::{IqRoute, Module, Scope, Xep};
use crate::core::{Answer, Core, Request};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::xml::ns;

section! {
    /// XMPP ping (XEP-0199).
    pub struct Config in "modules.ping" {}
}

/// The module.
pub struct Ping;

impl Module for Ping {
    const XEPS: &'static [Xep] = &[Xep { number: 199, version: "2.0.1" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::PING];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::PING];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::PING, "ping"), (Scope::Account, ns::PING, "ping")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        // An account does not tell strangers whether it is there (section 7).
        if request.owner.node().is_some() && !request.asker_sees_owner(core)? {
            return Err(Condition::ServiceUnavailable.into());
        }
        Ok(Answer::Empty)
    }
}
