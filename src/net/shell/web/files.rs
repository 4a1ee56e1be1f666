//! Files of users (XEP-0363) on their way between sockets and the thread that keeps them. A connection has a piece of
//! its file here at a time: while the disk works on that, nothing more is read from the socket.

use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Shell;
use crate::budget::allocated;
use crate::clock::Now;
use crate::core::io::ConnId;
use crate::core::slots;
use crate::http::upload::{self, FilesOptions};
use crate::http::{Answer, Head, Method, Status};
use crate::net::conn::READ_BYTES;
use crate::net::files::{self, FileReport, Job, Outcome};

/// How often old files are looked for.
const PURGE_MS: u64 = 3_600_000;

/// Bytes that may wait for a socket before the next piece of a file is read.
const AHEAD_BYTES: usize = 32_768;

/// The thread, once there is something to do for it.
#[derive(Default)]
pub struct Files {
    jobs: Option<Sender<Job>>,
    /// Connections with a file.
    open: u32,
    /// When old files are looked for; 0 for never.
    pub purge_ms: u64,
}

/// What goes on between a connection and a file.
pub struct Transfer {
    kind: Kind,
    /// The thread has a job for it.
    waits: bool,
    /// What the next piece will lie in: that the same is taken for all spares the allocator the trouble.
    buffer: Vec<u8>,
    /// What the request asked for, until it is answered; sites that may see the answer are told by that.
    head: Head,
}

enum Kind {
    /// The file comes. What is taken of it, in bytes.
    Up(u64),
    /// The file is looked for.
    Asked,
    /// It leaves: what comes next, and the end of it.
    Down(u64, u64),
}

impl Transfer {
    /// Bytes that it holds, those that the thread has of it among them.
    pub fn held_bytes(&self) -> usize {
        let piece = if self.waits { READ_BYTES } else { 0 };
        allocated(size_of::<Self>()) + self.head.heap_bytes() + allocated(piece + self.buffer.capacity())
    }

    /// The buffer for the next piece.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Nothing may be read from the connection for now.
    pub fn waits(&self) -> bool {
        self.waits
    }
}

impl Shell {
    /// Starts the thread if there are files from before.
    pub(in super::super) fn web_start(&mut self, now: Now) {
        if self.web.site.options.files.as_ref().is_some_and(|files| files.folder.exists()) {
            self.files_job(None, now);
        }
    }

    /// Hands a job to the thread, which is started for the first. False when it cannot be had.
    fn files_job(&mut self, job: Option<Job>, now: Now) -> bool {
        let Some(FilesOptions { folder, .. }) = &self.web.site.options.files else { return false };
        if self.web.files.jobs.is_none() {
            match files::start(folder.clone(), self.bell.clone()) {
                Ok(jobs) => self.web.files.jobs = Some(jobs),
                Err(error) => log::error!("files cannot be kept: the system gives no thread: {error}"),
            }
            self.web.files.purge_ms = now.mono_ms.max(1);
        }
        let Some(jobs) = &self.web.files.jobs else { return false };
        job.is_none_or(|job| jobs.send(job).is_ok())
    }

    /// Old files are looked for, if it is time.
    pub(super) fn purge_files(&mut self, now: Now) {
        if self.web.files.purge_ms > 0 && self.web.files.purge_ms <= now.mono_ms {
            self.web.files.purge_ms = now.mono_ms + PURGE_MS;
            if let Some(options) = &self.web.site.options.files {
                let age = Duration::from_secs(options.expires_s.into());
                self.files_job(Some(Job::Purge(age)), now);
            }
        }
    }

    /// Files are looked for that are nobody's any more.
    pub(super) fn sweep_files(&mut self, now: Now) {
        if self.web.files.purge_ms > 0 {
            self.web.files.purge_ms = now.mono_ms.max(1);
            self.purge_files(now);
        }
    }

    /// They are nobody's.
    pub(super) fn remove_files(&mut self, ids: Vec<String>, now: Now) {
        log::info!("{} files of deleted accounts are deleted", ids.len());
        self.files_job(Some(Job::Remove(ids)), now);
    }

