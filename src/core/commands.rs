//! Ad-hoc commands (XEP-0050) as modules offer them: a host's, of one form at most.
//!
//! A module names its commands in [`Disco::commands`](super::disco::Disco), and one of them comes to its hook
//! [`Module::command`](crate::modules::Module::command) when somebody who may has filled in its form as the command
//! asks for it.

use super::Core;
use super::flight::InFlight;
use super::register::Ask;
use super::session::SessionId;
use super::{Answer, admin};
use crate::jid::Jid;
use crate::stanza::form::{self, Values};
use crate::stanza::{self, Condition, MessageType, Stanza, StanzaError, command};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef, ns};
use std::fmt;
use zeroize::Zeroize;

/// Who sees a command and may use it. Both have logged in here: an administrator whose account is elsewhere would have
/// nothing but the word of his server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// Accounts of the host.
    Users,
    /// Its administrators.
    Admins,
}

/// What the values of a field must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line.
    Text,
    /// Any number of lines.
    Lines,
    /// One line that nobody is to read over a shoulder, and no log has.
    Secret,
    /// One address.
    Address,
    /// One address or more, `limits.command_addresses_max` at most.
    Addresses,
    /// True or false.
    Flag,
    /// One of these: value and label.
    Choice(&'static [(&'static str, &'static str)]),
}

/// A field of a command's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub var: &'static str,
    /// What stands in it.
    pub kind: Kind,
    /// For people.
    pub label: &'static str,
    /// It cannot be left empty.
    pub is_required: bool,
}

/// A command that a module offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name for programs, unique on a host.
    pub node: &'static str,
    /// For people; also above the form.
    pub name: &'static str,
    /// To whom.
    pub whom: Whom,
    /// What kind of form (XEP-0068); empty for a form that no specification has named.
    pub form_type: &'static str,
    /// What has to be filled in. Without any the command is done at once.
    pub fields: &'static [Field],
    /// The module is asked what stands in the fields before they are filled in: see [`Call::is_question`].
    pub is_prefilled: bool,
}

/// What an answer says of the command that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Node of the command.
    pub node: &'static str,
    /// Its session (XEP-0050 section 3.3).
    pub id: String,
}

/// Somebody who may has a command done.
pub struct Call {
    /// Which.
    pub offer: Offer,
    /// Of which host.
    pub host: Jid,
    /// Who: a full address.
    pub from: Jid,
    /// With which session.
    pub session: SessionId,
    /// For the answer.
    pub run: Run,
    /// He wants to see the form first: the answer is [`Call::form`], with what stands in it. Only where
    /// [`Offer::is_prefilled`] says so.
    pub is_question: bool,
    /// What was filled in, as [`Offer::fields`] ask for it.
    pub values: Vec<Values>,
}

/// What an administrator wants that no module can do alone.
#[derive(Debug)]
pub enum Act {
    /// What an operator can ask for, too.
    Operator(admin::Command),
    /// End these sessions, or all of these accounts.
    EndSessions(Vec<Jid>),
    /// End the process in so many seconds; `again` for its supervisor to start it anew.
    Stop {
        /// A restart.
        again: bool,
        /// From now.
        delay_s: u32,
    },
}

impl Offer {
    /// Reads the form that was filled in.
    ///
    /// # Errors
    /// `bad-request` with `bad-payload` (section 4.4).
    pub fn read(&self, x: ElementRef<'_>, addresses_max: usize, text_max: usize) -> Result<Vec<Values>, StanzaError> {
        // Section 3.6.1: a form that is taken back is one that is submitted.
        if !matches!(x.attr("type"), Some("submit" | "cancel")) {
            return Err(bad_payload("A form of type submit is wanted."));
        }
        let mut values = form::fields(x).map_err(|error| StanzaError { application: payload(), ..error })?;
        if let Some(at) = values.iter().position(|(var, _)| var == "FORM_TYPE")
            && values.remove(at).1 != [self.form_type]
        {
            return Err(bad_payload("The form has another FORM_TYPE than is wanted here."));
        }
        if values.iter().any(|(var, _)| self.fields.iter().all(|field| field.var != var)) {
            return Err(bad_payload("The form has a field that was not asked for."));
        }
        for field in self.fields {
            let found = values.iter_mut().find(|(var, _)| var == field.var).map(|(_, values)| values);
            let is_empty = found.as_ref().is_none_or(|values| values.iter().all(|value| value.trim().is_empty()));
            match (found, is_empty) {
                (_, true) if field.is_required => return Err(bad_payload("A field of the form is missing.")),
                (Some(values), true) => values.clear(),
                (None, _) => {}
                (Some(values), false) => field.check(values, addresses_max, text_max)?,
            }
        }
        Ok(values)
    }

