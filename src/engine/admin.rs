//! Operators' commands.

use super::Engine;
use super::accounts::{Asker, Stored};
use crate::clock::Entropy;
use crate::core::admin::{Command, FAILED, OK, Reply};
use crate::core::io::Output;
use crate::core::register::{NewPassword, Purpose};
use crate::fault::{Fault, trip};
use crate::jid::Jid;
use crate::stanza::StanzaError;
use crate::storage::{StoreError, Table, Ticket, View};
use crate::stream::StreamError;
use crate::stream::sasl::keys::prepare_password;
use std::fmt::Write as _;

crate::record! {
    /// Random bytes that are made once.
    pub struct Secret {
        /// 32 of them.
        pub bytes: Vec<u8>,
    }
}

/// Owner: nobody. One row: the secret that salts of accounts which do not exist are made from.
pub struct Secrets;
impl Table for Secrets {
    const ID: u8 = 6;
    const NAME: &'static str = "secrets";
    type Value = Secret;
}

/// The stored secret; makes one in a new store, which goes out with the first batch.
pub(super) fn server_secret(view: &mut View, entropy: &mut dyn Entropy) -> Result<[u8; 32], StoreError> {
    view.begin();
    let stored = view.get::<Secrets>("", b"")?.and_then(|s| <[u8; 32]>::try_from(s.bytes).ok());
    let secret = stored.unwrap_or_else(|| {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        view.put::<Secrets>("", b"", &Secret { bytes: bytes.to_vec() });
        bytes
    });
    view.join();
    Ok(secret)
}

/// Said to whom a bug of ours has met.
pub(super) const BUG: &str = "failed by a bug of ours; the log has it";

/// Through which door a command has come: where its reply goes.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// The admin socket, by the id of the command.
    Socket(u32),
    /// An administrator's client.
    #[cfg(feature = "commands")]
    Client(Box<super::commands::Errand>),
}

impl Engine {
    pub(super) fn admin(&mut self, door: &Door, command: Command) {
        trip(Fault::PanicCommand);
        let done = match command {
            Command::UserAdd { jid, password } => self.set_password(door, &jid, &password, Purpose::Register),
            Command::UserPasswd { jid, password } => self.set_password(door, &jid, &password, Purpose::Change),
            Command::UserDel { jids } => self.user_del(door, &jids),
            Command::UserList { host } => self.user_list(host).map(|text| self.reply_now(door, OK, text)),
            Command::UserAdmins { host } => self.user_admins(host).map(|text| self.reply_now(door, OK, text)),
            Command::UserDemote { jid } => self.user_demote(door, &jid),
            Command::UserReset { jid, expires_s } => self.user_reset(door, &jid, expires_s),
            Command::InviteCreate(new) => self.invite_create(door, &new),
            Command::InviteList { host } => self.invite_list(host).map(|text| self.reply_now(door, OK, text)),
            Command::InviteRevoke { token } => self.invite_revoke(door, &token),
            Command::InviteFirst => self.invite_first(door),
            Command::Status => {
                let text = self.status();
                self.reply_now(door, OK, text);
                Ok(())
            }
            Command::Healthcheck => {
                self.reply_now(door, OK, "ok".to_string());
                Ok(())
            }
            Command::S2sList => {
                let text = self.s2s_list();
                self.reply_now(door, OK, text);
                Ok(())
            }
            Command::S2sClose { domain } => self.s2s_close(&domain).map(|text| self.reply_now(door, OK, text)),
            // The store's own business: whoever runs the engine does them beside it.
            #[cfg(feature = "acme")]
            Command::CertRenew { .. } => Err("this needs the running server".to_string()),
            #[cfg(feature = "statistics")]
            Command::History { .. } => Err("this needs the running server".to_string()),
            Command::Backup | Command::Compact | Command::Flush => Err("this needs the store itself".to_string()),
            Command::Reload => match *door {
                Door::Socket(id) => {
                    self.outputs.push_back(Output::Reload { id });
                    Ok(())
                }
                #[cfg(feature = "commands")]
                Door::Client(_) => Err("this needs the machine itself".to_string()),
            },
        };
        if let Err(text) = done {
            self.reply_now(door, FAILED, text);
        }
    }

    pub(super) fn reply_now(&mut self, door: &Door, code: u8, text: String) {
        let reply = Reply { code, text };
        match door {
            Door::Socket(id) => self.outputs.push_back(Output::AdminReply { id: *id, reply }),
            #[cfg(feature = "commands")]
            Door::Client(errand) => self.report(errand, &reply),
        }
    }

    /// The reply says that something is stored, so it waits until that is so.
    pub(super) fn reply_after(&mut self, ticket: Option<Ticket>, door: &Door, text: String) {
        match ticket {
            Some(ticket) if ticket <= self.core.view.durable() => self.reply_now(door, OK, text),
            Some(ticket) => self.replies.push((ticket, door.clone(), Reply { code: OK, text })),
            None => self.reply_now(door, FAILED, BUG.to_string()),
        }
    }

    /// A bare address at one of our hosts.
    pub(super) fn account_address(&self, text: &str) -> Result<Jid, String> {
        let jid = Jid::parse(text).map_err(|e| format!("\"{text}\" is no address: {e}"))?;
        if jid.node().is_none() || !jid.is_bare() {
            return Err(format!("\"{text}\" is not of the form user@host"));
        }
        if !self.core.is_local(&jid) {
            let hosts = self.core.settings.hosts.join(", ");
            return Err(format!("{} is not served here; hosts are: {hosts}", jid.domain()));
        }
        Ok(jid)
    }

