//! Archives (XEP-0313): queries wait in a line, pages are read beside the engine and put out, and what is too old is
//! swept out. What an archive is, is in [`crate::core::archive`].
//!
//! A query is read when all is durable that was written before it, so that a page shows it; when the last page of the
//! same client is out and its queue has room again; and when not too many others are being read. So a client gets one
//! page at a time, in the order of its questions, and one that does not read gets none.

use super::{Engine, LOG, Timer};
use crate::core::Core;
use crate::core::archive::{Asked, Done, Find, Id, Job, Keep, Page, PageError, Sweep, Swept, Work, tombstone};
use crate::core::flight::{InFlight, Parcel, Sender, Urgency};
use crate::core::io::Output;
use crate::core::session::SessionId;
use crate::fault::{Fault, armed};
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::storage::{StoreError, Ticket};
use crate::xml::ns;
use std::collections::VecDeque;
use std::rc::Rc;

/// How long after the start archives are swept, and how often at most, in milliseconds. While nothing comes, that is
/// when the first message becomes too old.
const FIRST_SWEEP_MS: u64 = 60_000;
const SWEEP_MS: u64 = 3_600_000;

/// How long the last id of an empty archive is remembered, in milliseconds: a clock that goes back by more than that
/// could give it again.
const FLOOR_MS: u64 = 7 * 86_400_000;

/// A query that waits or is read.
struct Question {
    asked: Asked,
    /// Who asks, when it is one of ours.
    session: Option<SessionId>,
    /// The request's number in stream management.
    number: Option<u64>,
    after: Ticket,
}

/// What is being read.
enum Reading {
    Page(Box<Question>),
    Sweep,
    Find,
}

/// Where the walk through all archives is.
#[derive(Default)]
enum Walk {
    /// It has not begun.
    #[default]
    Idle,
    /// A portion is looked through.
    Looks,
    /// It goes on from here when that is durable.
    Waits(Ticket, Vec<u8>),
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Box<Question>>,
    finds: VecDeque<(Ticket, Box<Find>)>,
    /// By the id of the job.
    reading: Vec<(u64, Reading)>,
    ids: u64,
    walk: Walk,
    /// When the next one begins, on the clock of [`Now::mono_ms`](crate::clock::Now::mono_ms).
    walk_ms: Option<u64>,
    /// When the first message is too old that was seen on the way, in milliseconds since 1970.
    due_ms: Option<u64>,
    /// Requests that are refused.
    refused: Vec<(Stanza, StanzaError)>,
}

impl Line {
    fn is_of(&self, asker: &Stanza) -> usize {
        let same = |q: &Question| q.asked.request.from == asker.from;
        let reading = self.reading.iter().filter(|(_, r)| matches!(r, Reading::Page(q) if same(q))).count();
        self.waiting.iter().filter(|q| same(q)).count() + reading
    }

    fn pages(&self) -> usize {
        self.reading.iter().filter(|(_, r)| !matches!(r, Reading::Sweep)).count()
    }

    fn start(&mut self, reading: Reading, work: Work, outputs: &mut VecDeque<Output>) {
        self.ids += 1;
        self.reading.push((self.ids, reading));
        outputs.push_back(Output::Archive(Box::new(Job { id: self.ids, work })));
    }
}

impl Engine {
    /// Bytes that queries hold, and pages that are on their way.
    pub(super) fn archive_held_bytes(&self) -> usize {
        let question = |q: &Question| size_of::<Question>() + q.asked.request.heap_bytes() + q.asked.query.held_bytes();
        let pages = self.line.pages() * self.core.settings.limits.mam_page_bytes_max as usize;
        self.line.waiting.iter().map(|q| question(q)).sum::<usize>() + pages
    }

    /// The server starts.
    pub(super) fn archive_start(&mut self) {
        self.walk_at(self.core.now.mono_ms + FIRST_SWEEP_MS);
    }

    /// The next walk begins then, or earlier.
    fn walk_at(&mut self, at_ms: u64) {
        if self.line.walk_ms.is_none_or(|walk_ms| at_ms < walk_ms) {
            self.line.walk_ms = Some(at_ms);
            self.timers.insert((at_ms, Timer::Archive), ());
        }
    }

