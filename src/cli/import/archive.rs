//! Archives of messages: before and behind what comes in, and what a room's archive leaves for its history.

use super::Importer;
use super::prosody::ITEMS_AT_ONCE;
#[cfg(feature = "mam")]
use crate::core::archive::Way;
use crate::core::moving::{Piece, Taken, Terms};
use crate::jid::Jid;
use crate::moving::prosody::data::{self, Entry};
use crate::storage::StoreError;
use crate::xml::ns;
use std::collections::VecDeque;

impl Importer {
    /// Messages come in for the archive of an account or room.
    ///
    /// # Errors
    /// When storage fails.
    #[cfg(feature = "mam")]
    pub fn archive_opens(&mut self, owner: &Jid) -> Result<(), StoreError> {
        self.walk(|importer, way| importer.engine.archive_opens(owner, way))
    }

    /// They are all there.
    ///
    /// # Errors
    /// When storage fails.
    #[cfg(feature = "mam")]
    pub fn archive_closes(&mut self, owner: &Jid) -> Result<(), StoreError> {
        self.walk(|importer, way| importer.engine.archive_closes(owner, way))
    }

    #[cfg(feature = "mam")]
    fn walk(
        &mut self,
        mut portion: impl FnMut(&mut Self, Way) -> Result<Option<Way>, StoreError>,
    ) -> Result<(), StoreError> {
        // A dry run has changed nothing.
        let mut way = (!self.how.dry_run).then(Way::default);
        while let Some(from) = way.take() {
            way = portion(self, from)?;
            self.settle(super::PENDING_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Nothing here keeps them.
    #[cfg(not(feature = "mam"))]
    pub fn archive_opens(&mut self, _: &Jid) -> Result<(), StoreError> {
        Ok(())
    }

    /// Nothing here keeps them.
    #[cfg(not(feature = "mam"))]
    pub fn archive_closes(&mut self, _: &Jid) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What was said in a room, on its way into its archive. Of what that leaves, the last is for the room's history.
pub struct Said<'a> {
    room: &'a Jid,
    place: String,
    waiting: Vec<Piece>,
    left: VecDeque<Piece>,
    /// Messages that are in the archive.
    archived: usize,
}

impl<'a> Said<'a> {
    pub fn new(room: &'a Jid, place: String) -> Self {
        Self { room, place, waiting: Vec::new(), left: VecDeque::new(), archived: 0 }
    }

    /// Something that was said, or another entry of the log.
    ///
    /// # Errors
    /// When storage fails.
    pub fn put(&mut self, importer: &mut Importer, entry: Entry, terms: &mut Terms) -> Result<(), StoreError> {
        self.waiting.extend(data::room_archived(entry));
        if self.waiting.len() >= ITEMS_AT_ONCE { self.flush(importer, terms) } else { Ok(()) }
    }

    fn flush(&mut self, importer: &mut Importer, terms: &mut Terms) -> Result<(), StoreError> {
        let outcomes = importer.offer(self.room, &self.place, &self.waiting, terms)?;
        for (piece, outcome) in self.waiting.drain(..).zip(outcomes) {
            match (outcome, piece) {
                (Ok(Taken::Left(_)), Piece::RoomArchived(piece)) if piece.message.has_child(ns::CLIENT, "body") => {
                    let wall_ms = i64::try_from(piece.wall_ms).unwrap_or(i64::MAX);
                    self.left.push_back(Piece::RoomLine { message: Box::new(piece.message), wall_ms });
                }
                (outcome, _) => self.archived += usize::from(outcome.is_ok()),
            }
            if self.left.len() > importer.history_max {
                self.left.pop_front();
            }
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// When storage fails.
    pub fn end(mut self, importer: &mut Importer, terms: &mut Terms) -> Result<(), StoreError> {
        self.flush(importer, terms)?;
        importer.archive_closes(self.room)?;
        let wanted = importer.history_max.saturating_sub(self.archived);
        let from = self.left.len().saturating_sub(wanted);
        let lines = self.left.make_contiguous().get(from..).unwrap_or_default();
        importer.take(self.room, &self.place, lines, terms)
    }
}
