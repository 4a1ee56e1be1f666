//! Blocking command (XEP-0191), and reports that come with it (XEP-0377). The first module of all: what is blocked is
//! seen by none behind it.

mod report;

use super::{IqRoute, Module, Scope, SessionEvent, TableInfo, Xep};
use crate::core::flat::Flat;
use crate::core::flight::{Filters, Flow, InFlight};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Refusal, Taken, Terms};
use crate::core::roster::{SEEING, SEEN};
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
use crate::fault::{Fault, armed};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::{Builder, ElementRef, ns};
use report::{Recent, Report};
use std::collections::BTreeSet;

section! {
    /// Blocking command (XEP-0191), and reports of spam and abuse that come with it (XEP-0377).
    pub struct Config in "modules.blocking" {
        /// Addresses of the people who get what users report, such as "abuse@example.org"; empty means the
        /// administrators.
        pub report_to: Vec<String> = Vec::new() => |people: &Vec<String>| check(people),
    }
}

fn check(people: &[String]) -> Result<(), String> {
    match people.iter().find(|person| Jid::parse(person).is_err()) {
        None => Ok(()),
        Some(wrong) => Err(format!("\"{wrong}\" is no address; write for example \"abuse@example.org\"")),
    }
}

crate::record! {
    /// Blocked addresses, as prepared texts, sorted.
    pub struct List {
        /// Whole addresses.
        pub jids: Vec<String>,
    }
}

/// Owner: the account. One row, no sub key, so that a stanza costs one look-up.
pub struct Blocklists;
impl Table for Blocklists {
    const ID: u8 = 19;
    const NAME: &'static str = "blocklists";
    const SPARSE: bool = true;
    type Value = List;
}

/// The module.
pub struct Blocking {
    /// Sessions that have asked for the list and so get pushes (section 3.2).
    interested: Flat<SessionId, ()>,
    /// Who gets reports; nobody means the administrators.
    report_to: Vec<Jid>,
    recent: Recent,
}

