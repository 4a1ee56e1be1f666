//! Invitations to become somebody's contact (XEP-0379), which the server answers in the place of the account's client.
//!
//! Invitations are made by an operator (`couplet invite`); the ad-hoc commands of XEP-0401 are not there. That an
//! invited person may register is the business of the module `register`.

use super::{Module, Xep};
use crate::core::Core;
use crate::core::flight::{Flow, InFlight};
use crate::setting::section;
use crate::stanza::{Kind, PresenceType, StanzaError};
use crate::xml::ns;

section! {
    /// Invitations (XEP-0379, XEP-0401): who asks for a subscription with the token of an invitation gets it at once.
    pub struct Config in "modules.invites" {}
}

/// The module.
pub struct Invites;

impl Module for Invites {
    const XEPS: &'static [Xep] =
        &[Xep { number: 379, version: "0.3.3" }, Xep { number: 401, version: "0.6.0" }];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        if flight.stanza.kind != Kind::Presence(PresenceType::Subscribe) {
            return Ok(Flow::Pass);
        }
        let token = flight.stanza.child(ns::PRE_AUTHENTICATION, "preauth").and_then(|p| p.attr("token"));
        let (Some(token), Some(from), Some(to)) = (token, &flight.stanza.from, &flight.stanza.to) else {
            return Ok(Flow::Pass);
        };
        // Section 4.1: any other token is as good as none.
        match core.invite_subscribes(&to.bare(), &from.bare(), token)? {
            true => Ok(Flow::Drop("granted by an invitation")),
            false => Ok(Flow::Pass),
        }
    }
}