    /// A request in the folder of files.
    pub(super) fn file_request(&mut self, id: ConnId, head: Head, now: Now) {
        let Some(total_max) = self.web.site.options.files.as_ref().map(|options| options.total_max) else {
            return self.answer_shared(id, &head, Answer::error(Status::NotFound), now);
        };
        let has_room = self.web.files.open < self.tuning.limits.http_files_max;
        let (kind, job) = match head.method {
            Method::Options => {
                let answer = self.web.site.preflight(&head, "GET, HEAD, PUT");
                return self.answer_web(id, &answer, now);
            }
            _ if !has_room => {
                return self.answer_shared(id, &head, Answer::error(Status::Unavailable).with("Retry-After", "5"), now);
            }
            Method::Put => match upload::accept(&head, &self.engine.slot_key(), now.wall_ms) {
                // What the owner was allowed is over with his account.
                Ok(slot) if !self.engine.is_owned(now, &slot.owned()) => {
                    return self.answer_shared(id, &head, Answer::error(Status::Forbidden), now);
                }
                Ok(slot) => {
                    let label = upload::label(&slot);
                    let size = slot.size + label.len() as u64;
                    (Kind::Up(slot.size), Job::Create(id, slot.id, size, label, total_max))
                }
                Err(status) => return self.answer_shared(id, &head, Answer::error(status), now),
            },
            Method::Get | Method::Head => match slots::asked(&head.path) {
                Some((file, _)) => (Kind::Asked, Job::Open(id, file)),
                None => return self.answer_shared(id, &head, Answer::error(Status::NotFound), now),
            },
            Method::Post => {
                let answer = crate::http::site::not_allowed("GET, HEAD, PUT");
                return self.answer_shared(id, &head, answer, now);
            }
        };
        if !self.files_job(Some(job), now) {
            return self.answer_shared(id, &head, Answer::error(Status::InternalError), now);
        }
        self.web.files.open += 1;
        if let Some(guest) = self.web.guests.get_mut(&id) {
            guest.file = Some(Box::new(Transfer { kind, waits: true, buffer: Vec::new(), head }));
        }
    }

    /// A piece of a file has come.
    pub(super) fn file_piece(&mut self, id: ConnId, bytes: Vec<u8>, now: Now) {
        self.file_step(id, Job::Write(id, bytes), now);
    }

    /// All of a file has come.
    pub(super) fn file_end(&mut self, id: ConnId, now: Now) {
        self.file_step(id, Job::Finish(id), now);
    }

    fn file_step(&mut self, id: ConnId, job: Job, now: Now) {
        let Some(file) = self.web.guests.get_mut(&id).and_then(|guest| guest.file.as_mut()) else { return };
        file.waits = true;
        if !self.files_job(Some(job), now) {
            self.end_file(id, Status::InternalError, now);
        }
    }

    /// The thread has done something.
    pub(in super::super) fn take_file_report(&mut self, report: FileReport, now: Now) {
        let (id, outcome) = match report {
            FileReport::Total(bytes) => return self.engine.files_kept(bytes),
            FileReport::Seen(files) => return self.engine.files_seen(now, files),
            FileReport::Of(id, outcome) => (id, outcome),
        };
        let Some(file) = self.web.guests.get_mut(&id).and_then(|guest| guest.file.as_mut()) else { return };
        file.waits = false;
        match outcome {
            Outcome::Ready(buffer) => {
                file.buffer = buffer;
                self.go_on_with_file(id, now);
            }
            Outcome::Done => self.end_file(id, Status::Created, now),
            Outcome::Found(found) => self.send_file(id, &found, now),
            Outcome::Piece(bytes) => self.pass_piece(id, &bytes, now),
            Outcome::Missing => self.end_file(id, Status::NotFound, now),
            Outcome::Exists => self.end_file(id, Status::Conflict, now),
            Outcome::Full => self.end_file(id, Status::InsufficientStorage, now),
            Outcome::Failed => self.end_file(id, Status::InternalError, now),
        }
        self.tell_held(id, now);
        self.mark_dirty(id);
    }

