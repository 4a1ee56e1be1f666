//! What is stored of a session that waits to be resumed (XEP-0198 section 5), beside the rows of the spool that it
//! holds.

use super::Core;
use super::session::{Available, Session, SessionId};
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::storage::{StoreError, Table};
use std::rc::Rc;

crate::record! {
    /// A session without connection.
    pub struct Parked {
        /// The name by which it is resumed.
        pub resume_id: String,
        /// How long it may wait, in seconds.
        pub max_s: u32,
        /// When it ends, in milliseconds since 1970.
        pub until_ms: u64,
        /// Stanzas received from the client; all of them are safe.
        pub received: u64,
        /// Stanzas sent to it.
        pub sent: u64,
        /// Those of them that it has acknowledged.
        pub acked: u64,
        /// Its presence, as XML.
        pub presence: Option<String>,
        /// [`Session::directed`].
        pub directed: Vec<Jid>,
        /// [`Session::interested`].
        pub interested: bool,
        /// What modules know of it, by their names.
        pub flags: Vec<(String, u32)>,
    }
}

/// Owner: nobody, so that all can be listed. Sub key: the full address.
pub struct ParkedSessions;
impl Table for ParkedSessions {
    const ID: u8 = 7;
    const NAME: &'static str = "parked-sessions";
    type Value = Parked;
}

const OWNER: &str = "";

impl Core {
    /// Writes what is known of a session; `counts` are stanzas received, sent and acknowledged.
    pub fn parked_put(
        &mut self,
        id: SessionId,
        max_s: u32,
        until_ms: u64,
        counts: (u64, u64, u64),
        flags: Vec<(String, u32)>,
    ) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(resume_id) = session.resume_id.as_deref() else { return };
        let parked = Parked {
            resume_id: resume_id.to_owned(),
            max_s,
            until_ms,
            received: counts.0,
            sent: counts.1,
            acked: counts.2,
            presence: session.available.as_ref().map(|a| {
                // It is from the session, and is written without saying so.
                Stanza { from: None, ..a.stanza.clone() }.to_element().root().to_xml()
            }),
            directed: session.directed.iter().cloned().collect(),
            interested: session.interested,
            flags,
        };
        let jid = session.jid.clone();
        self.view.put::<ParkedSessions>(OWNER, jid.as_str().as_bytes(), &parked);
    }

    /// Deletes what is stored of a session.
    pub fn parked_delete(&mut self, jid: &Jid) {
        self.view.delete::<ParkedSessions>(OWNER, jid.as_str().as_bytes());
    }

    /// Adds all stored sessions that are of a host of ours.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn parked_restore(&mut self) -> Result<Vec<(SessionId, Parked)>, StoreError> {
        let mut restored = Vec::new();
        for (sub, parked) in self.view.list::<ParkedSessions>(OWNER, usize::MAX)? {
            let jid = std::str::from_utf8(&sub).ok().and_then(|text| Jid::parse(text).ok());
            let Some(jid) = jid.filter(|jid| self.is_local(jid)) else {
                self.view.delete::<ParkedSessions>(OWNER, &sub);
                continue;
            };
            let stanza = parked.presence.as_deref().and_then(|xml| crate::xml::parse(xml).ok());
            let stanza = stanza.and_then(|e| Stanza::read(e.shrunk()).ok());
            let available = stanza.map(|stanza| Available {
                priority: super::presence::priority(&stanza).unwrap_or_default(),
                stanza: Stanza { from: Some(jid.clone()), ..stanza },
            });
            let id = self.sessions.insert(Session {
                jid,
                conn: None,
                resume_id: Some(Rc::from(parked.resume_id.as_str())),
                available,
                interested: parked.interested,
                inactive: false,
                directed: parked.directed.iter().cloned().collect(),
            });
            restored.push((id, parked));
        }
        Ok(restored)
    }
}
