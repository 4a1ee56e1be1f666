//! Offline messages (XEP-0160).

use super::{Module, SessionEvent, Undelivered, Xep};
use crate::core::Core;
use crate::core::flight::{Filters, InFlight};
use crate::core::session::SessionId;
use crate::core::spool::{self, Worth};
use crate::setting::section;
use crate::stanza::{Condition, Kind, MessageType, StanzaError};
use crate::xml::ns;

section! {
    /// Offline messages (XEP-0160).
    pub struct Config in "modules.offline" {}
}

/// The module.
pub struct Offline;

impl Module for Offline {
    const XEPS: &'static [Xep] = &[Xep { number: 160, version: "1.0.1" }, Xep { number: 203, version: "2.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::OFFLINE];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn undelivered(&mut self, core: &mut Core, flight: &InFlight) -> Result<Undelivered, StanzaError> {
        match spool::worth(&flight.stanza) {
            Worth::Kept => {}
            // What a session leaves behind; any other has been dropped.
            _ if flight.stanza.kind == Kind::Message(MessageType::Error) => {}
            Worth::Returned => return Ok(Undelivered::NotMine),
            Worth::Nothing(reason) => return Ok(Undelivered::Dropped(reason)),
        }
        let Some(to) = flight.stanza.to.clone() else { return Ok(Undelivered::NotMine) };
        // Rows of sessions are among all that there are. They do not count, and may have what sessions may.
        let queued = core.spool_queued(&to)?;
        let sessions = if queued > 0 { core.sessions.of(&to).len().max(1) } else { 0 };
        let all = core.view.extent::<spool::Rows>(to.bare_str())?;
        let limits = &core.settings.limits;
        // What a session leaves behind was accepted before.
        let (more, more_bytes) = if flight.is_copy { (limits.sm_unacked_max, limits.out_bytes_max) } else { (0, 0) };
        let messages_max = limits.offline_messages_max as usize + more as usize + queued;
        let bytes_max =
            limits.offline_bytes_max as usize + more_bytes as usize + sessions * limits.out_bytes_max as usize;
        let left = bytes_max.saturating_sub(all.bytes);
        if all.rows < messages_max && core.spool_message(&to, flight.stanza.clone(), left)? {
            return Ok(Undelivered::Kept("offline"));
        }
        Ok(Undelivered::Refused(Condition::ServiceUnavailable.because("Too many messages wait already.")))
    }

    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        let SessionEvent::Reachable = event else { return Ok(()) };
        let Some(session) = core.sessions.get(id) else { return Ok(()) };
        let (account, reads_archive) = (session.jid.bare(), session.reads_archive);
        for (row, stored) in core.spool_free(&account)? {
            match stored.stanza() {
                // Its client has it from there (XEP-0313 section 3); the next one may not know archives.
                Some(stanza) if reads_archive && stanza.archive_id(account.as_str()).is_some() => {}
                Some(stanza) if !stored.is_copy && spool::is_for_others(stanza.kind) => {
                    core.spool_hold(&account, row);
                    let row = Some(row);
                    let flight = InFlight { is_copy: true, filters: Filters::In, row, ..InFlight::passing(stanza) };
                    core.send(flight.to_session(id));
                }
                // It was for a session that was lost in a crash, or cannot be read.
                _ => core.spool_give(&account, row),
            }
        }
        Ok(())
    }
}
