//! The phases of a stanza, in order: *filter out, archive and copy (sent), route, filter in, archive, undelivered, copy
//! (received), deliver*.
//!
//! A stanza enters by [`from_session`] or is put on the core's queue by whatever makes it; [`run`] takes the queue
//! through the phases until nothing is left. What comes out are parcels for sessions.

use crate::core::flight::{Dest, Filters, Flow, InFlight, Keep, Parcel, Receipt, Urgency};
use crate::core::presence::Change;
use crate::core::route::{Addressee, Verdict, decide};
use crate::core::session::SessionId;
use crate::core::spool::{Worth, worth};
use crate::core::{Answer, Core, Request};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::modules::{Dir, Modules, Scope, SessionEvent, Undelivered};
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::storage::Ticket;
use crate::xml::ns;
use log::debug;
use std::cell::Cell;
use std::rc::Rc;

const LOG: &str = "couplet::pipeline";

/// Who gets a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A session of ours.
    Session(SessionId),
    /// The server of its addressee.
    Server,
}

/// A parcel for somebody, and whether it waits for what the input stores.
pub struct Delivery {
    /// To whom.
    pub to: Target,
    /// The stanza.
    pub parcel: Parcel,
    /// [`InFlight::promise`].
    pub promise: bool,
    /// Whether it goes now.
    pub urgency: Urgency,
}

/// Takes a stanza from a session; its `from` is the session's full address. With a receipt when the session uses stream
/// management: it goes with what must reach somebody before the client may be told that it is safe.
pub fn from_session(
    core: &mut Core,
    modules: &mut Modules,
    id: SessionId,
    mut stanza: Stanza,
    receipt: Option<Receipt>,
) {
    core.strip_forged(&mut stanza, true);
    match stanza.kind {
        Kind::Presence(_) => {
            core.counters.presences = core.counters.presences.wrapping_add(1);
            let copy = stanza.clone();
            if let Err(error) = presence(core, modules, id, stanza) {
                bounce(core, &copy, &error);
            }
        }
        Kind::Message(_) | Kind::Iq(_) => {
            match stanza.kind {
                Kind::Iq(_) => core.counters.iqs = core.counters.iqs.wrapping_add(1),
                _ => core.counters.messages = core.counters.messages.wrapping_add(1),
            }
            // RFC 6120 section 10.3: without addressee it is for the sender's own account.
            let to = stanza.to.clone().or_else(|| stanza.from.as_ref().map(Jid::bare));
            let is_kept = |stanza: &Stanza| matches!(stanza.kind, Kind::Message(_)) && worth(stanza) == Worth::Kept;
            let receipt = receipt.filter(|_| is_kept(&stanza));
            core.send(InFlight { origin: Some(id), receipt, ..InFlight::passing(Stanza { to, ..stanza }) });
        }
    }
}

/// Takes a stanza from another server, which has proved the domain of its `from`; its `to` is ours.
pub fn from_server(core: &mut Core, mut stanza: Stanza, receipt: Option<Receipt>) {
    core.strip_forged(&mut stanza, false);
    let counter = match stanza.kind {
        Kind::Presence(_) => &mut core.counters.presences,
        Kind::Iq(_) => &mut core.counters.iqs,
        Kind::Message(_) => &mut core.counters.messages,
    };
    *counter = counter.wrapping_add(1);
    let is_kept = matches!(stanza.kind, Kind::Message(_)) && worth(&stanza) == Worth::Kept;
    core.send(InFlight { receipt: receipt.filter(|_| is_kept), ..InFlight::passing(stanza) });
}

/// Presence changes what is stored and who is told before it is sent anywhere, so it is filtered first.
fn presence(core: &mut Core, modules: &mut Modules, id: SessionId, mut stanza: Stanza) -> Result<(), StanzaError> {
    if stanza.to.is_some() {
        let mut flight = InFlight { origin: Some(id), ..InFlight::passing(stanza) };
        let flow = modules.filter_out(core, &mut flight)?;
        if stopped(core, &flight, flow) {
            return Ok(());
        }
        stanza = flight.stanza;
    }
    if stanza.kind == Kind::Presence(PresenceType::Available) {
        modules.presence(core, &mut stanza)?;
    }
    let (is_broadcast, kind) = (stanza.to.is_none(), stanza.kind);
    let is_available = |core: &Core| core.sessions.get(id).is_some_and(|s| s.available.is_some());
    let was_available = is_available(core);
    let change = core.presence_from_session(id, stanza)?;
    if is_broadcast && kind == Kind::Presence(PresenceType::Available) {
        modules.session(core, id, SessionEvent::Available)?;
    } else if was_available && !is_available(core) {
        modules.session(core, id, SessionEvent::Unavailable)?;
    }
    match change {
        Change::Reachable => modules.session(core, id, SessionEvent::Reachable),
        Change::Other => Ok(()),
    }
}

