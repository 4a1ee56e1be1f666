//! What goes into the engine and what comes out of it: nothing else connects it with the world.

use super::admin::{Command, Reply};
use super::slab::Key;
use crate::storage::{Batch, StoreError, Ticket};
use crate::stream::TlsFacts;
use crate::stream::sasl::{HashJob, HashResult};
use std::fmt;

/// One connection, or the attempt to make one.
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

/// Who is at the other end of a connection that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client.
    Client,
    /// An external component (XEP-0114), without TLS.
    Component,
    /// A server. Its certificate is asked for in the handshake, and none is refused there: what it proves is for the
    /// engine to judge.
    Server,
    /// Somebody who speaks HTTP.
    Web,
    /// The same, who is to see nothing but what is put up for an authority (ACME, http-01).
    Authority,
}

/// Why no connection to a server could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// There is no such domain, or it says that it has no such service (RFC 2782: the target is `.`).
    NotFound,
    /// Nobody answered in time.
    Timeout,
    /// Nobody could be reached at any address; the text says why.
    Unreachable(String),
    /// The TLS handshake failed; the text says why.
    Tls(String),
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such server"),
            Self::Timeout => f.write_str("nobody answers"),
            Self::Unreachable(why) => write!(f, "nobody can be reached: {why}"),
            Self::Tls(why) => write!(f, "the TLS handshake fails: {why}"),
        }
    }
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
    /// The connection that [`Output::Dial`] asked for stands.
    Dialed {
        /// That of the question.
        conn: ConnId,
        /// With direct TLS (ALPN `xmpp-server`): what both ends agreed on.
        tls: Option<TlsFacts>,
    },
    /// The connection that [`Output::Dial`] asked for cannot be had, or its TLS handshake has failed, also one that
    /// [`Output::StartTls`] has begun.
    DialFailed {
        /// That of the question.
        conn: ConnId,
        /// For the log, and for the error that senders get.
        why: DialFailure,
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
    /// What the shell holds for a connection, beside what waits to be written: its socket, TLS, incomplete records.
    Held {
        /// For whom.
        conn: ConnId,
        /// As much as the allocator takes for it.
        bytes: usize,
    },
    /// What the process weighs: pages that it has in memory, those of the program among them.
    Weighed {
        /// Bytes.
        rss_bytes: usize,
    },
    /// All batches up to this one are on disk.
    Committed(Ticket),
    /// A commit failed, and with it all batches behind it.
    CommitFailed(StoreError),
    /// The hashing thread is done with a job.
    Hashed(HashResult),
    /// Work in the archives is done, or storage cannot be read. [`Output::Archive`] says which.
    #[cfg(feature = "mam")]
    Archive {
        /// That of the job.
        id: u64,
        /// What has come of it.
        done: Box<Result<super::archive::Done, StoreError>>,
    },
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
    /// Find a server and connect to it: services `_xmpps-server` and `_xmpp-server` of the domain (RFC 6120 section
    /// 3.2, XEP-0368), or what the configuration says. Answer: [`Input::Dialed`] or [`Input::DialFailed`], unless
    /// [`Output::Close`] comes first.
    Dial {
        /// Name for the connection.
        conn: ConnId,
        /// The target domain as A-labels; also the server name of TLS, now or at [`Output::StartTls`].
        domain: String,
        /// Which of our hosts connects, prepared: its certificate is the one to show.
        from: String,
    },
    /// Begin TLS once all earlier writes have left: as a client on a connection that was dialed, as a server on any
    /// other. Answer: [`Input::TlsReady`].
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
    /// Read in the archives, from a snapshot that is taken from now on, and answer with [`Input::Archive`]. It may take
    /// its time.
    #[cfg(feature = "mam")]
    Archive(Box<super::archive::Job>),
    /// Give up caches, and memory that is kept to be used again.
    Shrink,
    /// Something that is HTTP's.
    #[cfg(feature = "http")]
    Web(super::web::Order),
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
    /// Do as if the process were told to end ([`Input::Shutdown`]), because an administrator wants it.
    Stop {
        /// And let whoever started it start it anew.
        again: bool,
    },
}
