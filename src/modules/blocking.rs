//! Blocking command (XEP-0191). The first module of all: what is blocked is seen by none behind it.

use super::{IqRoute, Module, Scope, SessionEvent, TableInfo, Xep};
use crate::core::flight::{Filters, Flow, InFlight};
use crate::core::session::SessionId;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::{Builder, ns};
use std::collections::BTreeSet;

section! {
    /// Blocking command (XEP-0191).
    pub struct Config in "modules.blocking" {}
}

crate::record! {
    /// Blocked addresses, as prepared texts, sorted.
    pub struct List { pub jids: Vec<String> }
}

/// Owner: the account. One row, no sub key, so that a stanza costs one look-up.
pub struct Blocklists;
impl Table for Blocklists {
    const ID: u8 = 19;
    const NAME: &'static str = "blocklists";
    type Value = List;
}

/// The module.
pub struct Blocking {
    /// Sessions that have asked for the list and so get pushes (section 3.2).
    interested: BTreeSet<SessionId>,
}

impl Module for Blocking {
    const XEPS: &'static [Xep] = &[Xep { number: 191, version: "1.3" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::BLOCKING];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Blocklists::ID, name: Blocklists::NAME }];
    const IQ: &'static [IqRoute] = &[
        (Scope::Account, ns::BLOCKING, "blocklist"),
        (Scope::Account, ns::BLOCKING, "block"),
        (Scope::Account, ns::BLOCKING, "unblock"),
    ];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self { interested: BTreeSet::new() }
    }

    fn reconfigure(&mut self, _: Config) {}

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (true, Some(session)) = (request.is_own(), request.session) else {
            return Err(Condition::NotAllowed.into());
        };
        match (request.child.name(), request.is_set) {
            ("blocklist", false) => {
                self.interested.insert(session);
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
        if from.same_bare(to) || !is_blocked(core, from, to)? {
            return Ok(Flow::Pass);
        }
        Ok(match flight.stanza.kind {
            // Of what the server sends by itself nobody needs to hear that it was blocked.
            Kind::Presence(_) if flight.origin.is_none() => Flow::Drop("to a blocked address"),
            Kind::Presence(PresenceType::Unavailable | PresenceType::Error) => Flow::Drop("to a blocked address"),
            Kind::Message(MessageType::Error) | Kind::Iq(IqType::Result | IqType::Error) => {
                Flow::Drop("to a blocked address")
            }
            // Section 3.5.
            Kind::Message(_) | Kind::Iq(_) | Kind::Presence(_) => Flow::Bounce(
                StanzaError::from(Condition::NotAcceptable).with_application(ns::BLOCKING_ERRORS, "blocked"),
            ),
        })
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let (Some(from), Some(to)) = (&flight.stanza.from, &flight.stanza.to) else { return Ok(Flow::Pass) };
        if from.same_bare(to) || !is_blocked(core, to, from)? {
            return Ok(Flow::Pass);
        }
        // Section 3.4: as if the account were offline for the sender.
        Ok(match flight.stanza.kind {
            Kind::Presence(_) => Flow::Drop("from a blocked address"),
            Kind::Message(MessageType::Error | MessageType::Groupchat | MessageType::Headline) => {
                Flow::Drop("from a blocked address")
            }
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
}

impl Blocking {
    /// Section 3.3.
    fn block(&self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let named = named(request)?;
        if named.is_empty() {
            return Err(Condition::BadRequest.because("No address is named."));
        }
        if named.iter().any(|jid| jid.bare_str() == request.owner.bare_str()) {
            return Err(Condition::NotAllowed.because("An account cannot block itself."));
        }
        let mut list = blocked(core, request.owner)?;
        let added: Vec<Jid> = named.into_iter().filter(|jid| !list.contains(jid.as_str())).collect();
        list.extend(added.iter().map(|jid| jid.as_str().to_string()));
        if list.len() > core.settings.limits.blocklist_max as usize {
            return Err(Condition::ResourceConstraint.because("The list of blocked addresses is full."));
        }
        // Those who see the account see it leave.
        for contact in seen_by(core, request.owner, &added)? {
            core.presence_withdraw(request.owner, &contact, Filters::In);
        }
        core.presence_undirect(request.owner, |to| added.iter().any(|jid| covers(jid, to)));
        put(core, request.owner, &list);
        self.push(core, request.owner, "block", &added);
        Ok(Answer::Empty)
    }

    /// Section 3.6; without items, of all.
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
        self.push(core, request.owner, "unblock", &named);
        Ok(Answer::Empty)
    }

    /// Tells all interested sessions.
    fn push(&self, core: &mut Core, owner: &Jid, name: &str, jids: &[Jid]) {
        let sessions: Vec<_> = core.sessions.of(owner).iter().copied().filter(|s| self.interested.contains(s)).collect();
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

/// Addresses that the request names.
fn named(request: &Request<'_>) -> Result<Vec<Jid>, StanzaError> {
    let mut jids = Vec::new();
    for item in request.child.children().filter(|c| c.is(ns::BLOCKING, "item")) {
        match item.attr("jid").map(Jid::parse) {
            Some(Ok(jid)) => jids.push(jid),
            Some(Err(_)) => return Err(Condition::JidMalformed.into()),
            None => return Err(Condition::BadRequest.into()),
        }
    }
    Ok(jids)
}

fn blocked(core: &mut Core, account: &Jid) -> Result<BTreeSet<String>, StoreError> {
    let list = core.view.get::<Blocklists>(account.bare_str(), b"")?;
    Ok(list.map(|l| l.jids.into_iter().collect()).unwrap_or_default())
}

fn put(core: &mut Core, account: &Jid, list: &BTreeSet<String>) {
    if list.is_empty() {
        core.view.delete::<Blocklists>(account.bare_str(), b"");
    } else {
        let jids = list.iter().cloned().collect();
        core.view.put::<Blocklists>(account.bare_str(), b"", &List { jids });
    }
}

/// Section 3.1: a full address, a bare one, a domain with resource or a domain, whichever is in the list.
fn is_blocked(core: &mut Core, account: &Jid, other: &Jid) -> Result<bool, StoreError> {
    let Some(list) = core.view.get::<Blocklists>(account.bare_str(), b"")? else { return Ok(false) };
    let domain_resource = other.resource().map(|r| format!("{}/{r}", other.domain()));
    let matches = |jid: &String| {
        jid == other.as_str()
            || jid == other.bare_str()
            || jid == other.domain()
            || domain_resource.as_ref() == Some(jid)
    };
    Ok(list.jids.iter().any(matches))
}

/// True when blocking `jid` concerns that contact.
fn covers(jid: &Jid, contact: &Jid) -> bool {
    jid.bare_str() == contact.bare_str() || (jid.node().is_none() && jid.domain() == contact.domain())
}

/// Contacts that see the account's presence and are covered by the addresses.
fn seen_by(core: &mut Core, account: &Jid, jids: &[Jid]) -> Result<Vec<Jid>, StoreError> {
    let roster = core.roster(account.bare_str())?;
    Ok(roster
        .into_iter()
        .filter(|(contact, item)| item.from && jids.iter().any(|jid| covers(jid, contact)))
        .map(|(contact, _)| contact)
        .collect())
}

fn items(list: &BTreeSet<String>, b: &mut Builder) {
    for jid in list {
        b.open(ns::BLOCKING, "item").attr("jid", jid).close();
    }
}