/// Takes everything on the queue through the phases.
pub fn run(core: &mut Core, modules: &mut Modules, out: &mut Vec<Delivery>) {
    while let Some(mut flight) = core.queue.pop_front() {
        match flight.dest {
            Dest::Session(id) => match let_in(core, modules, &mut flight) {
                true => deliver(core, modules, flight, id, None, out),
                false => {
                    if let (Some(row), Some(to)) = (flight.row, &flight.stanza.to) {
                        core.spool_give(to, row);
                    }
                    dropped(core, &flight, "stored, and not let in today");
                }
            },
            Dest::Address => {
                let mut later = std::mem::take(&mut core.queue);
                if let Err(error) = phases(core, modules, &mut flight, out) {
                    bounce(core, &flight.stanza, &error);
                }
                for (account, message) in core.missed.as_mut().map(std::mem::take).unwrap_or_default() {
                    modules.missed(core, &account, &message);
                }
                // What a stanza causes comes before what was sent after it.
                while let Some(caused) = core.queue.pop_back() {
                    later.push_front(caused);
                }
                core.queue = later;
            }
        }
    }
}

/// Whether a stanza that was stored would still be let in. Its sender hears of nothing: that would tell when the
/// account was there. When storage cannot be read, what it has promised to keep is not lost.
fn let_in(core: &mut Core, modules: &mut Modules, flight: &mut InFlight) -> bool {
    flight.filters != Filters::In
        || armed(Fault::StoredUnfiltered)
        || !matches!(modules.filter_in(core, flight), Ok(Flow::Drop(_) | Flow::Bounce(_)))
}

fn phases(
    core: &mut Core,
    modules: &mut Modules,
    flight: &mut InFlight,
    out: &mut Vec<Delivery>,
) -> Result<(), StanzaError> {
    let Some(to) = flight.stanza.to.clone() else { return Ok(()) };
    let from_account = |f: &Jid| f.node().is_some() && core.is_local(f);
    if flight.filters == Filters::Both && flight.stanza.from.as_ref().is_some_and(from_account) {
        let flow = modules.filter_out(core, flight)?;
        if stopped(core, flight, flow) {
            return Ok(());
        }
        if flight.origin.is_some() {
            // The id in the sender's archive is for his own clients.
            let plain = flight.stanza.clone();
            modules.archive(core, Dir::Sent, flight)?;
            modules.copy(core, Dir::Sent, flight, &[]);
            flight.stanza = plain;
        }
    }
    if core.is_component(to.domain()) {
        hand_to_server(core, flight, out);
        return Ok(());
    }
    if core.is_service(to.domain()) {
        let flow = modules.filter_service(core, flight)?;
        if stopped(core, flight, flow) {
            return Ok(());
        }
        return modules.service(core, flight, &to).unwrap_or_else(|| Err(Condition::ServiceUnavailable.into()));
    }
    if !core.is_local(&to) {
        return to_remote(core, flight, &to, out);
    }
    if to.node().is_none() {
        return to_host(core, modules, flight, &to);
    }
    to_account(core, modules, flight, &to, out)
}

/// Phase *deliver* for an address at another server. Only what is from here goes there.
fn to_remote(core: &mut Core, flight: &InFlight, to: &Jid, out: &mut Vec<Delivery>) -> Result<(), StanzaError> {
    let stanza = &flight.stanza;
    if !stanza.from.as_ref().is_some_and(|from| core.is_ours(from) || core.is_component(from.domain())) {
        dropped(core, flight, "from one other server to another");
        return Ok(());
    }
    if !core.settings.s2s.admits(to.domain()) {
        if !is_returned(core, stanza) {
            dropped(core, flight, "its server is not spoken with");
            return Ok(());
        }
        return Err(Condition::RemoteServerNotFound.into());
    }
    hand_to_server(core, flight, out);
    Ok(())
}

