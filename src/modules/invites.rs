//! Invitations to become somebody's contact (XEP-0379), which the server answers in the place of the account's client;
//! and, with the module `commands`, those that users and administrators make by their clients (XEP-0401).
//!
//! An operator makes them by `couplet invite`. That an invited person may register is the business of the module
//! `register`.

#[cfg(feature = "commands")]
mod make;

use super::{Module, Xep};
use crate::core::Core;
use crate::core::flight::{Flow, InFlight};
#[cfg(feature = "commands")]
use crate::core::{Answer, commands::Call, disco::Disco, settings::Settings};
use crate::setting::{Seconds, section};
use crate::stanza::{Kind, PresenceType, StanzaError};
use crate::xml::ns;

section! {
    /// Invitations (XEP-0379, XEP-0401): who asks for a subscription with the token of an invitation gets it at once.
    pub struct Config in "modules.invites" {
        /// Let users invite people, who become their contacts and may make an account for that. Administrators can in
        /// any case, from their clients as by `couplet invite`; both need the module commands.
        pub users: bool = false,
        /// How long an invitation can be used that was made by a client, a year at most.
        pub expires: Seconds = Seconds(604_800) => |expires: &Seconds| is_bounded(*expires),
    }
}

fn is_bounded(expires: Seconds) -> Result<(), String> {
    match expires.0 {
        60..=31_536_000 => Ok(()),
        _ => Err("an invitation ends within a year, and lasts a minute: write for example \"7d\"".to_string()),
    }
}

/// The module.
pub struct Invites {
    #[cfg_attr(not(feature = "commands"), allow(dead_code, reason = "nobody makes one by a client"))]
    config: Config,
}

impl Module for Invites {
    const XEPS: &'static [Xep] = &[Xep { number: 379, version: "0.3.3" }, Xep { number: 401, version: "0.6.0" }];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    #[cfg(feature = "commands")]
    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.commands.extend(make::offers(self.config.users));
    }

    #[cfg(feature = "commands")]
    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        make::run(core, call, self.config.expires)
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
