//! In-band registration (XEP-0077): accounts for strangers, passwords and the end for those who have one; and
//! registration with the token of an invitation (XEP-0445).

use super::{IqRoute, Module, Scope, Xep};
use crate::core::flight::InFlight;
use crate::core::register::{Ask, NewPassword, Newcomer, Purpose, Stranger, Visit};
#[cfg(feature = "commands")]
use crate::core::{
    commands::{Call, Field, Offer},
    disco::Disco,
    notices::{field, offer},
    settings::Settings,
};
use crate::core::{Answer, Core, Request};
use crate::jid::{self, Jid};
use crate::setting::{Seconds, section};
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError, form};
use crate::stream::sasl::keys::prepare_password;
use crate::xml::{Builder, Element, ElementRef, ns};
use std::collections::VecDeque;
use std::net::IpAddr;
use zeroize::Zeroizing;

section! {
    /// Registration by clients (XEP-0077), with an invitation (XEP-0445) or without.
    pub struct Config in "modules.register" {
        /// Let anybody make an account. Without it, only who has an invitation of `couplet invite` can.
        pub open: bool = false,
        /// Accounts that can be made from one network address (of IPv6: one /64) in a period; 0 is any number.
        /// Invitations have a limit of their own.
        pub per_address: u32 = 3,
        /// That period.
        pub period: Seconds = Seconds(3600),
        /// Usernames that nobody gets without an invitation that names them.
        pub reserved: Vec<String> = reserved(),
        /// What clients show above the form.
        pub instructions: String = "Choose a username and password for use with this service.".to_string(),
        /// A message to each new account, in which $username and $host stand for its address; empty sends none. An
        /// administrator's command can say something else, until another deletes that.
        pub welcome: String = String::new(),
        /// Addresses that get a message about each new account.
        pub notify: Vec<String> = Vec::new() => |addresses: &Vec<String>| are_addresses(addresses),
        /// Let users change their passwords.
        pub change_password: bool = true,
        /// Let users delete their accounts.
        pub delete_account: bool = true,
    }
}

/// Names that people take for the server's (RFC 2142 and custom).
fn reserved() -> Vec<String> {
    let names = [
        "abuse", "admin", "administrator", "hostmaster", "info", "noc", "noreply", "postmaster", "root", "security",
        "support", "sysadmin", "system", "webmaster", "xmpp",
    ];
    names.map(str::to_string).to_vec()
}

fn are_addresses(addresses: &[String]) -> Result<(), String> {
    match addresses.iter().find(|address| Jid::parse(address).is_err()) {
        Some(address) => Err(format!("\"{address}\" is no address; write for example \"romeo@example.org\"")),
        None => Ok(()),
    }
}

#[cfg(feature = "commands")]
const VAR: &str = "welcome";
#[cfg(feature = "commands")]
const TEXT: [Field; 1] = field(VAR, "Welcome message");
/// XEP-0133 sections 4.27 and 4.28.
#[cfg(feature = "commands")]
const OFFERS: [Offer; 2] = [
    offer("http://jabber.org/protocol/admin#set-welcome", "Set the welcome message", &TEXT, true),
    offer("http://jabber.org/protocol/admin#delete-welcome", "Delete the welcome message", &[], false),
];

const FORM: &str = "jabber:iq:register";
const FORM_CHANGE: &str = "jabber:iq:register:changepassword";

/// The module.
pub struct Register {
    config: Config,
    /// When accounts were made from where, in order; at most `limits.register_recent_max`.
    recent: VecDeque<(u64, IpAddr)>,
}