    /// The form, with what stands in some of its fields.
    pub fn form(&self, filled: &[(&str, Vec<String>)]) -> Element {
        let mut b = Builder::new(ns::DATA, "x");
        b.attr("type", "form").leaf(ns::DATA, "title", self.name);
        if !self.form_type.is_empty() {
            b.open(ns::DATA, "field").attr("var", "FORM_TYPE").attr("type", "hidden");
            b.leaf(ns::DATA, "value", self.form_type).close();
        }
        for field in self.fields {
            b.open(ns::DATA, "field").attr("var", field.var).attr("type", field.kind.name()).attr("label", field.label);
            if field.is_required {
                b.open(ns::DATA, "required").close();
            }
            for value in filled.iter().filter(|(var, _)| *var == field.var).flat_map(|(_, values)| values) {
                b.leaf(ns::DATA, "value", value);
            }
            if let Kind::Choice(options) = field.kind {
                for (value, label) in options {
                    b.open(ns::DATA, "option").attr("label", label).leaf(ns::DATA, "value", value).close();
                }
            }
            b.close();
        }
        b.finish()
    }
}

impl Kind {
    /// XEP-0004 section 3.3.
    fn name(self) -> &'static str {
        match self {
            Kind::Text => "text-single",
            Kind::Lines => "text-multi",
            Kind::Secret => "text-private",
            Kind::Address => "jid-single",
            Kind::Addresses => "jid-multi",
            Kind::Flag => "boolean",
            Kind::Choice(_) => "list-single",
        }
    }
}

impl Field {
    /// Whether values that are not all empty fit. Addresses stand prepared in their places afterwards, each once.
    fn check(&self, values: &mut Vec<String>, addresses_max: usize, text_max: usize) -> Result<(), StanzaError> {
        if values.len() > 1 && !matches!(self.kind, Kind::Lines | Kind::Addresses) {
            return Err(bad_payload("A field of the form has several values."));
        }
        if values.iter().map(String::len).sum::<usize>() > text_max && self.kind != Kind::Addresses {
            return Err(bad_payload("A field of the form is too long."));
        }
        let fits = match self.kind {
            Kind::Text | Kind::Secret | Kind::Lines => true,
            Kind::Flag => form::boolean(values).is_some(),
            Kind::Choice(options) => values.iter().all(|value| options.iter().any(|(known, _)| known == value)),
            Kind::Address | Kind::Addresses => {
                let mut addresses = Vec::with_capacity(values.len().min(addresses_max));
                for value in values.drain(..).filter(|value| !value.trim().is_empty()) {
                    let address = Jid::parse(value.trim()).map_err(|_| bad_payload("A field is no address."))?;
                    if !addresses.iter().any(|known| known == address.as_str()) {
                        addresses.push(address.as_str().to_string());
                    }
                    if addresses.len() > addresses_max {
                        return Err(bad_payload("A field of the form has too many addresses."));
                    }
                }
                *values = addresses;
                true
            }
        };
        if fits { Ok(()) } else { Err(bad_payload("A field of the form has a value that it cannot have.")) }
    }
}

fn payload() -> Option<Box<Element>> {
    Some(Box::new(Element::empty(ns::COMMANDS, "bad-payload")))
}

/// A form that cannot be taken, and why.
pub fn bad_payload(why: &'static str) -> StanzaError {
    StanzaError { application: payload(), ..Condition::BadRequest.because(why) }
}

impl Run {
    /// The answer that ends the command, with what `payload` adds.
    pub fn completed(&self, payload: impl FnOnce(&mut Builder)) -> Element {
        command::answer(self.node, &self.id, "completed", payload)
    }

    /// The same with a note of a type (`info`, `warn`, `error`: section 4.3).
    pub fn noted(&self, kind: &str, text: &str) -> Element {
        self.completed(|b| note(b, kind, text))
    }

    /// The answer that shows a form.
    pub fn executing(&self, form: &Element) -> Element {
        command::answer(self.node, &self.id, "executing", |b| b.copy(form.root()))
    }
}

/// Adds a note.
pub fn note(b: &mut Builder, kind: &str, text: &str) {
    b.open(ns::COMMANDS, "note").attr("type", kind);
    b.text(text);
    b.close();
}

