//! What the process gives up before it serves anybody: root and the way back to it, capabilities, new privileges, core
//! dumps, and by the [`sandbox`](super::sandbox) files that are not its own.
//!
//! The kernel binds the calling thread and those that it starts later. So all of this happens while there is one
//! thread: behind binding the ports, which may need root, and ahead of everything that reads what a peer sends.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getegid, geteuid, getgid, getgroups, getrlimit, getuid,
    set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::modes;
use super::sandbox::{self, Places};
use crate::limits::Limits;

/// Where users and groups are looked up. No other source is asked: a static program has none.
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Files that are open beside connections: listeners, the store, the log, operators, name servers.
const FILES_BESIDE: u64 = 64;

/// What a process that is the server's gives up.
pub struct Process {
    /// Who it becomes; none stays who it is.
    pub account: Option<Account>,
    /// What it can still reach; none turns the sandbox off.
    pub sandbox: Option<Places>,
    /// The data folder, which the account must be able to write to.
    pub data: PathBuf,
    /// The folder of backups.
    pub backups: PathBuf,
    /// Files beside those of the data folder that hold secrets.
    pub secrets: Vec<PathBuf>,
    /// What the operator should read once there is a log.
    pub notices: Vec<String>,
}

/// A user and a group to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As the operator wrote it.
    pub name: String,
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
}

impl Account {
    /// The account of these names or numbers; none for an empty user. An empty group is the user's own.
    ///
    /// # Errors
    /// One line that says what to write.
    pub fn find(user: &str, group: &str) -> Result<Option<Self>, String> {
        match (user, group) {
            ("", "") => Ok(None),
            ("", _) => Err("process.group needs process.user; write both".to_string()),
            _ => Self::look(user, group, &read(PASSWD), &read(GROUP)).map(Some),
        }
    }

    fn look(user: &str, group: &str, passwd: &str, groups: &str) -> Result<Self, String> {
        let row = row_of(passwd, user);
        let uid = row.as_ref().map_or_else(|| number(user), |row| number(row.get(2)?)).ok_or_else(|| {
            format!("process.user: {PASSWD} has no user \"{user}\"; make one (`useradd -r {user}`), or write a number")
        })?;
        let gid = if group.is_empty() {
            let row = row.or_else(|| passwd.lines().map(fields).find(|row| row.get(2) == Some(&user)));
            row.and_then(|row| number(row.get(3)?)).ok_or_else(|| {
                format!("process.user: {PASSWD} has no user {user}, whose group it would say; set process.group, too")
            })?
        } else {
            row_of(groups, group).map_or_else(|| number(group), |row| number(row.get(2)?)).ok_or_else(|| {
                format!("process.group: {GROUP} has no group \"{group}\"; make one (`groupadd -r {group}`)")
            })?
        };
        Ok(Self { name: user.to_owned(), uid, gid })
    }

    /// Makes the process this user's, without a way back.
    ///
    /// # Errors
    /// When it is not allowed to, or could get back: one line that says what to do.
    fn become_it(&self) -> Result<(), String> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let now = geteuid();
        if now == uid && !uid.is_root() {
            return if getegid() == gid { Ok(()) } else { Err(self.started_wrong("another group")) };
        }
        if !now.is_root() {
            return Err(self.started_wrong(&format!("user {}", now.as_raw())));
        }
        let drop = || -> rustix::io::Result<bool> {
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            let is_it = (getuid(), geteuid(), getgid(), getegid()) == (uid, uid, gid, gid) && getgroups()?.is_empty();
            // Whoever may become root again, or join a group, has not given up anything.
            let back = !uid.is_root()
                && (set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok()
                    || (!gid.is_root() && set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).is_ok())
                    || set_thread_groups(&[Gid::ROOT]).is_ok());
            Ok(is_it && !back)
        };
        match drop() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("root could be had back after becoming {}; the system is to blame", self.name)),
            Err(error) => Err(format!(
                "cannot become {} ({error}); start couplet as that user, or remove process.user",
                self.name
            )),
        }
    }

    fn started_wrong(&self, by: &str) -> String {
        format!(
            "couplet is to run as {name} (process.user), but {by} has started it: start it as root or as {name}, or \
             remove process.user",
            name = self.name
        )
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.uid, self.gid)
    }
}