    /// Time to look for what is too old.
    pub(super) fn archive_due(&mut self, at_ms: u64) {
        if self.line.walk_ms == Some(at_ms) {
            self.line.walk_ms = None;
            self.core.archives.unswept = true;
        }
    }

    /// A step is over: its queries get into the line.
    pub(super) fn archive_asked(&mut self) {
        let limits = self.core.settings.limits.clone();
        for find in std::mem::take(&mut self.core.archives.retracted) {
            // A tombstone is a courtesy: the retraction itself is archived in any case.
            if self.line.finds.len() < limits.mam_queries_all_max as usize {
                self.line.finds.push_back((self.core.view.newest(), Box::new(find)));
            }
        }
        for asked in std::mem::take(&mut self.core.archives.asked) {
            let of_all = self.line.waiting.len() + self.line.pages();
            let of_one = self.line.is_of(&asked.request);
            if of_one >= limits.mam_queries_max as usize
                || of_all >= limits.mam_queries_all_max as usize
                || self.core.sheds
            {
                let error = StanzaError {
                    error_type: Some("wait"),
                    ..Condition::ResourceConstraint.because("Too many queries are under way.")
                };
                self.line.refused.push((asked.request, error));
                continue;
            }
            let session = asked.request.from.as_ref().and_then(|from| self.core.sessions.find(from));
            if let Some(session) = session {
                self.core.archives.open.push((session, asked.request.clone()));
            }
            let after = self.core.view.newest();
            self.line.waiting.push_back(Box::new(Question { asked, session, number: None, after }));
        }
    }

    /// A session has sent the query that was last asked: it is not safe before it is answered.
    pub(super) fn archive_owe(&mut self, session: SessionId, request: &Stanza, number: u64) {
        let is_it = |q: &&mut Box<Question>| q.session == Some(session) && q.asked.request.id == request.id;
        if let Some(question) = self.line.waiting.back_mut().filter(is_it)
            && question.number.is_none()
        {
            question.number = Some(number);
            if let Some(managed) = self.managed.get_mut(&session) {
                managed.inbound.owe(number);
            }
        }
    }

    /// A write has failed: nobody waits for it any more.
    pub(super) fn archive_failed(&mut self) {
        self.line.waiting.iter_mut().for_each(|q| q.after = Ticket(0));
        self.line.finds.iter_mut().for_each(|f| f.0 = Ticket(0));
        if let Walk::Waits(after, _) = &mut self.line.walk {
            *after = Ticket(0);
        }
    }

    /// The tick ends: what can be read is read.
    pub(super) fn archive_pump(&mut self) {
        for (request, error) in std::mem::take(&mut self.line.refused) {
            self.step("a refusal", |core, _| core.refuse(&request, &error));
        }
        let (durable, max) = (self.core.view.durable(), self.core.settings.limits.mam_reads_max.max(1) as usize);
        let mut at = 0;
        while self.line.pages() < max
            && let Some(question) = self.line.waiting.get(at)
        {
            if question.session.is_some_and(|id| self.core.sessions.get(id).is_none()) {
                let (session, request) = (question.session, question.asked.request.clone());
                self.core.archive_answered(session, &request);
                self.line.waiting.remove(at);
            } else if (question.after <= durable || armed(Fault::ArchiveReadEarly)) && self.has_page_room(question) {
                if let Some(question) = self.line.waiting.remove(at) {
                    let work = Work::Page(question.asked.query.clone());
                    self.line.start(Reading::Page(question), work, &mut self.outputs);
                }
            } else {
                at += 1;
            }
        }
        while self.line.pages() < max
            && self.line.finds.front().is_some_and(|(after, _)| *after <= durable)
            && let Some((_, find)) = self.line.finds.pop_front()
        {
            self.line.start(Reading::Find, Work::Find(*find), &mut self.outputs);
        }
        if std::mem::take(&mut self.core.archives.appended) {
            self.walk_at(self.core.now.mono_ms + SWEEP_MS);
        }
        self.archive_walk(durable);
    }

    /// Whether the client that asks has read enough of what it was sent before.
    fn has_page_room(&self, question: &Question) -> bool {
        let is_same = |other: &Question| other.asked.request.from == question.asked.request.from;
        if self.line.reading.iter().any(|(_, r)| matches!(r, Reading::Page(other) if is_same(other))) {
            return false;
        }
        let conn = question.session.and_then(|id| self.core.sessions.get(id)?.conn);
        let held = conn.and_then(|conn| self.conns.get(conn.0)).map_or(0, |c| c.out.held_bytes() + c.waiting_bytes);
        held <= self.core.settings.limits.mam_page_bytes_max as usize
    }