impl Module for Register {
    const XEPS: &'static [Xep] = &[Xep { number: 77, version: "2.4" }, Xep { number: 445, version: "0.2.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::REGISTER];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::REGISTER, "query"), (Scope::Account, ns::REGISTER, "query")];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config, recent: VecDeque::new() }
    }

    fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Section 8, and XEP-0445 section 3. Where nobody can register, nothing is said of it.
    fn offers(&self, core: &mut Core, host: &str, out: &mut Vec<Element>) {
        let invites = core.has_invites(host).unwrap_or_else(|error| {
            log::error!(target: "couplet::register", "{error}");
            false
        });
        if invites {
            out.push(Element::empty(ns::REGISTER_TOKEN, "register"));
            out.push(Element::empty(ns::INVITE, "register"));
        }
        if invites || self.config.open {
            out.push(Element::empty(ns::REGISTER_FEATURE, "register"));
        }
    }

    fn stranger(
        &mut self,
        core: &mut Core,
        request: &Stranger<'_>,
        visit: &mut Visit,
    ) -> Result<Answer, StanzaError> {
        let host = request.host.domain();
        if !self.config.open && visit.token.is_none() && !core.has_invites(host)? {
            return Ok(Answer::NotMine);
        }
        if request.child.is(ns::PRE_AUTHENTICATION, "preauth") && request.is_set {
            let token = request.child.attr("token").unwrap_or_default();
            if core.invite(host, token)?.is_none() {
                // XEP-0445 section 4.
                return Err(Condition::ItemNotFound.because("The provided token is invalid or expired."));
            }
            visit.token = Some(token.to_string());
            return Ok(Answer::Empty);
        }
        if !request.child.is(ns::REGISTER, "query") {
            return Ok(Answer::NotMine);
        }
        if request.is_set {
            return self.register(core, request, visit);
        }
        let fixed = match &visit.token {
            Some(token) => core.invite_shown(host, token)?.and_then(|invite| invite.user),
            None => None,
        };
        if !self.config.open && visit.token.is_none() {
            // Section 5: instructions alone say that there is no way here.
            let mut b = Builder::new(ns::REGISTER, "query");
            b.leaf(ns::REGISTER, "instructions", "Accounts of this server are made by invitation.");
            return Ok(Answer::Result(b.finish()));
        }
        visit.has_form = true;
        Ok(Answer::Result(self.form(fixed.as_deref())))
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let from = request.stanza.from.as_ref().filter(|from| from.domain() == request.owner.domain());
        let (Some(account), Some(_)) = (from.map(Jid::bare), request.session) else {
            return Err(Condition::ServiceUnavailable.into());
        };
        if request.owner.node().is_some() && !request.is_own() {
            return Err(Condition::ServiceUnavailable.into());
        }
        let query = request.child;
        let user = account.node().unwrap_or_default();
        if !request.is_set {
            let mut b = Builder::new(ns::REGISTER, "query");
            b.open(ns::REGISTER, "registered").close();
            b.leaf(ns::REGISTER, "instructions", "You have an account here. Choose another password for it.");
            b.leaf(ns::REGISTER, "username", user).leaf(ns::REGISTER, "password", "");
            return Ok(Answer::Result(b.finish()));
        }
        if query.has_child(ns::REGISTER, "remove") {
            return self.remove(core, query);
        }
        if !self.config.change_password {
            return Err(Condition::NotAllowed.because("Passwords are not changed this way here."));
        }
        let Some(fields) = Fields::read(query)? else { return Ok(Answer::Empty) };
        // Section 3.3: the password stays as it is.
        if fields.user.is_empty() || fields.password.is_empty() {
            return Err(Condition::BadRequest.because("Username and password are wanted."));
        }
        if jid::prepare_node(&fields.user).as_deref() != Ok(user) {
            return Err(Condition::BadRequest.because("This is not your username."));
        }
        let password = prepared(&fields.password)?;
        let new = NewPassword { account, password, purpose: Purpose::Change, token: None };
        core.ask = Some(Ask::Password(new));
        Ok(Answer::Later)
    }

    #[cfg(feature = "commands")]
    fn disco(&self, _: &Settings, _: &str, disco: &mut Disco) {
        disco.commands.extend(OFFERS);
    }

    #[cfg(feature = "commands")]
    fn command(&mut self, core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
        match OFFERS.contains(&call.offer) {
            true => core.notice_command(call, VAR, &self.config.welcome, false),
            false => Ok(Answer::NotMine),
        }
    }

    fn registered(&mut self, core: &mut Core, newcomer: &Newcomer) -> Result<(), StanzaError> {
        let account = &newcomer.account;
        let (user, host) = (account.node().unwrap_or_default(), account.domain());
        let welcome = self.welcome(core, host)?;
        let Ok(from) = Jid::parse(host) else { return Ok(()) };
        let mut tell = |to: Jid, text: &str| {
            let message = Stanza::build(Kind::Message(MessageType::Normal), |b| _ = b.leaf(ns::CLIENT, "body", text));
            core.send(InFlight::promising(message.addressed(Some(from.clone()), Some(to))));
        };
        if !welcome.is_empty() {
            tell(account.clone(), &welcome.replace("$username", user).replace("$host", host));
        }
        for to in self.config.notify.iter().filter_map(|to| Jid::parse(to).ok()) {
            tell(to, &format!("{account} has just been registered from {}.", newcomer.peer));
        }
        Ok(())
    }
}

