//! Invitations (XEP-0379, XEP-0401, XEP-0445): tokens that allow to register an account, to become somebody's
//! contact, or to give an account another password.

use super::Core;
use super::flight::InFlight;
use super::presence::Requests;
use super::roster::Items;
use super::settings::Settings;
use crate::encoding::percent_encoded;
use crate::jid::Jid;
use crate::stanza::{Condition, Kind, PresenceType, Stanza, StanzaError};
use crate::storage::{StoreError, Table};

crate::record! {
    /// What an invitation allows.
    pub struct Invite {
        /// The localpart that must be taken; none leaves the choice.
        pub user: Option<String>,
        /// The account whose contact the invited becomes.
        pub contact: Option<Jid>,
        /// The account exists and gets another password.
        pub resets: bool,
        /// The account becomes one of an administrator.
        pub admin: bool,
        /// How often it can still be used.
        pub uses_left: u32,
        /// In milliseconds since 1970.
        pub expires_ms: u64,
    }
}

/// Owner: the host. Sub key: the token.
pub struct Invites;
impl Table for Invites {
    const ID: u8 = 8;
    const NAME: &'static str = "invites";
    type Value = Invite;
}

/// How long an invitation is kept beyond its end: no stream that has shown it in time (XEP-0445 section 4) lasts longer
/// without a login.
const GRACE_MS: u64 = 3_600_000;

impl Invite {
    /// True when it is somebody's wish for a contact, and not the offer of an account alone.
    pub fn is_roster(&self) -> bool {
        self.contact.is_some() && self.user.is_none() && !self.resets
    }

    /// The link that is given to the invited (XEP-0401 sections 5.1 and 5.4, XEP-0445 section 2).
    pub fn uri(&self, host: &str, token: &str) -> String {
        match (&self.contact, &self.user) {
            (Some(contact), None) if !self.resets => {
                let node = contact.node().unwrap_or_default();
                format!("xmpp:{}@{}?roster;preauth={token};ibr=y", escaped(node), escaped(contact.domain()))
            }
            (_, user) => registration_uri(host, user.as_deref(), token),
        }
    }
}

/// The link that makes an account (XEP-0445 section 2): the one of `user`, or one whose name the invited chooses. The
/// token may be any text.
pub fn registration_uri(host: &str, user: Option<&str>, token: &str) -> String {
    let node = user.map(|user| format!("{}@", escaped(user))).unwrap_or_default();
    format!("xmpp:{node}{}?register;preauth={}", escaped(host), percent_encoded(token, b""))
}

/// Where browsers see an invitation (XEP-0379 section 3.3); none without HTTPS.
#[cfg(feature = "http")]
pub fn page(settings: &Settings, host: &str, token: &str) -> Option<String> {
    let site = settings.url(host)?;
    Some(format!("{}/invite?{token}", site.trim_end_matches('/')))
}

/// Where browsers see an invitation: nowhere without HTTP.
#[cfg(not(feature = "http"))]
pub fn page(_: &Settings, _: &str, _: &str) -> Option<String> {
    None
}

/// A part of an address as RFC 5122 section 2.2 writes it in a URI.
fn escaped(part: &str) -> String {
    // The last three are for addresses of IPv6.
    percent_encoded(part, b"!$()*+,=[]:")
}