    /// Looks for what is too old, a portion at a time: the next when the last is deleted and the disk has time.
    fn archive_walk(&mut self, durable: Ticket) {
        let cursor = match &mut self.line.walk {
            Walk::Idle if self.core.archives.unswept => Vec::new(),
            Walk::Waits(after, cursor) if *after <= durable => std::mem::take(cursor),
            Walk::Idle | Walk::Looks | Walk::Waits(..) => return,
        };
        if self.shutting_down || self.core.may_write().is_err() {
            if !cursor.is_empty() {
                self.line.walk = Walk::Waits(durable, cursor);
            }
            return;
        }
        if cursor.is_empty() {
            self.core.archives.unswept = false;
        }
        self.line.walk = Walk::Looks;
        let now_ms = u64::try_from(self.core.now.wall_ms).unwrap_or_default();
        let settings = &self.core.settings.archive;
        let from = |keep_s: u32| match keep_s {
            0 => Id::default(),
            keep_s => Id::at(now_ms.saturating_sub(u64::from(keep_s) * 1000)),
        };
        let keep = |domain: &str, keep_s| Keep {
            domain: domain.to_owned(),
            from: from(keep_s),
            for_ms: u64::from(keep_s) * 1000,
            bytes_max: settings.bytes_max,
        };
        let mut keeps: Vec<Keep> =
            self.core.disco.services().iter().map(|domain| keep(domain, settings.rooms_keep_s)).collect();
        keeps.push(keep("", settings.keep_s));
        let floors_before = Id::at(now_ms.saturating_sub(FLOOR_MS));
        let work = Work::Sweep(Sweep { keeps, floors_before, floors_for_ms: FLOOR_MS, cursor });
        self.line.start(Reading::Sweep, work, &mut self.outputs);
    }

    /// Something was read, or could not be.
    pub(super) fn archive_done(&mut self, id: u64, done: Result<Done, StoreError>) {
        let Some(at) = self.line.reading.iter().position(|(job, _)| *job == id) else { return };
        let (_, reading) = self.line.reading.swap_remove(at);
        let done = done.inspect_err(|error| log::error!(target: LOG, "an archive cannot be read: {error}"));
        match (reading, done) {
            (Reading::Page(question), Ok(Done::Page(Ok(page)))) => self.put_out(*question, page),
            (Reading::Page(question), Ok(Done::Page(Err(PageError::NotFound)))) => {
                let error = Condition::ItemNotFound.because("The archive has no such message.");
                self.refuse_page(*question, &error);
            }
            (Reading::Page(question), _) => {
                let error = Condition::InternalServerError.because("The server could not read its storage.");
                self.refuse_page(*question, &error);
            }
            (Reading::Sweep, Ok(Done::Sweep(swept))) => self.swept(swept),
            // It is tried again with the next.
            (Reading::Sweep, _) => {
                self.line.walk = Walk::Idle;
                self.walk_at(self.core.now.mono_ms + SWEEP_MS);
            }
            (Reading::Find, Ok(Done::Find(find, Some(id)))) => {
                self.step("a retraction", |core, _| {
                    if let Err(error) = retract(core, &find, id) {
                        log::error!(target: LOG, "what was taken back stays in an archive: {error}");
                    }
                });
            }
            (Reading::Find, _) => {}
        }
    }

    fn swept(&mut self, swept: Swept) {
        let ticket = match swept.gone.is_empty() && swept.floors.is_empty() {
            true => Some(Ticket(0)),
            false => self.step("a sweep", |core, _| core.archive_sweep(&swept)),
        };
        self.line.due_ms = self.line.due_ms.into_iter().chain(swept.due_ms).min();
        self.line.walk = match (ticket, swept.next) {
            (Some(after), Some(cursor)) => Walk::Waits(after, cursor),
            _ => {
                let now_ms = u64::try_from(self.core.now.wall_ms).unwrap_or_default();
                if let Some(due_ms) = self.line.due_ms.take() {
                    self.walk_at(self.core.now.mono_ms + due_ms.saturating_sub(now_ms).max(SWEEP_MS));
                }
                Walk::Idle
            }
        };
    }

