//! Offline messages (XEP-0160).

use super::{Module, SessionEvent, TableInfo, Undelivered, Xep};
use crate::core::Core;
use crate::core::flight::{Filters, InFlight};
use crate::core::session::SessionId;
use crate::fault::{Fault, armed};
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
    pub struct Stored {
        /// As text.
        pub xml: String,
    }
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

/// What becomes of a message that is not kept; none for one that is.
fn not_kept(message: &Stanza) -> Option<Undelivered> {
    let root = message.payload.root();
    // XEP-0160 section 3.
    let Kind::Message(kind @ (MessageType::Chat | MessageType::Normal)) = message.kind else {
        return Some(Undelivered::Dropped("its type"));
    };
    // XEP-0334 section 4. `no-permanent-store` is about archives: what waits for its recipient is not meant.
    if root.has_child(ns::HINTS, "no-store") {
        // Somebody has written it, and is told that it did not arrive.
        let is_written = root.has_child(ns::CLIENT, "body");
        return Some(if is_written { Undelivered::NotMine } else { Undelivered::Dropped("its hint") });
    }
    if root.has_child(ns::HINTS, "store") {
        return None;
    }
    // A chat state alone, with or without what clients put into every message, means nothing later.
    let accompanies = |ns: &str| [ns::CHAT_STATES, ns::HINTS, ns::STANZA_ID].contains(&ns);
    let only_states = kind == MessageType::Chat
        && root.children().all(|c| accompanies(c.ns()) || c.is(ns::CLIENT, "thread"));
    only_states.then_some(Undelivered::Dropped("nothing but a chat state"))
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
        if let Some(verdict) = not_kept(&flight.stanza) {
            return Ok(verdict);
        }
        let Some(to) = flight.stanza.to.clone() else { return Ok(Undelivered::NotMine) };
        let owner = to.bare_str();
        let mut stanza = flight.stanza.clone();
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
                let flight = InFlight { is_copy: true, filters: Filters::In, ..InFlight::passing(stanza) };
                core.send(flight.to_session(id));
            }
            if !armed(Fault::SpoolKept) {
                core.view.delete::<Spool>(account.bare_str(), &sub);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Builder;

    fn fate(kind: MessageType, build: impl FnOnce(&mut Builder)) -> Option<Undelivered> {
        not_kept(&Stanza::build(Kind::Message(kind), build))
    }

    #[test]
    fn hints_and_content_decide_what_is_kept() {
        let hint = |b: &mut Builder, name: &'static str| _ = b.open(ns::HINTS, name).close();
        let body = |b: &mut Builder| _ = b.leaf(ns::CLIENT, "body", "x");
        let state = |b: &mut Builder| _ = b.open(ns::CHAT_STATES, "active").close();
        let chat = MessageType::Chat;
        assert!(fate(chat, body).is_none());
        assert!(fate(MessageType::Normal, state).is_none());
        assert!(fate(chat, |b| (body(b), hint(b, "no-permanent-store")).1).is_none());
        assert!(fate(chat, |b| (state(b), hint(b, "store")).1).is_none());
        assert!(matches!(fate(chat, state), Some(Undelivered::Dropped(_))));
        assert!(matches!(fate(chat, |b| (state(b), hint(b, "no-store")).1), Some(Undelivered::Dropped(_))));
        assert!(matches!(fate(chat, |b| (body(b), hint(b, "no-store")).1), Some(Undelivered::NotMine)));
        assert!(matches!(fate(MessageType::Headline, |b| hint(b, "store")), Some(Undelivered::Dropped(_))));
    }
}
