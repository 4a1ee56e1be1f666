//! Ad-hoc commands (XEP-0050) of a host, which this module shows and whose forms it reads, whichever module offers
//! them; and the service's administration (XEP-0133), which is a set of them.
//!
//! A command has one form at most, so there is no stage to go back to or on to. What a session remembers is that its
//! form was shown to that client, and whether it was filled in: each is done once.

mod admin;
mod users;

use super::{IqRoute, Module, Scope, SessionEvent, Xep};
use crate::core::commands::{Call, Offer, Run, Whom};
use crate::core::disco::Disco;
use crate::core::session::SessionId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::command::{self, Action};
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Builder, ns};

section! {
    /// Commands that clients show as forms (XEP-0050), and with them the administration of the server (XEP-0133) for
    /// those whom `admins` or an invitation has made administrators.
    pub struct Config in "modules.commands" {}
}

/// A form that somebody has before him, or had.
#[derive(Debug)]
struct Session {
    id: String,
    /// Full address.
    of: Jid,
    host: String,
    node: &'static str,
    ends_ms: u64,
    is_open: bool,
}

/// The module.
#[derive(Debug, Default)]
pub struct Commands {
    /// In the order in which they began; at most `limits.commands_max` of each client that is here.
    sessions: Vec<Session>,
}

impl Module for Commands {
    const XEPS: &'static [Xep] = &[Xep { number: 50, version: "1.3.0" }, Xep { number: 133, version: "1.3.1" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::COMMANDS];
    const IQ: &'static [IqRoute] = &[
        (Scope::Host, ns::COMMANDS, "command"),
        (Scope::Host, ns::DISCO_INFO, "query"),
        (Scope::Host, ns::DISCO_ITEMS, "query"),
    ];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self::default()
    }

    fn reconfigure(&mut self, _: Config) {}

    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.commands.extend(admin::OFFERS);
        disco.commands.extend(users::OFFERS);
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let (child, node) = (request.child, request.child.attr("node"));
        if child.ns() == ns::COMMANDS {
            return self.execute(core, request);
        }
        let Some(node) = node.filter(|_| !request.is_set) else { return Ok(Answer::NotMine) };
        let is_list = node == ns::COMMANDS;
        if child.ns() == ns::DISCO_ITEMS {
            return if is_list { items(core, request) } else { no_items(core, request, node) };
        }
        if is_list {
            return Ok(Answer::Result(command::info(node, "command-list", "Commands")));
        }
        match offered(core, request, node)? {
            Some(offer) => Ok(Answer::Result(command::info(node, "command-node", offer.name))),
            None => Ok(Answer::NotMine),
        }
    }

    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        match users::run(core, call)? {
            Answer::NotMine => admin::run(core, call),
            answer => Ok(answer),
        }
    }

    fn session(&mut self, core: &mut Core, id: SessionId, event: SessionEvent) -> Result<(), StanzaError> {
        if event == SessionEvent::Closed
            && let Some(session) = core.sessions.get(id)
        {
            self.sessions.retain(|known| known.of != session.jid);
            self.sessions.shrink_to(2 * self.sessions.len());
        }
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        // An id has 24 characters; addresses are shared with sessions, names of hosts short.
        const TEXTS_BYTES: usize = 128;
        self.sessions.capacity() * size_of::<Session>() + self.sessions.len() * TEXTS_BYTES
    }
}

/// What somebody may not use he does not see.
fn may(core: &mut Core, request: &Request<'_>, offer: &Offer) -> Result<bool, StanzaError> {
    let (Some(from), Some(_)) = (&request.stanza.from, request.session) else { return Ok(false) };
    Ok(core.standing(request.owner.domain(), from)?.is_some_and(|whom| whom >= offer.whom))
}

/// The commands of a host.
fn offers(core: &Core, request: &Request<'_>) -> Vec<Offer> {
    core.disco.at(request.owner.domain()).map(|disco| disco.commands.clone()).unwrap_or_default()
}

/// The command of a node; none when there is none.
///
/// # Errors
/// `forbidden` for those who may not.
fn offered(core: &mut Core, request: &Request<'_>, node: &str) -> Result<Option<Offer>, StanzaError> {
    let Some(offer) = offers(core, request).into_iter().find(|offer| offer.node == node) else { return Ok(None) };
    match may(core, request, &offer)? {
        true => Ok(Some(offer)),
        false => Err(Condition::Forbidden.because("This command is for others.")),
    }
}

/// Section 2.2.
fn items(core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
    let mut b = Builder::new(ns::DISCO_ITEMS, "query");
    b.attr("node", ns::COMMANDS);
    for offer in offers(core, request) {
        if may(core, request, &offer)? {
            b.open(ns::DISCO_ITEMS, "item").attr("jid", request.owner.as_str());
            b.attr("node", offer.node).attr("name", offer.name).close();
        }
    }
    Ok(Answer::Result(b.finish()))
}

