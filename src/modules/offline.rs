//! Offline messages (XEP-0160).

use super::{Module, SessionEvent, TableInfo, Undelivered, Xep};
use crate::core::Core;
use crate::core::flight::InFlight;
use crate::core::session::SessionId;
use crate::setting::section;
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError, delay};
use crate::storage::Table;
use crate::xml::ns;

section! {
    /// Offline messages (XEP-0160).
    pub struct Config in "modules.offline" {}
}

crate::record! {
    /// A message as XML, with its stamp.
    pub struct Stored { pub xml: String }
}

/// Owner: the account. Sub key: a number that grows, eight bytes, big endian.
pub struct Spool;
impl Table for Spool {
    const ID: u8 = 16;
    const NAME: &'static str = "offline";
    type Value = Stored;
}

/// The module.
pub struct Offline;

/// Why a message is not kept; none for one that is.
fn transient(message: &Stanza) -> Option<&'static str> {
    let Kind::Message(kind) = message.kind else { return Some("not a message") };
    let root = message.payload.root();
    if root.has_child(ns::HINTS, "store") {
        return None;
    }
    // XEP-0160 section 3 and XEP-0334 sections 4.1 and 4.2.
    match kind {
        MessageType::Error | MessageType::Groupchat | MessageType::Headline => return Some("its type"),
        MessageType::Chat | MessageType::Normal => {}
    }
    if root.has_child(ns::HINTS, "no-store") || root.has_child(ns::HINTS, "no-permanent-store") {
        return Some("its hint");
    }
    let counts = |c: crate::xml::ElementRef<'_>| {
        c.ns() != ns::CHAT_STATES && c.ns() != ns::HINTS && !c.is(ns::CLIENT, "thread")
    };
    // A standalone chat state means nothing later.
    let only_states = kind == MessageType::Chat && !root.children().any(counts);
    only_states.then_some("nothing but a chat state")
}

impl Module for Offline {
    const XEPS: &'static [Xep] = &[Xep { number: 160, version: "1.0.1" }, Xep { number: 203, version: "2.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::OFFLINE];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Spool::ID, name: Spool::NAME }];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn undelivered(&mut self, core: &mut Core, flight: &InFlight) -> Result<Undelivered, StanzaError> {
        if let Some(reason) = transient(&flight.stanza) {
            return Ok(Undelivered::Dropped(reason));
        }
        let Some(to) = flight.stanza.to.clone() else { return Ok(Undelivered::NotMine) };
        let owner = to.bare_str();
        let mut stanza = flight.stanza.clone();
        // Only the server of the recipient says how long it has kept a message (XEP-0203 section 4).
        delay::strip_forged(&mut stanza, to.domain());
        delay::stamp(&mut stanza, to.domain(), core.now.wall_ms);
        let xml = stanza.to_element().root().to_xml();
        let messages_max = core.settings.limits.offline_messages_max as usize;
        let rows = core.view.list::<Spool>(owner, messages_max)?;
        let held: usize = rows.iter().map(|(_, s)| s.xml.len()).sum();
        let full = rows.len() >= messages_max || held + xml.len() > core.settings.limits.offline_bytes_max as usize;
        if full {
            return Ok(Undelivered::Refused(Condition::ServiceUnavailable.because("Too many messages wait already.")));
        }
        let next = rows.last().and_then(|(sub, _)| sub.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes) + 1;
        core.view.put::<Spool>(owner, &next.to_be_bytes(), &Stored { xml });
        Ok(Undelivered::Kept("offline"))
    }

    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        let SessionEvent::Reachable = event else { return Ok(()) };
        let Some(account) = core.sessions.get(id).map(|s| s.jid.bare()) else { return Ok(()) };
        for (sub, stored) in core.view.list::<Spool>(account.bare_str(), usize::MAX)? {
            let stanza = crate::xml::parse(&stored.xml).ok().and_then(|e| Stanza::read(e).ok());
            if let Some(stanza) = stanza {
                let flight = InFlight { is_copy: true, ..InFlight::passing(stanza) };
                core.send(flight.from_storage(id));
            }
            core.view.delete::<Spool>(account.bare_str(), &sub);
        }
        Ok(())
    }
}
