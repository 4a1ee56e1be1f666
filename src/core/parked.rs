//! What is stored of a session that waits to be resumed (XEP-0198 section 5), beside the rows of the spool that it
//! holds.

use super::Core;
use super::session::{Available, Session, SessionId};
use crate::budget::Charge;
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::storage::{Decoder, Encoder, Record, StoreError, Table};
use std::rc::Rc;

/// A session without connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What modules know of it.
    pub state: State,
}

/// What modules know of a session, by their names.
pub type State = Vec<(String, Vec<u8>)>;

/// What the module of that name has said; empty for nothing.
pub fn state_of<'a>(state: &'a State, module: &str) -> &'a [u8] {
    state.iter().find(|(name, _)| name == module).map_or(&[], |(_, state)| state)
}

/// The second version; in the first, modules had a number each.
impl Record for Parked {
    fn encode(&self, out: &mut Encoder) {
        out.byte(2);
        out.put(&self.resume_id);
        out.put(&self.max_s);
        out.put(&self.until_ms);
        [self.received, self.sent, self.acked].iter().for_each(|count| out.put(count));
        out.put(&self.presence);
        out.put(&self.directed);
        out.put(&self.interested);
        out.put(&self.state);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        let version = d.byte().filter(|version| matches!(version, 1 | 2))?;
        let mut parked = Self {
            resume_id: d.get()?,
            max_s: d.get()?,
            until_ms: d.get()?,
            received: d.get()?,
            sent: d.get()?,
            acked: d.get()?,
            presence: d.get()?,
            directed: d.get()?,
            interested: d.get()?,
            state: State::new(),
        };
        parked.state = match version {
            1 => d.get::<Vec<(String, u32)>>()?.into_iter().map(|(name, flags)| (name, vec![flags as u8])).collect(),
            _ => d.get()?,
        };
        Some(parked)
    }
}

/// Owner: nobody, so that all can be listed. Sub key: the full address.
pub struct ParkedSessions;
impl Table for ParkedSessions {
    const ID: u8 = 7;
    const NAME: &'static str = "parked-sessions";
    type Value = Parked;
}

crate::record! {
    /// A session that could have been resumed and is over.
    pub struct Ended {
        /// The name by which it would have been resumed.
        pub resume_id: String,
        /// Whose it was.
        pub account: Jid,
        /// Stanzas of its client that are safe.
        pub received: u64,
    }
}

/// Owner: nobody. Sub key: when it ended, in milliseconds since 1970 (eight bytes, big endian), and its name.
pub struct EndedSessions;
impl Table for EndedSessions {
    const ID: u8 = 14;
    const NAME: &'static str = "ended-sessions";
    type Value = Ended;
}

const OWNER: &str = "";

impl Core {
    /// What is stored of a session.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn parked(&mut self, jid: &Jid) -> Result<Option<Parked>, StoreError> {
        self.view.get::<ParkedSessions>(OWNER, jid.as_str().as_bytes())
    }

    /// Something has changed that modules or the core know of a session: if it waits to be resumed, what is stored of
    /// it is written anew with this input.
    pub fn session_changed(&mut self, id: SessionId) {
        if self.sessions.get(id).is_some_and(|s| s.conn.is_none()) {
            self.changed.insert(id);
        }
    }

    /// Writes what is known of a session; `counts` are stanzas received, sent and acknowledged.
    pub fn parked_put(&mut self, id: SessionId, max_s: u32, until_ms: u64, counts: (u64, u64, u64), state: State) {
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
                Stanza { from: None, ..a.stanza.clone() }.to_xml()
            }),
            directed: session.directed.iter().cloned().collect(),
            interested: session.interested,
            state,
        };
        let jid = session.jid.clone();
        self.view.put::<ParkedSessions>(OWNER, jid.as_str().as_bytes(), &parked);
    }

    /// Keeps what a client may ask for that comes too late (XEP-0198 section 5), of the last
    /// `limits.sm_ended_max` sessions, and a sixteenth more of them at most.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn ended_put(&mut self, ended: &Ended) -> Result<(), StoreError> {
        let max = self.settings.limits.sm_ended_max as usize;
        self.ended_unchecked += 1;
        // Counting them each time would cost more than all the rest of the end of a session.
        if self.ended_unchecked > max / 16 {
            self.ended_unchecked = 0;
            let excess = (self.view.count::<EndedSessions>(OWNER)? + 1).saturating_sub(max);
            for (sub, _) in self.view.list::<EndedSessions>(OWNER, excess)? {
                self.view.delete::<EndedSessions>(OWNER, &sub);
            }
        }
        if max > 0 {
            let ended_ms = u64::try_from(self.now.wall_ms).unwrap_or_default();
            let sub = [&ended_ms.to_be_bytes(), ended.resume_id.as_bytes()].concat();
            self.view.put::<EndedSessions>(OWNER, &sub, ended);
        }
        Ok(())
    }

    /// How many stanzas of a session that is over are safe; none when that is not known.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn ended(&mut self, account: &Jid, resume_id: &str) -> Result<Option<u64>, StoreError> {
        let rows = self.view.list::<EndedSessions>(OWNER, usize::MAX)?;
        let is = |ended: &Ended| ended.resume_id == resume_id && ended.account == *account;
        Ok(rows.into_iter().map(|(_, ended)| ended).find(is).map(|ended| ended.received))
    }

    /// Forgets all of them; false when there are none.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn ended_forget(&mut self) -> Result<bool, StoreError> {
        let rows = self.view.list::<EndedSessions>(OWNER, usize::MAX)?;
        rows.iter().for_each(|(sub, _)| self.view.delete::<EndedSessions>(OWNER, sub));
        Ok(!rows.is_empty())
    }

    /// Deletes what is stored of a session.
    pub fn parked_delete(&mut self, jid: &Jid) {
        self.view.delete::<ParkedSessions>(OWNER, jid.as_str().as_bytes());
    }

    /// Deletes what is stored of sessions that do not wait, since the commit that was to do that has failed.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn parked_delete_again(&mut self) -> Result<(), StoreError> {
        for (sub, parked) in self.view.list::<ParkedSessions>(OWNER, usize::MAX)? {
            let jid = std::str::from_utf8(&sub).ok().and_then(|text| Jid::parse(text).ok());
            let session = jid.and_then(|jid| self.sessions.resumable(&jid.bare(), &parked.resume_id));
            if session.and_then(|id| self.sessions.get(id)).is_none_or(|s| s.conn.is_some()) {
                self.view.delete::<ParkedSessions>(OWNER, &sub);
            }
        }
        Ok(())
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
                reads_archive: false,
                directed: parked.directed.iter().cloned().collect(),
                charge: Charge::default(),
            });
            restored.push((id, parked));
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::codec::{from_bytes, to_bytes};

    #[test]
    fn records_of_the_first_version_are_read() {
        let state = vec![("carbons".to_string(), vec![1])];
        let parked = Parked { resume_id: "r".to_string(), received: 7, state, ..Parked::default() };
        let bytes = to_bytes(&parked);
        assert_eq!(from_bytes(&bytes).as_ref(), Some(&parked));
        let mut first = bytes[..bytes.len() - 2].to_vec();
        first[0] = 1;
        first.push(1);
        assert_eq!(from_bytes(&first), Some(parked));
    }
}
