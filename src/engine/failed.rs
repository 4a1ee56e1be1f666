//! A write has failed: what it promised is taken back.

use super::{Engine, Holder, LOG, RETRY_MS};
use crate::core::admin::FAILED;
use crate::core::flight::{InFlight, Item, Parcel, Sender};
use crate::core::io::ConnId;
use crate::fault::{Fault, armed};
use crate::stanza::Condition;
use crate::storage::StoreError;

impl Engine {
    /// All that waited for the failed batch is withdrawn, and whoever asked for it gets an error.
    pub(super) fn commit_failed(&mut self, error: &StoreError) {
        // A full disk refuses write after write; that it is full is told once.
        let told_before = *error == StoreError::Full && self.full_ms.is_some();
        if *error == StoreError::Full {
            self.full_ms = Some(self.core.now.mono_ms);
        }
        if !told_before {
            log::error!(target: LOG, "a write failed, nothing of it is acknowledged: {error}");
        }
        self.core.counters.commits_failed = self.core.counters.commits_failed.wrapping_add(1);
        let condition = match error {
            StoreError::Full => Condition::ResourceConstraint,
            _ => Condition::InternalServerError,
        };
        let mut unsure = self.core.presence_unproven();
        if let Err(again) = self.core.view.failed()
            && again != *error
        {
            log::error!(target: LOG, "{again}");
        }
        let durable = self.core.view.durable();
        self.core.spool_failed(durable);
        #[cfg(feature = "http")]
        self.core.web.unowned.clear();
        self.spooling.retain(|(after, _)| *after <= durable);
        let mut withdrawn = Vec::new();
        for key in self.conns.keys() {
            if let Some(c) = self.conns.get_mut(key) {
                let back = c.out.withdraw(durable);
                withdrawn.extend(back.parcels);
                back.rows.iter().for_each(|(account, row)| self.core.spool_release(account, *row));
                let to = c.session.and_then(|id| self.core.sessions.get(id)).map(|s| s.jid.clone());
                unsure.extend(back.presence_of.into_iter().zip(to.into_iter().cycle()));
                self.dirty.insert(ConnId(key));
            }
        }
        self.withdraw_remote(durable, &mut withdrawn, &mut unsure);
        for (id, lot) in self.managed.iter_mut().filter_map(|(id, m)| Some((id, m.lot.as_mut()?))) {
            let back = lot.out.withdraw(durable);
            withdrawn.extend(back.parcels);
            back.rows.iter().for_each(|(account, row)| self.core.spool_release(account, *row));
            let to = self.core.sessions.get(*id).map(|s| s.jid.clone());
            unsure.extend(back.presence_of.into_iter().zip(to.into_iter().cycle()));
        }
        for keep in withdrawn.iter().filter_map(|parcel| parcel.keep.as_ref()) {
            self.settle(keep, durable);
        }
        for (_, sender, stanza) in std::mem::take(&mut self.unproven) {
            if !armed(Fault::FailureUntold)
                && let Some(refusal) = stanza.error(&condition.because("The server could not store that."))
            {
                match sender {
                    Sender::Session(session) => {
                        if let Some(out) = self.queue_of(Holder::Session(session)) {
                            out.push(Item::of(&refusal));
                        }
                    }
                    Sender::Server(_) => _ = self.step("a refusal", |core, _| core.send(InFlight::passing(refusal))),
                }
            }
        }
        self.disk_in();
        self.parked_failed();
        self.logins_failed();
        #[cfg(feature = "mam")]
        self.archive_failed();
        for holder in self.holders() {
            let waits = |p: &Parcel| p.row().is_none() && p.owed(durable).is_some();
            if self.queue_of(holder).is_some_and(|out| out.parcels().any(waits)) {
                self.spool_in(holder, RETRY_MS);
            }
        }
        self.step("presence after a failed write", |core, modules| {
            modules.withdrawn(core);
            for (account, contact) in &unsure {
                if let Err(error) = core.presence_again(account, contact) {
                    log::error!(target: LOG, "{contact} is not told of {account}: {error}");
                }
            }
        });
        if *error == StoreError::Full && !self.shutting_down {
            self.make_room();
        }
        self.registering_failed(&condition.because("The server could not store that."));
        for (_, door, reply) in std::mem::take(&mut self.replies) {
            self.reply_now(&door, FAILED, format!("{}\nnot stored: {error}", reply.text));
        }
    }

    /// Gives up the least of what is stored and was promised to nobody, so that the next write finds room:
    /// `storage.size_max` says what, in which order. Each refused write gives up some.
    fn make_room(&mut self) {
        self.step("making room", |core, modules| {
            let made = match core.ended_forget() {
                Ok(false) => modules.make_room(core),
                known => known.map(drop),
            };
            if let Err(error) = made {
                log::error!(target: LOG, "no room is made: {error}");
            }
        });
    }
}
