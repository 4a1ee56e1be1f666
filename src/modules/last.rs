//! Last activity (XEP-0012): how long ago an account was last connected, and how long the server has been up.
//!
//! What a user said when he left, which may stand beside the time, is not kept.

use super::{IqRoute, Module, Scope, SessionEvent, TableInfo, Xep};
#[cfg(feature = "commands")]
use crate::clock::datetime;
#[cfg(feature = "commands")]
use crate::core::commands::{Call, Field, Kind as Value, Offer, Whom, bad_payload};
use crate::core::flight::{Flow, InFlight};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
#[cfg(feature = "commands")]
use crate::core::{disco::Disco, settings::Settings};
use crate::setting::section;
use crate::stanza::{Condition, IqType, Kind, StanzaError};
use crate::storage::Table;
use crate::xml::{Builder, ns};
#[cfg(feature = "import")]
use crate::{jid::Jid, storage::StoreError};

section! {
    /// Last activity (XEP-0012).
    pub struct Config in "modules.last" {}
}

crate::record! {
    /// When the last session of an account ended.
    pub struct Left {
        /// Milliseconds since 1970.
        pub wall_ms: u64,
    }
}

/// Owner: the account. One row, no sub key.
pub struct Departures;
impl Table for Departures {
    const ID: u8 = 20;
    const NAME: &'static str = "last-activity";
    type Value = Left;
}

/// XEP-0133 section 4.9. When an account has logged in is not kept, but when it was here last.
#[cfg(feature = "commands")]
const LAST_LOGIN: Offer = Offer {
    node: "http://jabber.org/protocol/admin#get-user-lastlogin",
    name: "Get when a user was here last",
    whom: Whom::Admins,
    form_type: ns::ADMIN,
    fields: &[Field { var: "accountjids", kind: Value::Addresses, label: "Address", is_required: true }],
    is_prefilled: false,
};

/// The module.
pub struct Last;

impl Module for Last {
    const XEPS: &'static [Xep] = &[Xep { number: 12, version: "2.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::LAST];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::LAST];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Departures::ID, name: Departures::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::LAST, "query"), (Scope::Account, ns::LAST, "query")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    #[cfg(feature = "commands")]
    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.commands.push(LAST_LOGIN);
    }

    #[cfg(feature = "commands")]
    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        if call.offer.node != LAST_LOGIN.node {
            return Ok(Answer::NotMine);
        }
        let [account] = &call.accounts(core, "accountjids")?[..] else {
            return Err(bad_payload("One user is looked up at a time."));
        };
        let wall_ms = match core.sessions.of(account).is_empty() {
            true => core.view.get::<Departures>(account.bare_str(), b"")?.map(|left| left.wall_ms),
            false => Some(core.wall_ms()),
        };
        let time = wall_ms.and_then(|ms| i64::try_from(ms).ok()).map(datetime);
        let fields = [
            ("accountjids", "jid-multi", vec![account.bare_str().to_string()]),
            ("lastlogin", "text-single", time.into_iter().collect()),
        ];
        Ok(call.result(ns::ADMIN, &fields))
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let seconds = if request.owner.node().is_none() {
            core.now.mono_ms.saturating_sub(core.started.mono_ms) / 1000
        } else if !request.asker_sees_owner(core)? {
            // Section 3.
            return Err(Condition::Forbidden.into());
        } else if !core.sessions.of(request.owner).is_empty() {
            0
        } else {
            let left = core.view.get::<Departures>(request.owner.bare_str(), b"")?;
            // Of one that has never been here nothing is recorded.
            let left_ms = left.ok_or(Condition::ItemNotFound)?.wall_ms;
            u64::try_from(core.now.wall_ms).unwrap_or(0).saturating_sub(left_ms) / 1000
        };
        let mut b = Builder::new(ns::LAST, "query");
        b.attr("seconds", &seconds.to_string());
        Ok(Answer::Result(b.finish()))
    }

    /// Section 4: not even a client's own answer may go to somebody who does not see the account's presence.
    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        if flight.stanza.kind != Kind::Iq(IqType::Get) || !flight.stanza.has_child(ns::LAST, "query") {
            return Ok(Flow::Pass);
        }
        let (Some(from), Some(to)) = (&flight.stanza.from, &flight.stanza.to) else { return Ok(Flow::Pass) };
        match core.is_seen_by(&to.bare(), from)? {
            true => Ok(Flow::Pass),
            false => Ok(Flow::Bounce(Condition::Forbidden.into())),
        }
    }

    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event != SessionEvent::Closed {
            return Ok(());
        }
        if let Some(account) = core.sessions.get(id).map(|s| s.jid.bare())
            && core.sessions.of(&account).len() == 1
        {
            let left = Left { wall_ms: u64::try_from(core.now.wall_ms).unwrap_or(0) };
            core.view.put::<Departures>(account.bare_str(), b"", &left);
        }
        Ok(())
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        let Piece::LastSeen(wall_ms) = *piece else { return Ok(Taken::NotMine) };
        core.take_row::<Departures>(owner.bare_str(), b"", &Left { wall_ms }, terms.replace)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let left = core.view.get::<Departures>(owner.bare_str(), b"")?;
        left.map(|left| Piece::LastSeen(left.wall_ms)).into_iter().for_each(to);
        Ok(())
    }
}