impl Module for Blocking {
    const XEPS: &'static [Xep] = &[Xep { number: 191, version: "1.3" }, Xep { number: 377, version: "0.4.1" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::BLOCKING, ns::REPORTING];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Blocklists::ID, name: Blocklists::NAME }];
    const IQ: &'static [IqRoute] = &[
        (Scope::Account, ns::BLOCKING, "blocklist"),
        (Scope::Account, ns::BLOCKING, "block"),
        (Scope::Account, ns::BLOCKING, "unblock"),
    ];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { interested: Flat::default(), report_to: people(&config), recent: Recent::default() }
    }

    fn reconfigure(&mut self, config: Config) {
        self.report_to = people(&config);
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (true, Some(session)) = (request.is_own(), request.session) else {
            return Err(Condition::NotAllowed.into());
        };
        match (request.child.name(), request.is_set) {
            ("blocklist", false) => {
                self.interested.insert(session, ());
                let mut b = Builder::new(ns::BLOCKING, "blocklist");
                items(&blocked(core, request.owner)?, &mut b);
                Ok(Answer::Result(b.finish()))
            }
            ("block", true) => self.block(core, request),
            ("unblock", true) => self.unblock(core, request),
            _ => Err(Condition::BadRequest.into()),
        }
    }

    fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let (Some(from), Some(to)) = (&flight.stanza.from, &flight.stanza.to) else { return Ok(Flow::Pass) };
        if from.same_bare(to) || !covers_any(&listed(core, from)?, to) {
            return Ok(Flow::Pass);
        }
        Ok(match flight.stanza.kind {
            // Of what the server sends by itself nobody needs to hear that it was blocked.
            Kind::Presence(_) | Kind::Message(_) if flight.origin.is_none() => Flow::Drop("to a blocked address"),
            Kind::Presence(PresenceType::Error)
            | Kind::Message(MessageType::Error)
            | Kind::Iq(IqType::Result | IqType::Error) => Flow::Drop("to a blocked address"),
            // Section 3.3, example 11.
            Kind::Message(_) | Kind::Iq(_) | Kind::Presence(_) => Flow::Bounce(StanzaError {
                error_type: Some("cancel"),
                ..StanzaError::from(Condition::NotAcceptable).with_application(ns::BLOCKING_ERRORS, "blocked")
            }),
        })
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let (Some(from), Some(to)) = (&flight.stanza.from, &flight.stanza.to) else { return Ok(Flow::Pass) };
        if from.same_bare(to) || armed(Fault::BlockIgnored) {
            return Ok(Flow::Pass);
        }
        let list = listed(core, to)?;
        if !covers_any(&list, from) && !is_invited_by_one_of(&list, &flight.stanza) {
            return Ok(Flow::Pass);
        }
        // Section 3.3: as if the account were offline for the sender.
        Ok(match flight.stanza.kind {
            Kind::Presence(_) => Flow::Drop("from a blocked address"),
            Kind::Message(MessageType::Error | MessageType::Headline) => Flow::Drop("from a blocked address"),
            Kind::Iq(IqType::Result | IqType::Error) => Flow::Drop("from a blocked address"),
            Kind::Message(_) | Kind::Iq(_) => Flow::Bounce(Condition::ServiceUnavailable.into()),
        })
    }

    fn session(&mut self, _: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event == SessionEvent::Closed {
            self.interested.remove(&id);
        }
        Ok(())
    }

    fn session_state(&mut self, _: &mut Core, id: SessionId, _: &[u8], _: &[Jid]) -> Vec<u8> {
        if self.interested.contains_key(&id) { vec![1] } else { Vec::new() }
    }

    fn restore_session(&mut self, _: &mut Core, id: SessionId, state: &[u8]) -> Result<(), StoreError> {
        if !state.is_empty() {
            self.interested.insert(id, ());
        }
        Ok(())
    }

    /// What is blocked there is blocked here as well; nothing is unblocked by that.
    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, _: &mut Terms) -> Outcome {
        let Piece::Blocked(jids) = piece else { return Ok(Taken::NotMine) };
        let old = blocked(core, owner)?;
        let mut list = old.clone();
        list.extend(jids.iter().filter(|jid| !jid.same_bare(owner)).map(|jid| jid.as_str().to_string()));
        if list.len() == old.len() {
            return Ok(Taken::Same);
        }
        if list.len() > core.settings.limits.blocklist_max as usize {
            return Err(Refusal::because("there are more addresses than limits.blocklist_max"));
        }
        put(core, owner, &list);
        Ok(Taken::New)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let list: Vec<Jid> = listed(core, owner)?.iter().filter_map(|jid| Jid::parse(jid).ok()).collect();
        if !list.is_empty() {
            to(Piece::Blocked(list));
        }
        Ok(())
    }
}

impl Blocking {
    /// Section 3.3.
    fn block(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let named = named(request)?;
        if named.is_empty() {
            return Err(Condition::BadRequest.because("No address is named."));
        }
        if named.iter().any(|jid| jid.bare_str() == request.owner.bare_str()) {
            return Err(Condition::NotAllowed.because("An account cannot block itself."));
        }
        let mut list = blocked(core, request.owner)?;
        list.extend(named.iter().map(|jid| jid.as_str().to_string()));
        if list.len() > core.settings.limits.blocklist_max as usize {
            return Err(Condition::ResourceConstraint.because("The list of blocked addresses is full."));
        }
        // Those who see the account see it leave.
        for contact in seen_by(core, request.owner, &named)? {
            core.presence_withdraw(request.owner, &contact, Filters::In);
        }
        core.presence_withdraw_directed(request.owner, |to| named.iter().any(|jid| covers(jid.as_str(), to)));
        put(core, request.owner, &list);
        self.push(core, request.owner, "block", &named);
        for (item, jid) in listed_items(request).zip(&named) {
            if let Some(report) = Report::of(item, jid) {
                self.recent.pass_on(core, request.owner, &report, &self.report_to)?;
            }
        }
        Ok(Answer::Empty)
    }

    /// Section 3.4; without items section 3.5, of all.
    fn unblock(&self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let named = named(request)?;
        let mut list = blocked(core, request.owner)?;
        let removed: Vec<Jid> = if named.is_empty() {
            std::mem::take(&mut list).iter().filter_map(|jid| Jid::parse(jid).ok()).collect()
        } else {
            named.iter().filter(|jid| list.remove(jid.as_str())).cloned().collect()
        };
        put(core, request.owner, &list);
        for contact in seen_by(core, request.owner, &removed)? {
            core.presence_show(request.owner, &contact);
        }
        // What contacts have said meanwhile was dropped, so they are asked.
        for contact in core.contacts(request.owner.bare_str(), SEEN)? {
            if removed.iter().any(|jid| covers(jid.as_str(), &contact)) {
                core.presence_probe(request.owner, &contact);
            }
        }
        self.push(core, request.owner, "unblock", &named);
        Ok(Answer::Empty)
    }