    fn refuse_page(&mut self, question: Question, error: &StanzaError) {
        if question.session.is_none_or(|id| self.core.sessions.get(id).is_some()) {
            self.end_question(&question, |core| core.refuse(&question.asked.request, error));
        } else {
            self.core.archive_answered(question.session, &question.asked.request);
        }
    }

    /// Answers a query. Where that is written, for a session that waits to be resumed, it is safe when it is durable,
    /// and its sender hears of it if it never is.
    fn end_question(&mut self, question: &Question, answer: impl FnOnce(&mut Core)) {
        let ticket = self.step("the answer of an archive", |core, _| {
            core.archive_answered(question.session, &question.asked.request);
            answer(core);
        });
        let Some(session) = question.session else { return };
        let waits = ticket.filter(|ticket| *ticket > self.core.view.durable() && self.core.view.wrote());
        if let Some(ticket) = waits {
            let request = question.asked.request.clone();
            self.unproven.push_back((ticket, Sender::Session(session), request));
        }
        if let (Some(number), Some(managed)) = (question.number, self.managed.get_mut(&session)) {
            managed.inbound.wait(number, waits.unwrap_or_default());
            managed.inbound.settle(number);
        }
        self.progress(Sender::Session(session));
    }

    /// Sends a page, and behind it the answer (section 4.2).
    fn put_out(&mut self, question: Question, mut page: Page) {
        let request = &question.asked.request;
        let (Some(to), from) = (request.from.clone(), request.to.as_ref().map(crate::jid::Jid::bare)) else { return };
        let kind = Kind::Message(MessageType::Normal);
        let is_there = |id| self.core.sessions.get(id).map(|session| session.conn.is_some());
        if question.session.is_some_and(|id| is_there(id).is_none()) {
            return self.core.archive_answered(question.session, request);
        }
        let tails = std::mem::take(&mut page.tails);
        match question.session.filter(|id| is_there(*id) == Some(true)) {
            Some(session) => {
                for tail in tails {
                    let parcel = Parcel {
                        kind,
                        to: Some(to.clone()),
                        from: from.clone(),
                        tail: Some(Rc::from(tail)),
                        after: Ticket(0),
                        is_copy: true,
                        read_ms: 0,
                        keep: None,
                    };
                    self.hand_over(session, parcel, Urgency::Now);
                }
            }
            // It goes to the disk, or to another server.
            None => {
                self.step("a page", |core, _| {
                    for tail in tails {
                        let stanza = Stanza::of_tail(kind, Some(&to), &tail);
                        let flight = stanza.map(|stanza| InFlight { is_copy: true, ..InFlight::answer(stanza) });
                        core.queue.extend(flight.map(|flight| match question.session {
                            Some(session) => flight.to_session(session),
                            None => flight,
                        }));
                    }
                });
            }
        }
        let result = request.result(|b| {
            b.open(ns::MAM, "fin");
            if page.complete {
                b.attr("complete", "true");
            }
            b.open(ns::RSM, "set");
            if let (Some((first, index)), Some(last)) = (page.first, page.last) {
                b.open(ns::RSM, "first");
                if let Some(index) = index {
                    b.attr("index", &index.to_string());
                }
                b.text(&first.to_string());
                b.close().leaf(ns::RSM, "last", &last.to_string());
            }
            if let Some(count) = page.count {
                b.leaf(ns::RSM, "count", &count.to_string());
            }
            b.close().close();
        });
        self.end_question(&question, |core| core.send(InFlight::answer(result)));
    }
}

/// Puts a tombstone in the place of a message (XEP-0424 section 4).
fn retract(core: &mut Core, find: &Find, id: Id) -> Result<(), StoreError> {
    let Some(mut row) = core.archive_row(&find.owner, id)? else { return Ok(()) };
    let stamp = crate::clock::datetime(core.now.wall_ms);
    let stone = tombstone(&row.xml, |b| {
        b.open(ns::RETRACT, "retracted").attr("id", &find.retraction).attr("stamp", &stamp).close();
    });
    if let Some(xml) = stone {
        row.xml = xml;
        core.archive_replace(&find.owner, id, &row);
    }
    Ok(())
}