impl Core {
    /// Stores an invitation and returns its token; none when `limits.invites_max` of them are open at that host.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite_add(&mut self, host: &str, invite: &Invite) -> Result<Option<String>, StoreError> {
        let now_ms = self.wall_ms();
        let mut open = 0;
        for (token, old) in self.view.list::<Invites>(host, usize::MAX)? {
            if old.expires_ms.saturating_add(GRACE_MS) < now_ms {
                self.view.delete::<Invites>(host, &token);
            } else {
                open += 1;
            }
        }
        if open >= self.settings.limits.invites_max as usize {
            return Ok(None);
        }
        let token = self.token();
        self.view.put::<Invites>(host, token.as_bytes(), invite);
        Ok(Some(token))
    }

    /// The invitations of a host that can be used, with their tokens.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invites(&mut self, host: &str) -> Result<Vec<(String, Invite)>, StoreError> {
        let now_ms = self.wall_ms();
        let rows = self.view.list::<Invites>(host, usize::MAX)?;
        let open = rows.into_iter().filter(|(_, invite)| invite.expires_ms > now_ms);
        Ok(open.filter_map(|(token, invite)| Some((String::from_utf8(token).ok()?, invite))).collect())
    }

    /// The invitation of that token, unless it has expired.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite(&mut self, host: &str, token: &str) -> Result<Option<Invite>, StoreError> {
        let now_ms = self.wall_ms();
        Ok(self.invite_shown(host, token)?.filter(|invite| invite.expires_ms > now_ms))
    }

    /// The invitation of a token that was shown in time: that it has expired since then does not matter (XEP-0445
    /// section 4).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite_shown(&mut self, host: &str, token: &str) -> Result<Option<Invite>, StoreError> {
        self.view.get::<Invites>(host, token.as_bytes())
    }

    /// True when there may be an invitation of a host.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn has_invites(&mut self, host: &str) -> Result<bool, StoreError> {
        Ok(self.view.first::<Invites>(host)?.is_some())
    }

    /// Takes an invitation back. False when there is none of that token.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite_revoke(&mut self, host: &str, token: &str) -> Result<bool, StoreError> {
        let is_there = self.view.contains::<Invites>(host, token.as_bytes())?;
        if is_there {
            self.view.delete::<Invites>(host, token.as_bytes());
        }
        Ok(is_there)
    }

    /// Whether a localpart is kept for somebody who is invited to take it (XEP-0401 section 6.2), with another token
    /// than this one.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite_reserves(&mut self, host: &str, user: &str, token: Option<&str>) -> Result<bool, StoreError> {
        let is_other = |(of, invite): &(String, Invite)| {
            invite.user.as_deref() == Some(user) && !invite.resets && token != Some(of.as_str())
        };
        Ok(self.invites(host)?.iter().any(is_other))
    }

    /// An account was made or got another password by an invitation: one use less, and what else it promises.
    ///
    /// # Errors
    /// `item-not-found` when it has been used up or taken back meanwhile; when storage cannot be read.
    pub fn invite_redeem(&mut self, account: &Jid, token: &str) -> Result<(), StanzaError> {
        let gone = || Condition::ItemNotFound.because("The invitation has been used up or taken back.");
        let invite = self.invite_shown(account.domain(), token)?.ok_or_else(gone)?;
        self.invite_use(account.domain(), token, &invite);
        if invite.admin {
            self.promote(account);
        }
        match &invite.contact {
            Some(contact) if !invite.resets && self.account_exists(contact)? => self.befriend(account, contact),
            _ => Ok(()),
        }
    }

    fn invite_use(&mut self, host: &str, token: &str, invite: &Invite) {
        match invite.uses_left {
            0 | 1 => self.view.delete::<Invites>(host, token.as_bytes()),
            uses => {
                let left = Invite { uses_left: uses - 1, ..invite.clone() };
                self.view.put::<Invites>(host, token.as_bytes(), &left);
            }
        }
    }

    /// Two accounts of ours see each other from now on, and have each other in their rosters (XEP-0401 section 5.5).
    fn befriend(&mut self, account: &Jid, contact: &Jid) -> Result<(), StanzaError> {
        for (one, other) in [(account, contact), (contact, account)] {
            let mut item = self.roster_item(one.bare_str(), other.bare_str())?;
            if !item.listed && self.roster_is_full(one)? {
                log::info!("{one} does not get {other} into the roster: limits.roster_items_max is reached");
                return Ok(());
            }
            self.view.delete::<Requests>(one.bare_str(), other.bare_str().as_bytes());
            (item.to, item.from, item.ask, item.pending_in, item.listed) = (true, true, false, false, true);
            self.roster_put(one, other, &item)?;
        }
        self.presence_show(account, contact);
        self.presence_show(contact, account);
        Ok(())
    }

    /// Somebody asks for a subscription with the token of an invitation. When it is one of this account, he gets the
    /// subscription, is asked for his, and nothing is left to be done with the request (XEP-0379 section 3.5).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn invite_subscribes(&mut self, account: &Jid, contact: &Jid, token: &str) -> Result<bool, StoreError> {
        let Some(invite) = self.invite(account.domain(), token)? else { return Ok(false) };
        if !invite.is_roster() || invite.contact.as_ref() != Some(account) || contact.same_bare(account) {
            return Ok(false);
        }
        let mut item = self.roster_item(account.bare_str(), contact.bare_str())?;
        // Who has it already gets what is asked for anyway.
        if item.from || self.may_write().is_err() || (!item.listed && self.roster_is_full(account)?) {
            return Ok(false);
        }
        self.invite_use(account.domain(), token, &invite);
        let asks_back = !item.to && !item.ask;
        self.view.delete::<Requests>(account.bare_str(), contact.bare_str().as_bytes());
        (item.from, item.pending_in, item.listed) = (true, false, true);
        item.ask |= asks_back;
        self.roster_put(account, contact, &item)?;
        let mut tell = |kind| {
            let stanza = Stanza::new(Kind::Presence(kind)).addressed(Some(account.clone()), Some(contact.clone()));
            self.send(InFlight::promising(stanza));
        };
        tell(PresenceType::Subscribed);
        if asks_back {
            tell(PresenceType::Subscribe);
        }
        self.presence_show(account, contact);
        Ok(true)
    }

    fn roster_is_full(&mut self, account: &Jid) -> Result<bool, StoreError> {
        Ok(self.view.count::<Items>(account.bare_str())? >= self.settings.limits.roster_items_max as usize)
    }

    /// An account goes: so do the invitations that lead to it.
    pub(super) fn invites_forget(&mut self, account: &Jid) -> Result<(), StoreError> {
        let host = account.domain();
        for (token, invite) in self.view.list::<Invites>(host, usize::MAX)? {
            let resets = invite.resets && invite.user.as_deref() == account.node();
            if resets || invite.contact.as_ref() == Some(account) {
                self.view.delete::<Invites>(host, &token);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(user: Option<&str>, contact: Option<&str>) -> Invite {
        Invite {
            user: user.map(str::to_string),
            contact: contact.map(|c| Jid::parse(c).unwrap()),
            resets: false,
            admin: false,
            uses_left: 1,
            expires_ms: 0,
        }
    }

    #[test]
    fn links_have_the_forms_of_the_specifications() {
        let uri = |user, contact| invite(user, contact).uri("example.com", "T");
        assert_eq!(uri(None, None), "xmpp:example.com?register;preauth=T");
        assert_eq!(uri(Some("juliet"), None), "xmpp:juliet@example.com?register;preauth=T");
        assert_eq!(uri(None, Some("romeo@example.com")), "xmpp:romeo@example.com?roster;preauth=T;ibr=y");
        assert_eq!(uri(Some("juliet"), Some("romeo@example.com")), "xmpp:juliet@example.com?register;preauth=T");
    }

    #[test]
    fn what_a_uri_cannot_have_is_escaped() {
        let uri = invite(Some("nasty!#$%()*+,-.;=?[]^_`{|}~node"), None).uri("example.com", "T");
        let node = "nasty!%23$%25()*+,-.%3B=%3F[]%5E_%60%7B%7C%7D~node";
        assert_eq!(uri, format!("xmpp:{node}@example.com?register;preauth=T"));
    }
}