impl Register {
    /// What new accounts of a host are told.
    #[cfg(feature = "commands")]
    fn welcome(&self, core: &mut Core, host: &str) -> Result<String, StanzaError> {
        Ok(core.notice(host, VAR)?.unwrap_or_else(|| self.config.welcome.clone()))
    }

    /// What new accounts of a host are told.
    #[cfg(not(feature = "commands"))]
    fn welcome(&self, _: &mut Core, _: &str) -> Result<String, StanzaError> {
        Ok(self.config.welcome.clone())
    }

    /// Section 3.1: the fields for old clients and the form for all others.
    fn form(&self, user: Option<&str>) -> Element {
        let mut b = Builder::new(ns::REGISTER, "query");
        b.leaf(ns::REGISTER, "instructions", &self.config.instructions);
        b.leaf(ns::REGISTER, "username", user.unwrap_or_default()).leaf(ns::REGISTER, "password", "");
        form::open(&mut b, "form", FORM);
        b.leaf(ns::DATA, "title", "Creating a new account");
        b.leaf(ns::DATA, "instructions", &self.config.instructions);
        for (var, kind, label) in [("username", "text-single", "Username"), ("password", "text-private", "Password")] {
            b.open(ns::DATA, "field").attr("var", var).attr("type", kind).attr("label", label);
            if let Some(user) = user.filter(|_| var == "username") {
                b.leaf(ns::DATA, "value", user);
            }
            b.open(ns::DATA, "required").close().close();
        }
        b.finish()
    }

    /// Somebody wants an account.
    fn register(
        &mut self,
        core: &mut Core,
        request: &Stranger<'_>,
        visit: &Visit,
    ) -> Result<Answer, StanzaError> {
        let host = request.host.domain();
        if request.child.has_child(ns::REGISTER, "remove") {
            // Section 3.2: nobody is known yet.
            return Err(Condition::UnexpectedRequest.because("Log in first."));
        }
        if visit.has_registered {
            // Section 3.1.1.
            return Err(Condition::NotAcceptable.because("You have registered already. Log in."));
        }
        let invite = match &visit.token {
            Some(token) => {
                let gone = || Condition::ItemNotFound.because("The invitation has been used up or taken back.");
                Some(core.invite_shown(host, token)?.ok_or_else(gone)?)
            }
            None if self.config.open => None,
            None => return Err(Condition::NotAllowed.because("Accounts of this server are made by invitation.")),
        };
        let Some(fields) = Fields::read(request.child)? else { return Ok(Answer::Empty) };
        if fields.user.is_empty() || fields.password.is_empty() {
            return Err(Condition::NotAcceptable.because("Username and password are wanted."));
        }
        let unfit = || Condition::NotAcceptable.because("The username has characters that it cannot have.");
        let account = Jid::from_parts(Some(&fields.user), host, None).map_err(|_| unfit())?;
        let user = account.node().ok_or_else(unfit)?;
        let password = prepared(&fields.password)?;
        let fixed = invite.as_ref().and_then(|invite| invite.user.as_deref());
        if fixed.is_some_and(|fixed| fixed != user) {
            return Err(Condition::NotAcceptable.because("The invitation is for another username."));
        }
        let resets = invite.as_ref().is_some_and(|invite| invite.resets);
        if !resets {
            if fixed.is_none() && self.config.reserved.iter().any(|name| name == user) {
                return Err(Condition::NotAcceptable.because("This username is reserved."));
            }
            let taken = || Condition::Conflict.because("The username is taken.");
            if core.account_exists(&account)? || core.invite_reserves(host, user, visit.token.as_deref())? {
                return Err(taken());
            }
            if invite.is_none() {
                self.count(core, request.peer)?;
            }
        }
        let purpose = if resets { Purpose::Change } else { Purpose::Register };
        core.ask = Some(Ask::Password(NewPassword { account, password, purpose, token: visit.token.clone() }));
        Ok(Answer::Later)
    }