impl Call {
    /// All values of a field.
    pub fn all(&self, var: &str) -> &[String] {
        self.values.iter().find(|(name, _)| name == var).map_or(&[], |(_, values)| values)
    }

    /// The value of a field of one; empty without.
    pub fn text(&self, var: &str) -> &str {
        self.all(var).first().map_or("", String::as_str)
    }

    /// A text of several lines.
    pub fn lines(&self, var: &str) -> String {
        self.all(var).join("\n")
    }

    /// The accounts that a field names, of this host.
    ///
    /// # Errors
    /// `not-allowed` for those of others, `item-not-found` for one that is not there; when storage cannot be read.
    pub fn accounts(&self, core: &mut Core, var: &str) -> Result<Vec<Jid>, StanzaError> {
        let mut accounts = Vec::new();
        for text in self.all(var) {
            let account = self.account(text)?;
            if !core.account_exists(&account)? {
                return Err(Condition::ItemNotFound.because("There is no such account."));
            }
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// The address of an account of this host, which may not be there, or of one of its sessions.
    ///
    /// # Errors
    /// `not-allowed` for another address.
    pub fn account(&self, text: &str) -> Result<Jid, StanzaError> {
        let account = Jid::parse(text).map_err(|_| bad_payload("A field is no address."))?;
        match account.node().is_some() && account.domain() == self.host.domain() {
            true => Ok(account),
            false => Err(Condition::NotAllowed.because("Each host is asked for its own accounts.")),
        }
    }

    /// The answer with the form, for [`Call::is_question`].
    pub fn form(&self, filled: &[(&str, Vec<String>)]) -> Answer {
        Answer::Result(self.run.executing(&self.offer.form(filled)))
    }

    /// The answer that ends the command with a form of type result, made of fields with their values.
    pub fn result(&self, form_type: &str, fields: &[(&str, &str, Vec<String>)]) -> Answer {
        Answer::Result(self.run.completed(|b| {
            form::open(b, "result", form_type);
            for (var, kind, values) in fields {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                form::field(b, var, kind, "", &[], &values);
            }
            b.close();
        }))
    }

    /// The answer that ends the command with a note for people.
    pub fn done(&self, text: &str) -> Answer {
        Answer::Result(self.run.noted("info", text))
    }

    /// Leaves it to the engine, which answers with a note.
    pub fn act(&self, core: &mut Core, act: Act) -> Answer {
        core.ask = Some(Ask::Administer(act, self.run.clone()));
        Answer::Later
    }
}

impl fmt::Debug for Call {
    /// Shows nothing of what was filled in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("node", &self.offer.node).field("from", &self.from).finish_non_exhaustive()
    }
}

/// A form may have had a password in it.
impl Drop for Call {
    fn drop(&mut self) {
        self.values.iter_mut().flat_map(|(_, values)| values).for_each(Zeroize::zeroize);
    }
}

impl Core {
    /// To whom of [`Whom`] somebody belongs who asks a host; none for others. One whom an invitation has made an
    /// administrator is that of his own host alone.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn standing(&mut self, host: &str, from: &Jid) -> Result<Option<Whom>, StoreError> {
        let is_own = from.domain() == host;
        let is_admin = match is_own {
            true => self.is_admin(from)?,
            false => self.settings.admins.iter().any(|admin| admin.same_bare(from)),
        };
        Ok(if is_admin { Some(Whom::Admins) } else { is_own.then_some(Whom::Users) })
    }

    /// Tells a text to the clients that are available at these hosts; says how many they are.
    pub fn announce(&mut self, hosts: &[String], text: &str) -> usize {
        let mut number = 0;
        for host in hosts {
            let Ok(from) = Jid::parse(host) else { continue };
            let kind = stanza::Kind::Message(MessageType::Headline);
            let message = Stanza::build(kind, |b| _ = b.leaf(ns::CLIENT, "body", text)).addressed(Some(from), None);
            let tail = message.tail();
            for id in self.sessions.ids() {
                let Some(session) = self.sessions.get(id) else { continue };
                if session.jid.domain() == host && session.available.is_some() {
                    let stanza = Stanza { to: Some(session.jid.clone()), ..message.clone() };
                    let flight = InFlight { tail: Some(tail.clone()), ..InFlight::promising(stanza) };
                    self.send(flight.to_session(id));
                    number += 1;
                }
            }
        }
        number
    }
}
