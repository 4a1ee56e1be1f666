//! Planted faults, for tests alone: each breaks one rule of the server, so that the simulation, or a fuzzer, can show
//! that it would be seen. Without the feature `planted-faults`, which no tier contains, [`armed`] is a constant and
//! nothing is built.

/// A line of the server that can be made wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is synced to the disk: `COUPLET_FAULT=SyncLeftOut`, for tests that cut the power of a whole process.
    SyncLeftOut,
    /// A change of a subscription loses the contact's name.
    NameForgotten,
    /// Messages jump the queue of their connection.
    QueueJumped,
    /// A client is believed when it says who it is.
    SenderBelieved,
    /// Messages and questions from blocked addresses pass.
    BlockIgnored,
    /// What was stored is delivered whoever is blocked by now.
    StoredUnfiltered,
    /// Whoever waits for a write that fails is not told.
    FailureUntold,
    /// What was delivered from the spool stays there.
    SpoolKept,
    /// A connection goes and what it was charged stays.
    ChargeKept,
    /// A peer that does not read may let any number of bytes wait.
    QueueUnbounded,
    /// What shows a write does not wait for it.
    PromiseEarly,
    /// Presence does not wait for the subscription that lets it be seen.
    PresenceEarly,
    /// Only one side of a subscription hears of its end.
    SubscriptionHalf,
    /// A roster changes and its owner's clients are not told.
    PushForgotten,
    /// A session ends and nobody is told.
    EndUntold,
    /// The first connection is forgotten at shutdown.
    StreamForgotten,
    /// Stanzas follow the end of a stream.
    EndOutlived,
    /// A stanza is counted as safe when it has been received.
    CountEarly,
    /// What was sent and is not acknowledged is forgotten when a session is resumed.
    ResumedQueueLost,
    /// What a client says at resumption that it has is sent to it again.
    ResumedTwice,
    /// What has not arrived at a session that ends goes nowhere.
    LeftBehind,
    /// A server is believed when it says who has sent a stanza.
    ServerBelieved,
    /// What is on its way to another server is forgotten when the connection is lost.
    WayForgotten,
    /// It is sent again in another order.
    WayUnordered,
    /// What was on its way to other servers before a restart stays on the disk.
    WayNotRestored,
    /// Stanzas leave on a stream of another server before that could count them.
    CountUnawaited,
    /// A page is read before what was written before it is durable.
    ArchiveReadEarly,
    /// A message that comes is archived twice.
    ArchivedTwice,
    /// Nobody is told that another server cannot be reached.
    ReturnUntold,
    /// A connection with another server goes and what it was charged stays.
    LinkChargeKept,
    /// Each occupant sees the messages of a room in an order of its own.
    RoomUnordered,
    /// Who has left a room still hears what is said there.
    OutsiderHears,
    /// Everybody may read every node.
    AccessIgnored,
    /// Subscribers are not told of what is published.
    EventForgotten,
    /// What a client has sent meets a bug: `COUPLET_FAULT=PanicBytes`, for boards on which it is to be shown that the
    /// program can unwind.
    PanicBytes,
    /// A TLS handshake that is done meets one.
    PanicTls,
    /// A deadline of a connection meets one.
    PanicTimer,
    /// A command of an operator meets one.
    PanicCommand,
    /// What is to leave meets one.
    PanicFlush,
    /// The shell meets one when it reads.
    PanicRead,
    /// The shell meets one when it looks for another server.
    PanicDial,
    /// What the store says meets one.
    PanicCommit,
    /// The place of a mistake in the configuration is counted in bytes.
    PlaceMiscounted,
    /// A compressed name of DNS may point at itself.
    PointerFollowed,
    /// What an authority calls a token becomes a path, whatever it has.
    TokenBelieved,
    /// What is left of a chunk is forgotten when it comes in two reads.
    ChunkForgotten,
    /// A reference that arrives in two pieces is not looked at.
    SplitForgotten,
    /// An address is folded to lower case by a table that knows nothing of what is normalised behind it.
    FoldedPlainly,
    /// Who asks for an account that does not exist can see that.
    StrangerTold,
    /// A domain is believed without asking it.
    DialbackBelieved,
    /// A number may have bytes that add nothing.
    NumberPadded,
    /// What says that it is base64 is not looked at.
    EncodingTrusted,
    /// The quick reader lets an element have an attribute twice.
    AttributeTwice,
    /// What stands behind a term of Erlang is not looked at.
    TailIgnored,
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static ARMED: std::cell::Cell<Option<Fault>> = std::cell::Cell::new(from_environment());
}

#[cfg(feature = "planted-faults")]
fn from_environment() -> Option<Fault> {
    match std::env::var("COUPLET_FAULT").ok()?.as_str() {
        "SyncLeftOut" => Some(Fault::SyncLeftOut),
        "PanicBytes" => Some(Fault::PanicBytes),
        _ => None,
    }
}

/// Arms a fault in this thread, or none.
#[cfg(feature = "planted-faults")]
pub fn arm(fault: Option<Fault>) {
    ARMED.set(fault);
}

/// A bug, once, where it is armed.
#[inline(always)]
pub fn trip(fault: Fault) {
    if armed(fault) {
        #[cfg(feature = "planted-faults")]
        arm(None);
        std::panic::resume_unwind(Box::new(fault));
    }
}

/// True when this line is to be wrong.
#[cfg(feature = "planted-faults")]
pub fn armed(fault: Fault) -> bool {
    ARMED.get() == Some(fault)
}

/// Nothing is wrong in a server that is built to serve.
#[cfg(not(feature = "planted-faults"))]
#[inline(always)]
pub const fn armed(_: Fault) -> bool {
    false
}