    fn set_password(&mut self, door: &Door, jid: &str, password: &str, purpose: Purpose) -> Result<(), String> {
        let account = self.account_address(jid)?;
        self.check_exists(&account, purpose == Purpose::Change)?;
        let password = prepare_password(password).map_err(|e| e.to_string())?;
        let new = NewPassword { account, password, purpose, token: None };
        self.hash_new(new, Asker::Operator(door.clone()))
            .map_err(|_| "too many passwords are being checked; try again".to_string())
    }

    pub(super) fn check_exists(&mut self, jid: &Jid, wanted: bool) -> Result<(), String> {
        match (self.core.account_exists(jid), wanted) {
            (Ok(true), true) | (Ok(false), false) => Ok(()),
            (Ok(true), false) => {
                Err(format!("{jid} exists already; to change its password: couplet user passwd {jid}"))
            }
            (Ok(false), true) => Err(format!("there is no account {jid}; to add it: couplet user add {jid}")),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    /// Tells the operator what came of a password.
    pub(super) fn reply_stored(&mut self, door: &Door, jid: &Jid, purpose: Purpose, stored: Stored) {
        let text = match purpose {
            Purpose::Register => format!("added {jid}"),
            Purpose::Change => format!("changed the password of {jid}"),
        };
        match stored {
            Ok(ticket) => self.reply_after(ticket, door, text),
            // Another command came in between, or storage cannot be read.
            Err(error) => match self.check_exists(jid, purpose == Purpose::Change) {
                Err(text) => self.reply_now(door, FAILED, text),
                Ok(()) => self.reply_now(door, FAILED, said(error)),
            },
        }
    }

    fn user_del(&mut self, door: &Door, jids: &[String]) -> Result<(), String> {
        let mut accounts = Vec::new();
        for jid in jids {
            let account = self.account_address(jid)?;
            self.check_exists(&account, true)?;
            accounts.push(account);
        }
        let mut after = None;
        for account in &accounts {
            self.close_sessions(account, None, StreamError::NotAuthorized, "The account has been deleted.");
            after = match self.delete_account(account) {
                Ok(Some(ticket)) => Some(ticket),
                Ok(None) => return Err(BUG.to_string()),
                Err(error) => return Err(said(error)),
            };
        }
        let accounts: Vec<&str> = accounts.iter().map(Jid::as_str).collect();
        self.reply_after(after, door, format!("deleted {}", accounts.join(", ")));
        Ok(())
    }

    /// That host, or all.
    pub(super) fn hosts_of(&self, host: Option<String>) -> Result<Vec<String>, String> {
        match host {
            Some(host) if self.core.serves(&host) => Ok(vec![host]),
            Some(host) => Err(format!("{host} is not served here")),
            None => Ok(self.core.settings.hosts.clone()),
        }
    }

    fn user_list(&mut self, host: Option<String>) -> Result<String, String> {
        let hosts = self.hosts_of(host)?;
        let mut lines = Vec::new();
        for host in hosts {
            let users = self.core.account_list(&host).map_err(|e| e.to_string())?;
            lines.extend(users.into_iter().map(|user| format!("{user}@{host}")));
        }
        Ok(lines.join("\n"))
    }

    /// One line for each administrator: his address, and whether the configuration or an invitation made him one.
    fn user_admins(&mut self, host: Option<String>) -> Result<String, String> {
        let of_all = host.is_none();
        let mut lines = Vec::new();
        for host in self.hosts_of(host)? {
            for admin in self.core.admins(&host).map_err(|e| e.to_string())? {
                let by = if self.core.settings.admins.contains(&admin) { "configuration" } else { "invitation" };
                let line = format!("{admin}  ({by})");
                // Those of the configuration answer for every host, wherever they are.
                if (of_all || admin.domain() == host) && !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        Ok(lines.join("\n"))
    }

    fn user_demote(&mut self, door: &Door, jid: &str) -> Result<(), String> {
        let jid = self.account_address(jid)?;
        let mut had = Ok(false);
        let ticket = self.step("the end of an administrator's right", |core, _| had = core.demote(&jid));
        let is_configured = self.core.settings.admins.iter().any(|admin| admin.same_bare(&jid));
        match had.map_err(|e| e.to_string())? {
            _ if is_configured => Err(format!(
                "{jid} stays an administrator: take it out of `admins` in the \
                                               configuration, then run couplet reload"
            )),
            false => Err(format!("{jid} is no administrator")),
            true => {
                self.reply_after(ticket, door, format!("{jid} is no administrator any more"));
                Ok(())
            }
        }
    }

    fn status(&self) -> String {
        let uptime_s = self.core.now.mono_ms.saturating_sub(self.core.started.mono_ms) / 1000;
        let mut text = format!("couplet {}, up {uptime_s} s\n", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(text, "hosts: {}", self.core.settings.hosts.join(", "));
        let (conns, sessions) = (self.conns.len(), self.core.sessions.len());
        let accounts = self.core.sessions.accounts_len();
        let _ = writeln!(
            text,
            "connections: {conns}, sessions: {sessions} of {accounts} accounts, {} of them wait to be resumed",
            self.parked()
        );
        let (out, incoming, waiting) = self.s2s_counts();
        let _ = writeln!(text, "other servers: {out} streams out, {incoming} in, {waiting} stanzas wait for one");
        self.memory_lines(&mut text);
        for (name, value, meaning) in self.core.counters.rows() {
            let _ = writeln!(text, "{name}: {value}  ({meaning})");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Why something was not done, for an operator.
fn said(error: StanzaError) -> String {
    error.text.unwrap_or("failed; the log has it".into()).into_owned()
}