/// What waits for another server or a component waits in its queue.
fn hand_to_server(core: &Core, flight: &InFlight, out: &mut Vec<Delivery>) {
    let InFlight { stanza, tail, promise, receipt, .. } = flight.clone();
    let since_ms = core.now.mono_ms;
    let keep = Keep { receipt, since_ms, ..Keep::default() };
    let tail = Some(tail.unwrap_or_else(|| stanza.tail()));
    let Stanza { kind, to, from, .. } = stanza;
    let keep = Some(Box::new(keep));
    let parcel = Parcel { kind, to, from, tail, after: Ticket(0), is_copy: false, read_ms: 0, keep };
    out.push(Delivery { to: Target::Server, parcel, promise, urgency: Urgency::Now });
}

/// Whether the sender of a stanza hears that its addressee's server cannot be reached. Of presence that is what
/// somebody waits for an answer to, such as entering a room, and what a room tells an occupant, whom it then removes;
/// what goes to all contacts is not worth an error for each of them.
pub fn is_returned(core: &Core, stanza: &Stanza) -> bool {
    match stanza.kind {
        Kind::Message(_) | Kind::Iq(_) => true,
        Kind::Presence(PresenceType::Subscribe) => true,
        Kind::Presence(PresenceType::Available | PresenceType::Unavailable) => {
            stanza.to.as_ref().is_some_and(|to| !to.is_bare())
                || stanza.from.as_ref().is_some_and(|from| core.is_service(from.domain()))
        }
        Kind::Presence(_) => false,
    }
}

fn to_host(core: &mut Core, modules: &mut Modules, flight: &InFlight, to: &Jid) -> Result<(), StanzaError> {
    match flight.stanza.kind {
        Kind::Iq(IqType::Get | IqType::Set) if to.is_host() => {
            answer(core, modules, Scope::Host, flight, to);
            Ok(())
        }
        Kind::Message(_) if to.is_host() && modules.told(core, &flight.stanza)? => Ok(()),
        Kind::Iq(IqType::Get | IqType::Set) | Kind::Message(_) => Err(Condition::ServiceUnavailable.into()),
        // The host has asked somebody.
        Kind::Iq(IqType::Result | IqType::Error) if to.is_host() => modules.answered(core, &flight.stanza),
        Kind::Iq(IqType::Result | IqType::Error) | Kind::Presence(_) => {
            dropped(core, flight, "the host itself takes none");
            Ok(())
        }
    }
}

fn to_account(
    core: &mut Core,
    modules: &mut Modules,
    flight: &mut InFlight,
    to: &Jid,
    out: &mut Vec<Delivery>,
) -> Result<(), StanzaError> {
    let exists = core.account_exists(to)?;
    if exists && flight.filters != Filters::None {
        let flow = modules.filter_in(core, flight)?;
        if stopped(core, flight, flow) {
            return Ok(());
        }
    }
    let is_elsewhere = flight.stanza.from.as_ref().is_some_and(|from| !core.is_ours(from));
    if exists && is_elsewhere && flight.stanza.kind.is_availability() {
        modules.contact(core, &to.bare(), &flight.stanza)?;
    }
    // What a session leaves behind was accepted before, and is not returned.
    let kind = match flight.stanza.kind {
        Kind::Message(MessageType::Normal | MessageType::Error) if flight.is_copy => Kind::Message(MessageType::Chat),
        kind => kind,
    };
    let verdict = decide(kind, addressee(core, to, exists));
    debug!(target: LOG, "{:?} to {to}: {verdict:?}", flight.stanza.kind);
    // A refusal of ours tells its sender at once, and nobody has said it.
    if exists
        && flight.filters != Filters::None
        && matches!(flight.stanza.kind, Kind::Message(_))
        && !matches!(verdict, Verdict::Bounce(_) | Verdict::Drop)
    {
        modules.archive(core, Dir::Received, flight)?;
    }
    let reached = match verdict {
        // Only the server itself pushes a roster (RFC 6121 section 2.1.6).
        Verdict::Session if flight.stanza.kind == Kind::Iq(IqType::Set) && has_roster(&flight.stanza) => {
            return Err(Condition::ServiceUnavailable.into());
        }
        Verdict::Session => core.sessions.find(to).into_iter().collect(),
        Verdict::Highest => core.sessions.highest(to),
        Verdict::NonNegative => core.sessions.of_where(to, |s| s.available.as_ref().is_some_and(|a| a.priority >= 0)),
        Verdict::Available => core.sessions.of_where(to, |s| s.available.is_some()),
        Verdict::Account => {
            answer(core, modules, Scope::Account, flight, &to.bare());
            return Ok(());
        }
        Verdict::Subscription => {
            if let Kind::Presence(kind) = flight.stanza.kind {
                core.subscription_in(kind, &flight.stanza)?;
            }
            return Ok(());
        }
        Verdict::Undelivered => {
            undelivered(core, modules, flight)?;
            // Sessions that take no messages for the bare address may still want copies.
            modules.copy(core, Dir::Received, flight, &[]);
            return Ok(());
        }
        Verdict::Bounce(condition) => return Err(condition.into()),
        Verdict::Drop => {
            let is_own = flight.stanza.from.as_ref().is_some_and(|from| from.same_bare(to));
            return match flight.stanza.kind {
                Kind::Iq(IqType::Result | IqType::Error) if is_own || (is_elsewhere && to.is_bare()) => {
                    modules.answered(core, &flight.stanza)
                }
                _ => {
                    dropped(core, flight, "RFC 6121 section 8.5");
                    Ok(())
                }
            };
        }
    };
    if matches!(flight.stanza.kind, Kind::Message(_)) {
        modules.copy(core, Dir::Received, flight, &reached);
    }
    if reached.len() > 1 && flight.tail.is_none() {
        flight.tail = Some(flight.stanza.tail());
    }
    // Where several sessions get a message, it has arrived when one of them has it.
    let arrived = matches!(flight.stanza.kind, Kind::Message(_)) && reached.len() > 1;
    let arrived = arrived.then(Rc::default);
    for id in reached {
        deliver(core, modules, flight.clone(), id, arrived.clone(), out);
    }
    Ok(())
}

