//! Moving house: pieces of accounts and rooms come in, and go out, while nobody is connected.

use super::Engine;
use crate::clock::Now;
use crate::core::Core;
use crate::core::accounts::Accounts;
#[cfg(feature = "mam")]
use crate::core::archive::{Named, RowRef, Way};
use crate::core::moving::{Outcome, Piece, Refusal, Taken, Terms};
use crate::jid::Jid;
use crate::modules::Modules;
use crate::storage::StoreError;

impl Engine {
    /// Takes in pieces of one account or room, in their order, and says of each what became of it. They are on the disk
    /// with the tick. When storage fails, none of them is taken.
    pub fn take_in(&mut self, now: Now, owner: &Jid, pieces: &[Piece], terms: &mut Terms) -> Vec<Outcome> {
        self.core.now = now;
        let mut outcomes = Vec::with_capacity(pieces.len());
        let done = self.step("an import", |core, modules| {
            for piece in pieces {
                let outcome = take(core, modules, owner, piece, terms);
                if let Err(Refusal::Store(error)) = &outcome {
                    core.view.drop_scratch();
                    outcomes = vec![Err(Refusal::Store(error.clone())); pieces.len()];
                    break;
                }
                outcomes.push(outcome);
            }
            // There is nobody to hear of it.
            core.queue.clear();
        });
        if done.is_none() {
            outcomes = vec![Err(Refusal::because("a bug of ours; its place is in the log")); pieces.len()];
        }
        outcomes
    }

    /// Gives out what an account or a room has.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn give_out(&mut self, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        self.core.give_out(owner, to)?;
        self.modules.give_out(&mut self.core, owner, to)
    }

    /// Makes an archive ready for what moves in, a portion at a time. Gives the way to go on; none at the end.
    ///
    /// # Errors
    /// When storage cannot be read.
    #[cfg(feature = "mam")]
    pub fn archive_opens(&mut self, owner: &Jid, way: Way) -> Result<Option<Way>, StoreError> {
        let mut done = Ok(None);
        self.step("an archive that moves", |core, _| done = core.archive_clear(owner.bare_str(), way));
        done
    }

    /// Puts in order an archive into which something has moved, a portion at a time. Gives the way to go on; none at
    /// the end.
    ///
    /// # Errors
    /// When storage cannot be read.
    #[cfg(feature = "mam")]
    pub fn archive_closes(&mut self, owner: &Jid, way: Way) -> Result<Option<Way>, StoreError> {
        let mut done = Ok(None);
        self.step("an archive that moves", |core, _| done = core.archive_number(owner.bare_str(), way));
        done
    }

    /// Gives out the messages of an archive, the oldest first, a portion at a time. Gives the way to go on; none at the
    /// end.
    ///
    /// # Errors
    /// When storage cannot be read.
    #[cfg(feature = "mam")]
    pub fn archive_gives(
        &mut self,
        owner: &Jid,
        way: Way,
        each: impl FnMut(Named, RowRef<'_>),
    ) -> Result<Option<Way>, StoreError> {
        self.core.archive_give(owner.bare_str(), way, each)
    }

    /// The accounts of a host.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn accounts_of(&mut self, host: &str) -> Result<Vec<Jid>, StoreError> {
        let names = self.core.account_list(host)?;
        Ok(names.iter().filter_map(|name| Jid::from_parts(Some(name), host, None).ok()).collect())
    }

    /// Bytes of what was taken in and is not on the disk.
    pub fn pending_bytes(&self) -> usize {
        self.core.view.pending_bytes()
    }

    /// True for a domain whose accounts or rooms are kept here.
    pub fn keeps(&self, domain: &str) -> bool {
        self.core.serves(domain) || self.core.is_service(domain)
    }
}

fn take(core: &mut Core, modules: &mut Modules, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
    let is_of_service = owner.is_host() && matches!(piece, Piece::Node(_) | Piece::NodeItem(_));
    let is_of_account = !is_of_service
        && !matches!(piece, Piece::Room(_) | Piece::RoomCard(_) | Piece::RoomArchived(_) | Piece::RoomLine { .. });
    if is_of_account {
        if owner.node().is_none() || !core.is_local(owner) {
            return Err(Refusal::because(format!("{} is none of hosts", owner.domain())));
        }
        if !matches!(piece, Piece::Account { .. }) && core.view.get::<Accounts>(owner.bare_str(), b"")?.is_none() {
            return Err(Refusal::because("there is no account of that name"));
        }
    }
    // Bookmarks of older forms are the module's, whatever node they stand in.
    let taken = match modules.take_in(core, owner, piece, terms)? {
        Taken::NotMine if !is_of_service => core.take_in(owner, piece, terms)?,
        taken => taken,
    };
    match taken {
        Taken::NotMine => Err(Refusal::because("nothing here keeps that, or it is switched off in modules.disabled")),
        taken => Ok(taken),
    }
}
