//! What goes into the engine and what comes out of it: nothing else connects it with the world.

use super::admin::{Command, Reply};
use super::slab::Key;
use crate::storage::{Batch, StoreError, Ticket};
use crate::stream::TlsFacts;
use crate::stream::sasl::{HashJob, HashResult};

/// One client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) Key);

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In plain, with STARTTLS on offer (RFC 6120 section 5).
    StartTls,
    /// With a TLS handshake (XEP-0368).
    DirectTls,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes from a peer, decrypted.
    Bytes {
        /// Whose.
        conn: ConnId,
        /// Not empty.
        data: &'a [u8],
    },
    /// A TLS handshake is done.
    TlsReady {
        /// Whose.
        conn: ConnId,
        /// What both ends agreed on.
        facts: TlsFacts,
    },
    /// The peer is gone, or reading, writing or TLS failed.
    Closed {
        /// Whose.
        conn: ConnId,
    },
    /// A socket took bytes.
    Wrote {
        /// Whose.
        conn: ConnId,
        /// Bytes that the shell still holds for it.
        waiting_bytes: usize,
    },
    /// All batches up to this one are on disk.
    Committed(Ticket),
    /// A commit failed, and with it all batches behind it.
    CommitFailed(StoreError),
    /// The hashing thread is done with a job.
    Hashed(HashResult),
    /// The deadline of [`next_deadline`](crate::engine::Engine::next_deadline) has passed.
    Wake,
    /// An administrator's command.
    Admin {
        /// Comes back in the reply.
        id: u32,
        /// What to do.
        command: Command,
    },
    /// Close all streams, then say [`Output::Exit`].
    Shutdown,
}

/// Something to be done.
#[derive(Debug)]
pub enum Output {
    /// Send, encrypted if TLS is up.
    Write {
        /// To whom.
        conn: ConnId,
        /// Whole stanzas.
        bytes: Vec<u8>,
    },
    /// Begin TLS once all earlier writes have left.
    StartTls {
        /// Whose.
        conn: ConnId,
    },
    /// Close once all earlier writes have left. The engine has forgotten the connection.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Read nothing more from the peer until told: what came waits for an answer of ours.
    PauseRead {
        /// Whose.
        conn: ConnId,
    },
    /// Read again.
    ResumeRead {
        /// Whose.
        conn: ConnId,
    },
    /// Make durable, and answer with [`Input::Committed`] or [`Input::CommitFailed`].
    Commit(Batch),
    /// Have a password hashed, and answer with [`Input::Hashed`].
    Hash(HashJob),
    /// Answer an administrator.
    AdminReply {
        /// That of the command.
        id: u32,
        /// The answer.
        reply: Reply,
    },
    /// Read configuration and certificates again.
    Reload {
        /// The command to answer, through [`Output::AdminReply`]'s way, with what came of it.
        id: u32,
    },
    /// All streams are closed and everything is written.
    Exit,
}