fn has_roster(stanza: &Stanza) -> bool {
    stanza.has_child(ns::ROSTER, "query")
}

fn addressee(core: &Core, to: &Jid, exists: bool) -> Addressee {
    if !exists {
        return Addressee::NoAccount;
    }
    if !to.is_bare() && core.sessions.find(to).is_some() {
        return Addressee::FullPresent;
    }
    let priority = |id| core.sessions.get(id).and_then(|s| s.available.as_ref()).map(|a| a.priority);
    let top = core.sessions.of(to).iter().copied().filter_map(priority).max();
    let reachable = top.is_some_and(|p| p >= 0);
    if to.is_bare() {
        Addressee::Bare { reachable, available: top.is_some() }
    } else {
        Addressee::FullAbsent { reachable }
    }
}

fn undelivered(core: &mut Core, modules: &mut Modules, flight: &InFlight) -> Result<(), StanzaError> {
    core.may_write()?;
    let is_archived = |to: &Jid| flight.stanza.archive_id(to.bare_str()).is_some();
    let outcome = modules.undelivered(core, flight)?;
    match outcome {
        Undelivered::NotMine | Undelivered::Refused(_) if flight.stanza.to.as_ref().is_some_and(is_archived) => {
            debug!(target: LOG, "kept for {:?}: in the archive", flight.stanza.to);
            Ok(())
        }
        Undelivered::NotMine => Err(Condition::ServiceUnavailable.into()),
        Undelivered::Refused(error) => Err(error),
        Undelivered::Kept(reason) => {
            debug!(target: LOG, "kept for {:?}: {reason}", flight.stanza.to);
            Ok(())
        }
        Undelivered::Dropped(reason) => {
            dropped(core, flight, reason);
            Ok(())
        }
    }
}