impl Process {
    /// Gives all of it up, as far as this system can. Returns one line that says what is in force.
    ///
    /// # Errors
    /// When the account cannot be had, or cannot write to the data folder, or everybody can. All else is not worth
    /// refusing to serve.
    pub fn confine(&mut self) -> Result<String, String> {
        if let Some(account) = &self.account {
            account.become_it()?;
        }
        let is_root = geteuid().is_root();
        if is_root && self.account.is_none() {
            self.notices.push(
                "couplet runs as root: whoever finds a hole in it has the whole machine; make a user (`useradd -r \
                 couplet`) and set process.user, or start couplet as that user"
                    .to_string(),
            );
        }
        writable(&self.data)?;
        self.notices.extend(modes::mend(&modes::look(&self.data, &self.backups, &self.secrets))?);
        let mut in_force = vec![match &self.account {
            Some(account) => format!("user {account}"),
            None => format!("user {}", geteuid().as_raw()),
        }];
        let mut tell = |what: &str, done: rustix::io::Result<()>| match done {
            Ok(()) => in_force.push(what.to_string()),
            Err(error) => log::debug!("not to be had: {what}: {error}"),
        };
        if !is_root {
            // The ports are bound, and that is all that these were for. Root keeps its own: it may need them to read
            // what belongs to others.
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            tell("no capabilities", set_capabilities(None, sets));
        }
        tell("no new privileges", set_no_new_privs(true));
        let no_file = Rlimit { current: Some(0), maximum: Some(0) };
        // The second keeps programs that take core dumps through a pipe from them, and debuggers of the same user out.
        let no_core = setrlimit(Resource::Core, no_file).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
        tell("no core dumps", no_core);
        in_force.push(match self.sandbox.as_ref().map(sandbox::enter) {
            Some(Ok(())) => "sandbox (Landlock)".to_string(),
            Some(Err(why)) => format!("no sandbox: {why}"),
            None => "no sandbox: process.sandbox is off".to_string(),
        });
        in_force.push(format!("{} open files", open_files(getrlimit(Resource::Nofile).current)));
        Ok(format!("process: {}", in_force.join(", ")))
    }
}

/// Whether this process can use the data folder.
fn writable(folder: &Path) -> Result<(), String> {
    match rustix::fs::access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        // A folder that cannot be looked at, too; opening the store says more of what else may be wrong.
        Err(Errno::ACCESS) => {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            Err(format!("user {uid} may not write to {0}; run: chown -R {uid}:{gid} {0}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Raises the number of files that this process may have open as far as it can. Returns it.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::debug!("the limit of open files stays: {error}");
    }
    open_files(getrlimit(Resource::Nofile).current)
}

fn open_files(limit: Option<u64>) -> u64 {
    limit.unwrap_or(u64::MAX)
}

/// Lowers the limits of connections to what `files` open files are enough for, and says so: better to turn a stranger
/// away than to have no file for what was promised to a friend.
pub fn fit_connections(limits: &mut Limits, files: u64) -> Option<String> {
    let beside = FILES_BESIDE + u64::from(limits.s2s_dials_max);
    let wanted = u64::from(limits.connections_max) + u64::from(limits.s2s_connections_max);
    let room = files.saturating_sub(beside);
    if wanted <= room {
        return None;
    }
    // Both lose the same share.
    let share = |of: u32| u32::try_from((u64::from(of) * room).checked_div(wanted).unwrap_or(0)).unwrap_or(of).max(1);
    limits.connections_max = share(limits.connections_max);
    limits.s2s_connections_max = share(limits.s2s_connections_max);
    let need = wanted + beside;
    Some(format!(
        "the system allows {files} open files, and limits.connections_max with limits.s2s_connections_max may need \
         {need}: until they are allowed (systemd: LimitNOFILE={need}; OpenWrt: procd_set_param limits nofile=\"{need} \
         {need}\"; a shell: ulimit -n {need}), {} connections of clients and {} with servers are let in",
        limits.connections_max, limits.s2s_connections_max
    ))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn row_of<'a>(table: &'a str, name: &str) -> Option<Vec<&'a str>> {
    table.lines().map(fields).find(|row| row.first() == Some(&name))
}

/// The highest number means "leave it as it is" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ncouplet:x:990:980::/nonexistent:/bin/false\nbad:x:y\n";
    const GROUPS: &str = "root:x:0:\ncouplet:x:980:\nssl-cert:x:110:couplet\n";

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let look = |user, group| Account::look(user, group, PASSWD, GROUPS).map(|a| (a.uid, a.gid));
        assert_eq!(look("couplet", ""), Ok((990, 980)));
        assert_eq!(look("couplet", "ssl-cert"), Ok((990, 110)));
        assert_eq!(look("990", ""), Ok((990, 980)));
        assert_eq!(look("12", "34"), Ok((12, 34)));
        for (user, group, remedy) in [
            ("nobody", "", "useradd -r nobody"),
            ("12", "", "set process.group, too"),
            ("couplet", "wheel", "groupadd -r wheel"),
            ("4294967295", "0", "write a number"),
            ("bad", "", "write a number"),
        ] {
            let error = look(user, group).unwrap_err();
            assert!(error.contains(remedy), "{error}");
        }
        assert_eq!(Account::find("", ""), Ok(None));
        assert!(Account::find("", "couplet").is_err());
    }

    #[test]
    fn connections_fit_the_open_files() {
        let fit = |files| {
            let mut limits = Limits { connections_max: 1000, s2s_connections_max: 200, ..Limits::default() };
            let said = fit_connections(&mut limits, files);
            (limits.connections_max, limits.s2s_connections_max, said)
        };
        let need = 1200 + FILES_BESIDE + u64::from(Limits::default().s2s_dials_max);
        assert_eq!(fit(need), (1000, 200, None));
        assert_eq!(fit(u64::MAX), (1000, 200, None));
        let (clients, servers, said) = fit(need - 600);
        assert_eq!((clients, servers), (500, 100));
        assert!(said.unwrap().contains(&format!("LimitNOFILE={need}")));
        let (clients, servers, said) = fit(10);
        assert_eq!((clients, servers, said.is_some()), (1, 1, true));
    }
}