    /// One account more from there.
    fn count(&mut self, core: &Core, peer: IpAddr) -> Result<(), StanzaError> {
        if self.config.per_address == 0 {
            return Ok(());
        }
        let (now_ms, place) = (core.now.mono_ms, network(peer));
        let since_ms = now_ms.saturating_sub(u64::from(self.config.period.0) * 1000);
        self.recent.retain(|(at, _)| *at > since_ms);
        let made = self.recent.iter().filter(|(_, from)| *from == place).count();
        if made >= self.config.per_address as usize {
            log::info!(target: "couplet::register", "too many accounts from {peer}");
            return Err(Condition::ResourceConstraint.because("Too many accounts from your address. Try again later."));
        }
        while self.recent.len() >= (core.settings.limits.register_recent_max as usize).max(1) {
            self.recent.pop_front();
        }
        self.recent.push_back((now_ms, place));
        Ok(())
    }

    /// Section 3.2.
    fn remove(&self, core: &mut Core, query: ElementRef<'_>) -> Result<Answer, StanzaError> {
        if query.children().count() != 1 {
            return Err(Condition::BadRequest.because("Nothing stands beside <remove/>."));
        }
        if !self.config.delete_account {
            return Err(Condition::NotAllowed.because("Accounts are not deleted this way here."));
        }
        core.ask = Some(Ask::Delete);
        Ok(Answer::Later)
    }
}

/// What is filled in.
struct Fields {
    user: String,
    password: Zeroizing<String>,
}

impl Fields {
    /// The form if there is one, else the fields (section 6). None for a form that was taken back.
    fn read(query: ElementRef<'_>) -> Result<Option<Self>, StanzaError> {
        let Some(x) = query.child(ns::DATA, "x") else {
            let text = |name| query.child(ns::REGISTER, name).map(|e| e.text()).unwrap_or_default();
            return Ok(Some(Self { user: text("username"), password: Zeroizing::new(text("password")) }));
        };
        if form::is_cancelled(x) {
            return Ok(None);
        }
        let mut fields = form::read(x, FORM).or_else(|_| form::read(x, FORM_CHANGE))?;
        let mut value = |name: &str| {
            let found = fields.iter_mut().find(|(var, values)| var == name && values.len() == 1);
            found.and_then(|(_, values)| values.pop()).unwrap_or_default()
        };
        Ok(Some(Self { user: value("username"), password: Zeroizing::new(value("password")) }))
    }
}

fn prepared(password: &str) -> Result<Zeroizing<String>, StanzaError> {
    prepare_password(password).map_err(|_| Condition::NotAcceptable.because("The password has a forbidden character."))
}

/// What counts as one place: an address of IPv4, or the network that one customer gets of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            IpAddr::from([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_place() {
        let place = |text: &str| network(text.parse().unwrap());
        assert_eq!(place("2001:db8:1:2:3::4"), place("2001:db8:1:2:ffff::"));
        assert_ne!(place("2001:db8:1:2::"), place("2001:db8:1:3::"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
        assert_ne!(place("192.0.2.2"), place("192.0.2.1"));
    }
}
