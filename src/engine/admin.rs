//! Operators' commands.

use super::{Engine, HashOwner, LOG};
use crate::clock::Entropy;
use crate::core::admin::{Command, FAILED, OK, Reply};
use crate::core::io::Output;
use crate::jid::Jid;
use crate::storage::{StoreError, Table, Ticket, View};
use crate::stream::StreamError;
use crate::stream::sasl::keys::prepare_password;
use crate::stream::sasl::{HashWork, ScramKeys};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// A command whose password is being hashed.
#[derive(Clone, Debug)]
pub struct Pending {
    jid: Jid,
    is_new: bool,
}

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

impl Engine {
    pub(super) fn admin(&mut self, id: u32, command: Command) {
        let done = match command {
            Command::UserAdd { jid, password } => self.set_password(id, &jid, password, true),
            Command::UserPasswd { jid, password } => self.set_password(id, &jid, password, false),
            Command::UserDel { jid } => self.user_del(id, &jid),
            Command::UserList { host } => self.user_list(host).map(|text| self.reply_now(id, OK, text)),
            Command::Status => {
                let text = self.status();
                self.reply_now(id, OK, text);
                Ok(())
            }
            Command::Healthcheck => {
                self.reply_now(id, OK, "ok".to_string());
                Ok(())
            }
            Command::Reload => {
                self.outputs.push_back(Output::Reload { id });
                Ok(())
            }
        };
        if let Err(text) = done {
            self.reply_now(id, FAILED, text);
        }
    }

    fn reply_now(&mut self, id: u32, code: u8, text: String) {
        self.outputs.push_back(Output::AdminReply { id, reply: Reply { code, text } });
    }

    /// The reply says that something is stored, so it waits until that is so.
    fn reply_after(&mut self, ticket: Option<Ticket>, id: u32, text: String) {
        match ticket {
            Some(ticket) if ticket <= self.core.view.durable() => self.reply_now(id, OK, text),
            Some(ticket) => self.replies.push((ticket, id, Reply { code: OK, text })),
            None => self.reply_now(id, FAILED, "failed by a bug of ours; the log has it".to_string()),
        }
    }

    /// A bare address at one of our hosts.
    fn account_address(&self, text: &str) -> Result<Jid, String> {
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

    fn set_password(&mut self, id: u32, jid: &str, password: Zeroizing<String>, is_new: bool) -> Result<(), String> {
        let jid = self.account_address(jid)?;
        self.check_exists(&jid, !is_new)?;
        let password = prepare_password(&password).map_err(|e| e.to_string())?;
        let mut salt = vec![0; 16];
        self.core.entropy.fill(&mut salt);
        let work = HashWork::Derive { salt, iterations: self.core.settings.iterations };
        let owner = HashOwner::Admin { id, command: Pending { jid, is_new } };
        if !self.hash(password, work, owner) {
            return Err("too many passwords are being checked; try again".to_string());
        }
        Ok(())
    }

    fn check_exists(&mut self, jid: &Jid, wanted: bool) -> Result<(), String> {
        match (self.core.account_exists(jid), wanted) {
            (Ok(true), true) | (Ok(false), false) => Ok(()),
            (Ok(true), false) => {
                Err(format!("{jid} exists already; to change its password: couplet user passwd {jid}"))
            }
            (Ok(false), true) => Err(format!("there is no account {jid}; to add it: couplet user add {jid}")),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    pub(super) fn admin_derived(&mut self, id: u32, command: Pending, sha1: ScramKeys, sha256: ScramKeys) {
        let Pending { jid, is_new } = command;
        // Another command may have come in between.
        if let Err(text) = self.check_exists(&jid, !is_new) {
            return self.reply_now(id, FAILED, text);
        }
        let mut failed = None;
        let ticket = self.step("a new password", |core, _| {
            failed = core.account_put(&jid, sha1, sha256).err();
        });
        match failed {
            Some(error) => self.reply_now(id, FAILED, error.to_string()),
            None if is_new => self.reply_after(ticket, id, format!("added {jid}")),
            None => self.reply_after(ticket, id, format!("changed the password of {jid}")),
        }
    }

    fn user_del(&mut self, id: u32, jid: &str) -> Result<(), String> {
        let jid = self.account_address(jid)?;
        self.check_exists(&jid, true)?;
        for session in self.core.sessions.of(&jid).to_vec() {
            match self.core.sessions.get(session).and_then(|s| s.conn) {
                Some(conn) => self.fail(conn, StreamError::NotAuthorized, Some("The account has been deleted.")),
                None => self.end_session(session),
            }
        }
        let mut failed = None;
        let ticket = self.step("the deletion of an account", |core, modules| {
            let delete = |core: &mut crate::core::Core| {
                for (contact, item) in core.roster(jid.bare_str())? {
                    core.roster_end(&jid, &contact, &item);
                }
                core.account_delete(&jid)
            };
            if modules.account_deleted(core, &jid).is_err() {
                log::error!(target: LOG, "a module could not say good-bye for {jid}");
            }
            failed = delete(core).err();
        });
        match failed {
            Some(error) => Err(error.to_string()),
            None => {
                self.reply_after(ticket, id, format!("deleted {jid}"));
                Ok(())
            }
        }
    }

    fn user_list(&mut self, host: Option<String>) -> Result<String, String> {
        let hosts = match host {
            Some(host) if self.core.serves(&host) => vec![host],
            Some(host) => return Err(format!("{host} is not served here")),
            None => self.core.settings.hosts.clone(),
        };
        let mut lines = Vec::new();
        for host in hosts {
            let users = self.core.account_list(&host).map_err(|e| e.to_string())?;
            lines.extend(users.into_iter().map(|user| format!("{user}@{host}")));
        }
        Ok(lines.join("\n"))
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
        let (used, max) = (self.budget.used_bytes(), self.budget.max_bytes());
        let _ = writeln!(text, "held for peers: {used} of {max} bytes");
        let _ = writeln!(text, "waiting for the disk: {} bytes", self.core.view.pending_bytes());
        for (name, value, meaning) in self.core.counters.rows() {
            let _ = writeln!(text, "{name}: {value}  ({meaning})");
        }
        text.truncate(text.trim_end().len());
        text
    }
}