    /// What was brought is written: more can come.
    fn go_on_with_file(&mut self, id: ConnId, now: Now) {
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let Some(Kind::Up(size)) = guest.file.as_ref().map(|file| &file.kind) else { return };
        let mut out = Vec::new();
        match guest.wire.take_content(*size, &mut out) {
            Ok(()) => {
                self.write_web(id, out, now);
                self.drive_web(id, now);
            }
            Err(status) => self.end_file(id, status, now),
        }
    }

    /// Answers a request for a file that is there.
    fn send_file(&mut self, id: ConnId, found: &upload::Stored, now: Now) {
        let Some(expires_s) = self.web.site.options.files.as_ref().map(|options| options.expires_s) else { return };
        let Some(file) = self.web.guests.get_mut(&id).and_then(|guest| guest.file.as_mut()) else { return };
        let Some((asked, name)) = slots::asked(&file.head.path) else { return };
        // Whoever makes a link to a file of others cannot give it another name; and what is too old is gone, also
        // before somebody has looked for it.
        let is_late = i64::try_from(found.stored_s + u64::from(expires_s)).is_ok_and(|at| at < now.wall_ms / 1000);
        if found.name != name || is_late {
            return self.end_file(id, Status::NotFound, now);
        }
        let (answer, part) = upload::answer(&file.head, &asked, found, expires_s, now.wall_ms);
        let answer = self.web.site.share(&file.head, answer);
        if let Some(part) = part {
            let from = found.start + part.from;
            file.kind = Kind::Down(from, from + part.len);
            self.answer_web(id, &answer, now);
            self.next_piece(id, now);
        } else {
            self.leave_file(id, now);
            self.answer_web(id, &answer, now);
            self.drive_web(id, now);
        }
    }

    /// Asks for the next piece, unless enough waits for the socket already.
    pub(super) fn next_piece(&mut self, id: ConnId, now: Now) {
        if self.conns.get(&id).is_none_or(|conn| conn.waiting_bytes() > AHEAD_BYTES) {
            return;
        }
        let Some(file) = self.web.guests.get_mut(&id).and_then(|guest| guest.file.as_mut()) else { return };
        if let (Kind::Down(at, end), false) = (&file.kind, file.waits) {
            let job = Job::Read(id, *at, end - at);
            self.file_step(id, job, now);
        }
    }

    fn pass_piece(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        let Some(guest) = self.web.guests.get_mut(&id) else { return };
        let Some(Kind::Down(at, end)) = guest.file.as_mut().map(|file| &mut file.kind) else { return };
        *at += bytes.len() as u64;
        let is_last = *at >= *end;
        let mut out = Vec::new();
        guest.wire.stream(bytes, &mut out);
        self.write_web(id, out, now);
        // As long as the socket takes some, there is time.
        let ms = u64::from(self.tuning.limits.http_content_timeout_s.max(1)) * 1000;
        self.web.set_deadline(id, now.mono_ms + ms);
        if is_last {
            self.leave_file(id, now);
            self.drive_web(id, now);
        } else {
            self.next_piece(id, now);
        }
    }

    /// The end of it, with an answer if there has been none.
    fn end_file(&mut self, id: ConnId, status: Status, now: Now) {
        let Some(file) = self.web.guests.get_mut(&id).and_then(|guest| guest.file.take()) else { return };
        self.leave_thread(id, now);
        // The head has left, and said how long the content is: all that can be done is not to keep that word.
        if matches!(file.kind, Kind::Down(..)) {
            return self.end_web(id, now);
        }
        let answer = match status {
            Status::Created => Answer::empty(status).with("Location", file.head.path.clone()),
            status => Answer::error(status),
        };
        self.answer_shared(id, &file.head, answer, now);
        self.drive_web(id, now);
    }

    fn leave_file(&mut self, id: ConnId, now: Now) {
        if self.web.guests.get_mut(&id).and_then(|guest| guest.file.take()).is_some() {
            self.leave_thread(id, now);
        }
    }

    /// A connection that had a file needs the thread no more.
    pub(super) fn leave_thread(&mut self, id: ConnId, now: Now) {
        self.web.files.open = self.web.files.open.saturating_sub(1);
        self.files_job(Some(Job::Leave(id)), now);
    }
}