/// A command has no items.
fn no_items(core: &mut Core, request: &Request<'_>, node: &str) -> Result<Answer, StanzaError> {
    let Some(offer) = offered(core, request, node)? else { return Ok(Answer::NotMine) };
    let mut b = Builder::new(ns::DISCO_ITEMS, "query");
    b.attr("node", offer.node);
    Ok(Answer::Result(b.finish()))
}

impl Commands {
    /// Section 2.4.
    fn execute(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let node = request.child.attr("node").filter(|_| request.is_set);
        let node = node.ok_or_else(|| Condition::BadRequest.because("A command is a set, and names its node."))?;
        let Some(offer) = offered(core, request, node)? else {
            // XEP-0133 section 5.
            let is_admin = node.strip_prefix(ns::ADMIN).is_some_and(|rest| rest.starts_with('#'));
            let missing = if is_admin { Condition::FeatureNotImplemented } else { Condition::ItemNotFound };
            return Err(missing.because("There is no such command."));
        };
        let (Some(from), Some(session)) = (request.stanza.from.clone(), request.session) else {
            return Err(Condition::Forbidden.into());
        };
        let action = command::read(request.child)?;
        let known = match request.child.attr("sessionid") {
            Some(id) => Some(self.find(core, &from, request.owner.domain(), &offer, id)?),
            None => None,
        };
        let values = match action {
            Action::Cancel => {
                let id = known.map_or_else(|| core.token(), |at| self.end(at));
                return Ok(Answer::Result(command::answer(offer.node, &id, "canceled", |_| {})));
            }
            Action::Ask if offer.fields.is_empty() => Some(Vec::new()),
            Action::Ask => None,
            Action::Do(x) => {
                let limits = &core.settings.limits;
                let (addresses_max, text_max) = (limits.command_addresses_max, limits.command_text_bytes_max);
                Some(offer.read(x, addresses_max as usize, text_max as usize)?)
            }
        };
        let is_question = values.is_none();
        let id = match known {
            Some(at) if is_question => self.sessions.get(at).map(|known| known.id.clone()).unwrap_or_default(),
            Some(at) => self.end(at),
            None if is_question => self.begin(core, &from, request.owner.domain(), &offer)?,
            None => core.token(),
        };
        let run = Run { node: offer.node, id };
        if is_question && !offer.is_prefilled {
            return Ok(Answer::Result(run.executing(&offer.form(&[]))));
        }
        let (host, values) = (request.owner.clone(), values.unwrap_or_default());
        let call = Call { offer, host, from, session, run, is_question, values };
        if offer.whom == Whom::Admins && !is_question {
            let of = [call.all("accountjid"), call.all("accountjids")].concat().join(" ");
            log::info!(target: "couplet::commands", "{} runs {} at {} {of}", call.from, offer.node, call.host);
        }
        Ok(Answer::Command(Box::new(call)))
    }

    /// A session that goes on.
    ///
    /// # Errors
    /// `bad-sessionid` for one that is not of this client and command, `session-expired` for one that is over (section
    /// 4.4).
    fn find(&self, core: &Core, of: &Jid, host: &str, offer: &Offer, id: &str) -> Result<usize, StanzaError> {
        let is_it =
            |known: &Session| known.id == id && known.of == *of && known.host == host && known.node == offer.node;
        let Some(at) = self.sessions.iter().position(is_it) else {
            return Err(StanzaError::from(Condition::BadRequest).with_application(ns::COMMANDS, "bad-sessionid"));
        };
        match self.sessions.get(at).is_some_and(|known| known.is_open && known.ends_ms > core.now.mono_ms) {
            true => Ok(at),
            false => Err(StanzaError::from(Condition::NotAllowed).with_application(ns::COMMANDS, "session-expired")),
        }
    }

    /// The session is over; returns its id.
    fn end(&mut self, at: usize) -> String {
        let Some(session) = self.sessions.get_mut(at) else { return String::new() };
        session.is_open = false;
        session.id.clone()
    }

    /// A form is shown; returns the id of its session.
    ///
    /// # Errors
    /// `resource-constraint` when memory is short.
    fn begin(&mut self, core: &mut Core, of: &Jid, host: &str, offer: &Offer) -> Result<String, StanzaError> {
        core.may_hold("commands", self.held_bytes())?;
        let (now_ms, limits) = (core.now.mono_ms, core.settings.limits.clone());
        let timeout_ms = u64::from(limits.command_timeout_s) * 1000;
        // What is over is remembered as long again, so that its client hears of that.
        self.sessions.retain(|known| known.ends_ms.saturating_add(timeout_ms) > now_ms);
        let own: Vec<usize> =
            self.sessions.iter().enumerate().filter(|(_, known)| known.of == *of).map(|(at, _)| at).collect();
        if own.len() >= (limits.commands_max as usize).max(1)
            && let Some(oldest) = own.first()
        {
            self.sessions.remove(*oldest);
        }
        let id = core.token();
        let ends_ms = now_ms + timeout_ms;
        let (of, host) = (of.clone(), host.to_string());
        self.sessions.push(Session { id: id.clone(), of, host, node: offer.node, ends_ms, is_open: true });
        Ok(id)
    }
}
