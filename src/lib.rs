//! Couplet: an XMPP server for small machines.
//!
//! # The house
//!
//! Floors, top to bottom. A floor uses those above it, never those below. `tests/tidy.rs` keeps that true.
//!
//! | floor | what lives there | what it must not know |
//! |---|---|---|
//! | [`limits`] [`budget`] [`clock`] [`encoding`] `json` [`metrics`] [`setting`] [`fault`] | every bound in one table; byte accounting; time and randomness as values; bytes as text; JSON, where it is read; counters; typed settings; faults that tests plant | anything else |
//! | [`xml`] [`jid`] | frame scanner, reader, arena element, writer, namespaces; addresses | what a stanza means |
//! | [`stanza`] [`storage`] | typed header and opaque payload, stanza errors; the view, batches, tickets, back ends | sessions |
//! | [`stream`] | one connection without I/O: negotiation, SASL, stream management, stream errors | accounts, other connections |
//! | [`dns`] | questions to name servers, their answers, the order of what is found; no I/O | what it is asked for |
//! | [`core`](mod@core) | sessions, live and parked, routing table, roster, presence, spool, accounts, discovery, pubsub, [`Input`](core::io::Input) and [`Output`](core::io::Output) | any module by name |
//! | [`modules`] | one file for each XEP, a folder for group chat | each other |
//! | [`engine`] [`pipeline`] [`config`] | one `Engine` struct; the phases of a stanza on one screen; the configuration file | sockets, threads, real time |
//! | `moving` | what other servers have kept, read; with the feature `import` alone | files |
//! | [`net`] `http` [`cli`] | smol, sockets, rustls, files, signals, real time; HTTP; commands | protocol rules |
//!
//! # What is absent, and why
//!
//! * **No I/O below [`net`].** The engine takes [`Input`](core::io::Input)s and gives [`Output`](core::io::Output)s,
//!   and is handed the time and the randomness. So the whole server runs in a test, in virtual time, from a seed.
//! * **No locks in the engine, and one worker thread.** Beside it: the storage writer, the password hasher, a helper
//!   that async-io parks, and, once they are asked for, one that reads archives and one for uploaded files. Locks are
//!   where threads meet: in the queues and the bell of [`net`], the log, and the storage back end.
//! * **No answer before its write is durable.** A step writes to the [`View`](storage::View); what shows it to anybody
//!   carries a [`Ticket`](storage::Ticket) and leaves when the batch is on disk.
//!   [`OutQueue`](core::out_queue::OutQueue) lets other senders pass it meanwhile.
//! * **No recursion on input, no tree of boxes.** A stanza is an [arena](xml::Element): one table, one text.
//! * **No parser in an idle connection, no buffer either.** The [scanner](xml::Scanner) frames bytes where they are.
//!   The [reader](xml::Reader) takes a plain frame in one pass; any other is read by a parser that is cloned from a
//!   template and dropped. `tests/properties.rs` holds the one against the other.
//! * **No hook registry.** [`modules`] is one list; the macro makes a struct of fields and straight-line calls from it.
//! * **No hash maps where order could show.** Two runs with one seed are one run.
//! * **No bound outside [`limits`]**, but what a protocol itself fixes.
//!
//! # How a stanza travels
//!
//! 1. `net` reads and decrypts bytes: [`Input::Bytes`](core::io::Input::Bytes).
//! 2. [`C2s`](stream::C2s) frames and reads them, and negotiates until the client is bound. From then on each element
//!    is an [`Event::Element`](stream::Event::Element).
//! 3. The engine reads the typed header, checks and stamps `from`, and opens a *step*: a scratch batch and a queue.
//! 4. [`pipeline`] takes it through the phases: *filter out, archive and copy (sent), route, filter in, archive
//!    (received), undelivered, copy (received), deliver*. [`core::route::decide`] is the table of RFC 6121 section
//!    8.5. What is for the domain of a service goes to the module that runs it, by
//!    [`Module::service`](modules::Module::service).
//! 5. The step ends: its writes join the tick's batch, its deliveries the queues of their connections.
//! 6. The tick ends: one [`Output::Commit`](core::io::Output::Commit), one
//!    [`Output::Write`](core::io::Output::Write) for each connection that has something to say.
//! 7. The storage thread commits all batches that wait in one transaction; its report releases what waited for it.
//!
//! # What was tried for speed
//!
//! `make instructions` counts instructions and copied bytes of one message, one login, one delivery, for a build of
//! profile `release`; `tests/budgets.rs` counts allocations, commits and writes. A chat message of 100 characters took
//! 30 592 instructions when that was first counted, and 25 557 after these:
//!
//! | taken | instructions of a message |
//! |---|---|
//! | control characters looked for in words of eight bytes, and what needs escaping in a table of bytes; no search for `]]>` that is prepared anew for each frame | -2461 |
//! | the table and the text of a stanza made once, as large as its frame suggests: 17 allocations, not 21; 64 bytes more | -1957 |
//! | what needs escaping in a text found by vectors | -617 |
//!
//! Charging all memory to the budget added 1438 behind that, and what came later 2600 more: prefixes for the quick
//! reader, the latency of each stanza, the archive. Then were taken:
//!
//! | taken | instructions |
//! |---|---|
//! | which modules are off for a host is looked up once for each hook, and a hook that a module lacks is no code; before, 250 places asked each module's list of hosts | -3400 |
//! | names compared by their lengths first, in attributes and elements; names of the quick reader by a table of bytes; carbons look for other sessions before they look at the message | -2450 |
//! | the quick reader reads stream headers | -65 000 of a login |
//!
//! Alone in a tick, a message takes 25 471, and 20 913 as one of a hundred; a login 255 371 without TLS and the work of
//! its password, of which 10 000 are so that nobody can tell by the time whether an account exists.
//!
//! Not taken: the search by vectors for carriage returns as well, behind each replacement anew. It counts the same, but
//! its time grows with the square of a text of nothing but carriage returns; one look ahead for them does without.
//!
//! # Where things go
//!
//! * **A new XEP**, say XEP-0012: one file `src/modules/last.rs` that implements [`Module`](modules::Module), one line
//!   in the list at the end of `src/modules/mod.rs`, one line in `Cargo.toml`. The tidy test then asks for its scenario
//!   in `tests/scenarios/`, its section in `config.example.toml` (`couplet config example` prints it) and its row in
//!   the README.
//! * **A new namespace**: [`xml::ns`]. **A new bound**: [`limits`]. **A new table of the store**: a
//!   [`Table`](storage::Table) with a free number, beside what uses it.
//! * **A new command of clients** (XEP-0050): an [`Offer`](core::commands::Offer) in
//!   [`Module::disco`](modules::Module::disco) of the module whose business it is, done by its `Module::command`.
//! * **A new command for operators**: [`core::admin`] if the server answers it, [`cli`] in any case.
//! * **A bug**: a scenario or a seed that shows it, then the mend.
//!
//! # Errors have an address
//!
//! A broken stream rule ends that stream; a refused stanza bounces once; a write that fails takes back the promises
//! that waited for it; an operator's mistake refuses the start with file, line and what to write; a bug of ours ends
//! the connection it met, is logged and counted, and too many of them end the process for its supervisor.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod dns;
pub mod encoding;
pub mod engine;
#[doc(hidden)]
pub mod fault;
#[cfg(feature = "http")]
pub mod http;
pub mod jid;
#[cfg(any(feature = "acme", feature = "import"))]
pub mod json;
pub mod limits;
pub mod metrics;
pub mod modules;
#[cfg(feature = "import")]
pub mod moving;
pub mod net;
pub mod pipeline;
pub mod setting;
pub mod stanza;
pub mod storage;
pub mod stream;
pub mod xml;