/// Has a request answered by the core or the module that has its route.
fn answer(core: &mut Core, modules: &mut Modules, scope: Scope, flight: &InFlight, owner: &Jid) {
    let stanza = &flight.stanza;
    let Some(child) = stanza.request() else { return };
    let session = stanza.from.as_ref().and_then(|from| core.sessions.find(from));
    let request = Request { stanza, child, owner, session, is_set: matches!(stanza.kind, Kind::Iq(IqType::Set)) };
    // A query of an archive (XEP-0313) is a set that changes nothing.
    let answer = if request.is_set
        && !child.is(ns::MAM, "query")
        && let Err(error) = core.may_write()
    {
        Err(error)
    } else if scope == Scope::Account && child.is(ns::ROSTER, "query") {
        core.roster_request(&request)
    } else if child.is(ns::SESSION, "session") && request.is_set {
        // RFC 3921 section 3, which RFC 6121 made a no-op.
        Ok(Answer::Empty)
    } else {
        modules.iq(core, scope, &request).unwrap_or_else(|| Err(Condition::ServiceUnavailable.into()))
    };
    #[cfg(feature = "commands")]
    let answer = match answer {
        Ok(Answer::Command(call)) => modules.command(core, &call),
        answer => answer,
    };
    let answer = match answer {
        Ok(Answer::Result(_) | Answer::Empty) if request.is_set && scope == Scope::Account => {
            modules.done(core, &request).and(answer)
        }
        answer => answer,
    };
    match answer {
        Ok(Answer::Later) => {}
        Ok(Answer::NotMine) => bounce(core, stanza, &Condition::ServiceUnavailable.into()),
        #[cfg(feature = "commands")]
        Ok(Answer::Command(_)) => bounce(core, stanza, &Condition::ServiceUnavailable.into()),
        Ok(answer) => core.answer(stanza, answer),
        Err(error) => bounce(core, stanza, &error),
    }
}

/// Phase *deliver*: the stanza leaves the pipeline. What is for a session without connection is written, so that it
/// is there after a restart. For a client that nobody looks at modules say what can wait.
fn deliver(
    core: &mut Core,
    modules: &mut Modules,
    flight: InFlight,
    session: SessionId,
    arrived: Option<Rc<Cell<bool>>>,
    out: &mut Vec<Delivery>,
) {
    let InFlight { mut stanza, mut tail, mut promise, mut receipt, mut row, .. } = flight;
    let is_copy = flight.is_copy && row.is_none() && flight.dest != Dest::Address;
    if matches!(stanza.kind, Kind::Message(_)) && row.is_none() {
        modules.deliver(core, session, &stanza);
    }
    let parked = core.sessions.get(session).filter(|s| s.conn.is_none());
    if let Some((jid, id)) = parked.and_then(|s| Some((s.jid.clone(), s.resume_id.clone()?)))
        && row.is_none()
    {
        match core.spool_for(&jid, &id, is_copy, &mut stanza) {
            Ok(None) => {}
            Ok(written) => (row, receipt, tail, promise) = (written, None, None, true),
            Err(error) => log::error!(target: LOG, "a stanza for {jid} is not written: {error}"),
        }
    }
    let is_owed = receipt.is_some() || row.is_some();
    let urgency = match core.sessions.get(session) {
        Some(s) if s.inactive && s.conn.is_some() => match modules.urgency(core, &stanza) {
            // Nothing replaces what somebody waits for.
            Urgency::Last(_) if is_owed => Urgency::Later,
            urgency => urgency,
        },
        _ => Urgency::Now,
    };
    let keep = (is_owed || arrived.is_some()).then(|| {
        let since_ms = core.now.mono_ms;
        Box::new(Keep { receipt, row, since_ms, arrived, ..Keep::default() })
    });
    let tail = Some(tail.unwrap_or_else(|| stanza.tail()));
    let Stanza { kind, to, from, .. } = stanza;
    let parcel = Parcel { kind, to, from, tail, after: Ticket(0), is_copy, read_ms: 0, keep };
    out.push(Delivery { to: Target::Session(session), parcel, promise, urgency });
}

fn stopped(core: &mut Core, flight: &InFlight, flow: Flow) -> bool {
    match flow {
        Flow::Pass => false,
        Flow::Drop(reason) => {
            dropped(core, flight, reason);
            true
        }
        Flow::Bounce(error) => {
            bounce(core, &flight.stanza, &error);
            true
        }
    }
}

fn bounce(core: &mut Core, stanza: &Stanza, error: &StanzaError) {
    debug!(target: LOG, "bounced {:?} to {:?}: {}", stanza.kind, stanza.to, error.condition.as_str());
    core.counters.bounced = core.counters.bounced.wrapping_add(1);
    core.refuse(stanza, error);
}

fn dropped(core: &mut Core, flight: &InFlight, reason: &str) {
    debug!(target: LOG, "dropped {:?} to {:?}: {reason}", flight.stanza.kind, flight.stanza.to);
    core.counters.dropped = core.counters.dropped.wrapping_add(1);
}
