//! Operators' invitations: made, listed, taken back.

use super::Engine;
use super::admin::Door;
use crate::clock::datetime;
use crate::core::admin::{NewInvite, OK};
use crate::core::invites::{Invite, page};
use crate::core::settings::Settings;
use crate::jid::{self, Jid};

/// A year: an invitation that nobody remembers is not to be found by somebody else one day (XEP-0379 section 5.2).
const EXPIRES_S_MAX: u32 = 31_536_000;
/// How long the invitation for the first account can be used: a week.
const FIRST_EXPIRES_S: u32 = 604_800;

impl Engine {
    pub(super) fn invite_create(&mut self, door: &Door, new: &NewInvite) -> Result<(), String> {
        let (host, invite) = self.invite_of(new)?;
        self.invite_store(door, &host, &invite)
    }

    /// The invitation that is asked for, and its host.
    fn invite_of(&mut self, new: &NewInvite) -> Result<(String, Invite), String> {
        let contact = new.contact.as_deref().map(|contact| self.account_address(contact)).transpose()?;
        if let Some(contact) = &contact {
            self.check_exists(contact, true)?;
        }
        let (user, user_host) = match new.user.as_deref().map(|user| user.split_once('@').unwrap_or((user, ""))) {
            None => (None, None),
            Some((user, host)) => {
                let user = jid::prepare_node(user).map_err(|e| format!("\"{user}\" is no username: {e}"))?;
                (Some(user), Some(host.to_string()).filter(|host| !host.is_empty()))
            }
        };
        let contact_host = contact.as_ref().map(|contact| contact.domain().to_string());
        let prepared = |host: &String| jid::prepare_domain(host).map_err(|e| format!("\"{host}\" is no host: {e}"));
        let host = new.host.as_ref().map(prepared).transpose()?;
        let user_host = user_host.as_ref().map(prepared).transpose()?;
        let mut named = [host, user_host, contact_host].into_iter().flatten();
        let first = || self.core.settings.hosts.first().cloned().unwrap_or_default();
        let host = named.next().unwrap_or_else(first);
        if let Some(other) = named.find(|other| *other != host) {
            return Err(format!("an invitation is for one host, not for {host} and {other}"));
        }
        let host = self.hosts_of(Some(host))?.remove(0);
        if let Some(user) = &user {
            let account = Jid::from_parts(Some(user), &host, None).map_err(|e| e.to_string())?;
            if self.core.account_exists(&account).map_err(|e| e.to_string())? {
                return Err(format!("{account} exists already; for another password: couplet user reset {account}"));
            }
            if self.core.invite_reserves(&host, user, None).map_err(|e| e.to_string())? {
                return Err(format!("somebody is invited as {account} already; see couplet invite list"));
            }
            if new.uses > 1 {
                return Err(format!("only one person can become {account}: leave out --uses"));
            }
        }
        if new.admin && new.uses > 1 {
            return Err("an administrator is one person: leave out --uses".to_string());
        }
        let (uses_left, expires_ms) = (new.uses.max(1), self.ends_ms(new.expires_s)?);
        Ok((host, Invite { user, contact, resets: false, admin: new.admin, uses_left, expires_ms }))
    }

    pub(super) fn user_reset(&mut self, door: &Door, jid: &str, expires_s: u32) -> Result<(), String> {
        let account = self.account_address(jid)?;
        self.check_exists(&account, true)?;
        let invite = Invite {
            user: account.node().map(str::to_string),
            contact: None,
            resets: true,
            admin: false,
            uses_left: 1,
            expires_ms: self.ends_ms(expires_s)?,
        };
        self.invite_store(door, account.domain(), &invite)
    }