    /// Tells all interested sessions.
    fn push(&self, core: &mut Core, owner: &Jid, name: &str, jids: &[Jid]) {
        let mut sessions = core.sessions.of(owner).to_vec();
        sessions.retain(|session| self.interested.contains_key(session));
        if sessions.is_empty() {
            return;
        }
        let push = Stanza::build(Kind::Iq(IqType::Set), |b| {
            b.open(ns::BLOCKING, name);
            for jid in jids {
                b.open(ns::BLOCKING, "item").attr("jid", jid.as_str()).close();
            }
            b.close();
        });
        let id = core.token();
        core.push(&sessions, &push.addressed(Some(owner.bare()), None).with_id(&id));
    }
}

fn people(config: &Config) -> Vec<Jid> {
    config.report_to.iter().filter_map(|person| Jid::parse(person).ok()).collect()
}

fn listed_items<'a>(request: &Request<'a>) -> impl Iterator<Item = ElementRef<'a>> {
    request.child.children().filter(|c| c.is(ns::BLOCKING, "item"))
}

/// Addresses that the request names.
fn named(request: &Request<'_>) -> Result<Vec<Jid>, StanzaError> {
    let mut jids = Vec::new();
    for item in listed_items(request) {
        match item.attr("jid").map(Jid::parse) {
            Some(Ok(jid)) => jids.push(jid),
            Some(Err(_)) => return Err(Condition::JidMalformed.into()),
            None => return Err(Condition::BadRequest.into()),
        }
    }
    Ok(jids)
}

fn listed(core: &mut Core, account: &Jid) -> Result<Vec<String>, StoreError> {
    Ok(core.view.get::<Blocklists>(account.bare_str(), b"")?.map(|list| list.jids).unwrap_or_default())
}

fn blocked(core: &mut Core, account: &Jid) -> Result<BTreeSet<String>, StoreError> {
    Ok(listed(core, account)?.into_iter().collect())
}

fn put(core: &mut Core, account: &Jid, list: &BTreeSet<String>) {
    if list.is_empty() {
        core.view.delete::<Blocklists>(account.bare_str(), b"");
    } else {
        let jids = list.iter().cloned().collect();
        core.view.put::<Blocklists>(account.bare_str(), b"", &List { jids });
    }
}

/// Section 6: a full address names itself, a bare one all of its resources, a domain all that is of it.
fn covers(blocked: &str, other: &Jid) -> bool {
    blocked == other.as_str() || blocked == other.bare_str() || blocked == other.domain()
}

fn covers_any(list: &[String], other: &Jid) -> bool {
    list.iter().any(|blocked| covers(blocked, other))
}

/// A room passes on invitations (XEP-0045 section 7.8.2); who invites must not get around the list by that.
fn is_invited_by_one_of(list: &[String], stanza: &Stanza) -> bool {
    if list.is_empty() || !matches!(stanza.kind, Kind::Message(_)) {
        return false;
    }
    let invite = stanza.child(ns::MUC_USER, "x").and_then(|x| x.child(ns::MUC_USER, "invite"));
    let from = invite.and_then(|i| i.attr("from")).and_then(|from| Jid::parse(from).ok());
    from.is_some_and(|from| covers_any(list, &from))
}

/// Who sees the account's presence and is named by the addresses: contacts, or single resources of them.
fn seen_by(core: &mut Core, account: &Jid, jids: &[Jid]) -> Result<BTreeSet<Jid>, StoreError> {
    let mut seen = BTreeSet::new();
    for contact in core.contacts(account.bare_str(), SEEING)? {
        if jids.iter().any(|jid| covers(jid.as_str(), &contact)) {
            seen.insert(contact);
        } else {
            seen.extend(jids.iter().filter(|jid| jid.same_bare(&contact)).cloned());
        }
    }
    Ok(seen)
}

fn items(list: &BTreeSet<String>, b: &mut Builder) {
    for jid in list {
        b.open(ns::BLOCKING, "item").attr("jid", jid).close();
    }
}