    /// For a server without accounts: the invitation that it has for this, or a new one.
    pub(super) fn invite_first(&mut self, door: &Door) -> Result<(), String> {
        let hosts = self.core.settings.hosts.clone();
        let mut found = None;
        for host in hosts.iter().rev() {
            if !self.core.account_list(host).map_err(|e| e.to_string())?.is_empty() {
                self.reply_now(door, OK, String::new());
                return Ok(());
            }
            let open = self.core.invites(host).map_err(|e| e.to_string())?;
            found = open.into_iter().find(|(_, invite)| invite.admin).map(|(token, invite)| (host, token, invite));
        }
        match found {
            Some((host, token, invite)) => {
                self.reply_now(door, OK, link(&self.core.settings, host, &token, &invite));
                Ok(())
            }
            None => {
                let first = NewInvite { admin: true, uses: 1, expires_s: FIRST_EXPIRES_S, ..NewInvite::default() };
                self.invite_create(door, &first)
            }
        }
    }

    fn ends_ms(&self, expires_s: u32) -> Result<u64, String> {
        if expires_s == 0 || expires_s > EXPIRES_S_MAX {
            return Err("an invitation ends within a year: give a duration such as 7d".to_string());
        }
        Ok(u64::try_from(self.core.now.wall_ms).unwrap_or(0) + u64::from(expires_s) * 1000)
    }

    fn invite_store(&mut self, door: &Door, host: &str, invite: &Invite) -> Result<(), String> {
        let mut added = Ok(None);
        let ticket = self.step("an invitation", |core, _| added = core.invite_add(host, invite));
        match added.map_err(|e| e.to_string())? {
            Some(token) => {
                self.reply_after(ticket, door, link(&self.core.settings, host, &token, invite));
                Ok(())
            }
            None => Err("limits.invites_max is reached; see couplet invite list".to_string()),
        }
    }

    pub(super) fn invite_list(&mut self, host: Option<String>) -> Result<String, String> {
        let mut lines = Vec::new();
        for host in self.hosts_of(host)? {
            for (token, invite) in self.core.invites(&host).map_err(|e| e.to_string())? {
                let until = datetime(i64::try_from(invite.expires_ms).unwrap_or(i64::MAX));
                lines.push(format!("{token}  until {until}  {}", described(&host, &invite)));
            }
        }
        Ok(lines.join("\n"))
    }

    pub(super) fn invite_revoke(&mut self, door: &Door, text: &str) -> Result<(), String> {
        // The page's link has nothing but the token behind its question mark.
        let of_page = text.rsplit('?').next().unwrap_or_default();
        let token = text.split_once("preauth=").map_or(of_page, |(_, rest)| rest.split(';').next().unwrap_or_default());
        let mut revoked = Ok(false);
        let ticket = self.step("an invitation taken back", |core, _| {
            let hosts = core.settings.hosts.clone();
            revoked = hosts.iter().try_fold(false, |found, host| Ok(core.invite_revoke(host, token)? || found));
        });
        match revoked.map_err(|e: crate::storage::StoreError| e.to_string())? {
            true => {
                self.reply_after(ticket, door, "the invitation is taken back".to_string());
                Ok(())
            }
            false => Err("there is no such invitation; see couplet invite list".to_string()),
        }
    }
}

/// What the operator is told of an invitation: its link, the page of it, what it is for.
fn link(settings: &Settings, host: &str, token: &str, invite: &Invite) -> String {
    let until = datetime(i64::try_from(invite.expires_ms).unwrap_or(i64::MAX));
    let page = page(settings, host, token).map(|page| format!("{page}\n")).unwrap_or_default();
    format!("{}\n{page}{}, until {until}", invite.uri(host, token), described(host, invite))
}

fn described(host: &str, invite: &Invite) -> String {
    let mut text = match &invite.user {
        Some(user) if invite.resets => return format!("another password for {user}@{host}"),
        Some(user) => format!("the account {user}@{host}"),
        None => format!("an account at {host}"),
    };
    if invite.admin {
        text.push_str(" of an administrator");
    }
    if let Some(contact) = &invite.contact {
        let word = if invite.is_roster() { "and, or only," } else { "and" };
        text.push_str(&format!(" {word} {contact} as a contact"));
    }
    match invite.uses_left {
        1 => text.push_str(", once"),
        uses => text.push_str(&format!(", {uses} times")),
    }
    text
}
