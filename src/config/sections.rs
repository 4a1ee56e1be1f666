//! The server's own sections. Modules declare theirs in their own files.

use super::address::Address;
use crate::modules::KNOWN;
use crate::setting::{Bytes, Seconds, Setting, Value, at_least, nearest, section, words};

section! {
    /// Couplet's configuration: every key with its default.
    ///
    /// A line that starts with "# " explains; one that starts with "#" alone is a key: take the "#" away to set it.
    /// Sizes are written "256 kB" (1000) or "4 KiB" (1024), durations "30 s", "10 min", "1 h" or "2 d".
    /// Every key can be set by the environment, too: COUPLET_HOSTS=a.example,b.example or COUPLET_LOG__LEVEL=debug;
    /// with _FILE behind it, the value is read from that file. `couplet check` says what is wrong and what to write.
    pub struct Server in "" {
        /// Domains that are served: what stands behind the @ of your users' addresses.
        pub hosts: Vec<String> = vec!["localhost".to_string()],
        /// Addresses of the people who answer for this server, such as "romeo@example.org".
        pub admins: Vec<String> = Vec::new(),
        /// What this machine has memory for. It matters to modules that memory.modes names; [memory] has the figures.
        pub memory_mode: MemoryMode = MemoryMode::Normal,
    }
}

words! {
    /// What a machine has memory for.
    pub enum MemoryMode {
        /// For little.
        Low = "low",
        /// For what most people use.
        Normal = "normal",
        /// For all that there is.
        High = "high",
    }
}

section! {
    /// Connections of clients.
    pub struct C2s in "c2s" {
        /// Addresses and ports where clients connect and then start TLS. "[::]" is every address, IPv4 and IPv6.
        pub listen: Vec<Address> = vec![Address::any(5222)],
        /// Addresses and ports where TLS starts with the first byte (XEP-0368).
        pub direct_tls_listen: Vec<Address> = vec![Address::any(5223)],
        /// Refuse to log anybody in without TLS.
        pub encryption_required: bool = true,
    }
}

#[cfg(feature = "compression")]
section! {
    /// Compression of streams of clients (XEP-0138), by its one registered method that is in use, zlib; for lz4 there
    /// is no name that a client could ask for. What saves a phone most bytes is client state indication, [modules.csi].
    pub struct Compression in "compression" {
        /// Offer it to clients that have logged in. Compression under TLS can leak secrets: whoever makes a client's
        /// messages longer and watches their size can guess what else is in them (CRIME). And it takes 50 kB for each
        /// client that uses it.
        pub enabled: bool = false,
    }
}

section! {
    /// How sockets are tuned.
    pub struct Tcp in "tcp" {
        /// Send small packets at once (TCP_NODELAY).
        pub nodelay: bool = true,
        /// Silence after which the system asks whether the peer is still there; "0 s" never asks. Each question
        /// wakes the radio of a phone.
        pub keepalive_idle: Seconds = Seconds(450),
        /// Time between two such questions.
        pub keepalive_interval: Seconds = Seconds(60),
        /// Questions without an answer after which the connection counts as lost.
        pub keepalive_count: u32 = 3 => at_least(1),
    }
}

section! {
    /// Certificates.
    pub struct Tls in "tls" {
        /// Folder of certificates and keys, relative to the data folder: HOST.crt with HOST.key, one PEM file with
        /// both, or HOST/fullchain.pem with HOST/privkey.pem. A host that has none gets a self-signed one. Changed
        /// files are taken up without a restart.
        pub certificates: String = "certs".to_string() => |path| not_empty(path),
    }
}

section! {
    /// Where users, contacts and messages are kept.
    pub struct Storage in "storage" {
        /// The data folder, relative to the folder of this file; without a file, to where the server is started.
        pub path: String = "couplet-data".to_string() => |path| not_empty(path),
        /// "redb" keeps everything in one file, couplet.redb; "sqlite" in one of SQLite, couplet.sqlite, where that is
        /// built in (enterprise has it); "memory" forgets everything when the server stops. `couplet backup create`
        /// with one and `couplet backup restore FILE --replace` with the other takes all from one to the other.
        pub backend: Backend = Backend::Redb,
        /// Memory for pages of the data file; 0 is a sixty-fourth of memory.max, but no more than 256 kB.
        pub cache: Bytes = Bytes(0) => |size| cache(*size),
        /// Bytes that the data file may have, 1 MB of reserve included; 0 is as many as the disk has. When they are
        /// used up, new data is refused with an error and deleting still works. For what comes next the server gives up
        /// what it has promised to nobody: how much it had got of sessions that are over (XEP-0198), then the older
        /// half of the history of rooms. Accounts, rosters, messages and all that people have stored stay.
        pub size_max: Bytes = Bytes(0) => |size| size_max(*size),
        /// What a crash or a power cut may take with it. "durable": nothing that was acknowledged; each write is on
        /// the disk first. "batched": the same, or a few seconds, see promises; one write to the disk for all that
        /// came in commit_every. "volatile": everything since the last snapshot, also what was acknowledged; the data
        /// is in memory and goes to the disk every snapshot_every and when the server is told to stop.
        pub durability: Durability = Durability::Durable,
        /// For "batched": how long what is written waits for the disk, at most; half a megabyte does not wait.
        pub commit_every: Seconds = Seconds(5) => |time| at_least_a_second(*time),
        /// For "batched": "wait" acknowledges when it is on the disk, so every change takes up to commit_every, and
        /// nothing that was acknowledged is lost. "early" acknowledges at once; a crash, a power cut or a failing disk
        /// then loses what was acknowledged in the last commit_every.
        pub promises: Promised = Promised::Wait,
        /// For "volatile": time from a change to the next snapshot. It is as long as what a crash may lose.
        pub snapshot_every: Seconds = Seconds(3600) => |time| at_least_a_second(*time),
        /// Percent of the data file that must be free for it to be made smaller by itself, from 4 MB on; 0 never does
        /// that (`couplet compact` still does). Writes of all kinds leave 25 to 60 percent free.
        pub compact_free: u32 = 70 => |percent| compact_free(*percent),
        /// How long nothing must have been written before that.
        pub compact_idle: Seconds = Seconds(600) => |time| at_least_a_second(*time),
    }
}

words! {
    /// What a crash may take with it.
    pub enum Durability {
        /// Nothing that was acknowledged.
        Durable = "durable",
        /// What [`Promised`] says.
        Batched = "batched",
        /// Everything since the last snapshot.
        Volatile = "volatile",
    }
}

words! {
    /// When writes are acknowledged that wait for the disk.
    pub enum Promised {
        /// When they are there.
        Wait = "wait",
        /// At once.
        Early = "early",
    }
}

section! {
    /// Backups, made by `couplet backup create`.
    pub struct Backup in "backup" {
        /// Their folder, relative to the data folder. Better one on another disk.
        pub folder: String = "backups".to_string() => |path| not_empty(path),
        /// Backups that are kept; older ones are deleted when a new one is made. 0 keeps any number.
        pub keep: u32 = 7,
        /// Days for which a backup is kept, the newest always; 0 keeps them for ever.
        pub keep_days: u32 = 0,
    }
}

words! {
    /// Where accounts and messages are stored.
    pub enum Backend {
        /// In one file of the data folder.
        Redb = "redb",
        /// In one file of SQLite.
        Sqlite = "sqlite",
        /// In memory, for trials.
        Memory = "memory",
    }
}

impl Backend {
    /// True when what is stored outlives the server.
    pub fn is_kept(self) -> bool {
        self != Backend::Memory
    }
}

section! {
    /// Logging in.
    pub struct Sasl in "sasl" {
        /// Rounds that make a stolen password file costly to search (SCRAM), for passwords set from now on.
        pub iterations: u32 = 10_000 => |n| iterations(*n),
        /// Let clients that know nothing better send the password itself, through TLS.
        pub plain: bool = true,
        /// Offer the login of today beside that of RFC 6120, under TLS: SASL2 (XEP-0388), and with it a resource and a
        /// former session in the same round trip (XEP-0386, XEP-0198).
        pub sasl2: bool = true,
        /// Give clients a token to log in with the next time, in one round trip and without the password (XEP-0484).
        /// Needs sasl2. A new password ends all tokens of its account.
        pub fast: bool = true,
        /// How long a client may stay away before it has to log in with the password again.
        pub fast_token_lifetime: Seconds = Seconds(1_814_400) => |time| at_least_a_second(*time),
        /// Age from which a token is replaced by a new one when it is used.
        pub fast_token_rotation: Seconds = Seconds(86_400),
    }
}

section! {
    /// The log.
    pub struct Log in "log" {
        /// What is worth a line.
        pub level: Level = Level::Info,
        /// Other levels for parts of the program, such as "couplet::net=debug".
        pub levels: Vec<String> = Vec::new() => |levels| check_levels(levels),
        /// Where it goes.
        pub output: Output = Output::Stderr,
        /// The file for output = "file", relative to the data folder. SIGHUP opens it anew, for logrotate.
        pub file: String = "couplet.log".to_string() => |path| not_empty(path),
        /// One line of text, or one JSON object, for each event.
        pub format: Format = Format::Text,
    }
}

words! {
    /// What is worth a line in the log; each level holds those before it.
    pub enum Level {
        /// Nothing.
        Off = "off",
        /// What somebody must repair.
        Error = "error",
        /// What somebody should look at.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// Decisions with their reasons.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// Where the log goes.
    pub enum Output {
        /// The standard error.
        Stderr = "stderr",
        /// [`Log::file`].
        File = "file",
        /// The syslog daemon of this machine.
        Syslog = "syslog",
    }
}

words! {
    /// What a line of the log looks like.
    pub enum Format {
        /// Date, level, target, message.
        Text = "text",
        /// The same as an object.
        Json = "json",
    }
}

section! {
    /// What the server's process gives up before it serves anybody. Only a restart changes it.
    pub struct Process in "process" {
        /// Whom root becomes when it starts the server, behind opening the ports: a user of /etc/passwd, or a number.
        /// The data folder must belong to it. "" stays who it is; "root" does so without a warning.
        pub user: String = String::new(),
        /// The group, of /etc/group, or a number; "" is the user's own. It is in no other.
        pub group: String = String::new(),
        /// Reach no files but its own, where the kernel can see to that (Landlock, Linux 5.13 and later). Folders that
        /// the configuration names are its own, as they and links in them are when the server starts: what leads to
        /// another place later needs a restart.
        pub sandbox: bool = true,
    }
}

section! {
    /// Commands such as `couplet user add` reach the running server through this socket.
    pub struct Admin in "admin" {
        /// Its path, relative to the data folder.
        pub socket: String = "couplet.sock".to_string() => |path| not_empty(path),
    }
}

section! {
    /// The ceiling of the memory that the server takes, whatever strangers send. Close to it nobody new is let in, then
    /// caches are given up, then long queues, then connections that hold more than limits.fair_bytes. `couplet status`
    /// shows what is held for what.
    pub struct Memory in "memory" {
        /// Memory of the whole process, the program itself (4 MB) among it.
        pub max: Bytes = Bytes(32_000_000) => |size| at_least_bytes(*size, 8_000_000),
        /// Percent of max from which the log and `couplet status` warn.
        pub warning: u32 = 75 => |percent| warning(*percent),
        /// What single modules may hold in memory, such as "muc=4 MB"; every other one a quarter of max.
        pub modules: Vec<String> = Vec::new() => |rows| check_quotas(rows),
        /// Modules that not every machine is to run, each with the least memory_mode that it runs with, such as
        /// "muc=high".
        pub modes: Vec<String> = Vec::new() => |rows| check_modes(rows),
    }
}

impl Memory {
    /// Modules that do not run with `mode`. The check has refused rows that name none.
    pub(super) fn off_with(&self, mode: MemoryMode) -> impl Iterator<Item = String> {
        let rows = self.modes.iter().filter_map(|row| mode_of_module(row).ok());
        rows.filter(move |(_, least)| mode < *least).map(|(name, _)| name)
    }
}

/// Takes `muc=4 MB` apart.
pub(super) fn quota(row: &str) -> Result<(String, usize), String> {
    let (name, size) = of_module(row, "size", "4 MB")?;
    Ok((name, Bytes::parse(&size)?.0 as usize))
}

fn check_quotas(rows: &[String]) -> Result<(), String> {
    rows.iter().try_for_each(|row| quota(row).map(|_| ()))
}

/// Takes `muc=high` apart.
fn mode_of_module(row: &str) -> Result<(String, MemoryMode), String> {
    let (name, mode) = of_module(row, "mode", "high")?;
    Ok((name, MemoryMode::parse(&mode)?))
}

fn check_modes(rows: &[String]) -> Result<(), String> {
    rows.iter().try_for_each(|row| mode_of_module(row).map(|_| ()))
}

/// A module and what a row says of it.
fn of_module(row: &str, what: &str, example: &str) -> Result<(String, Value), String> {
    let (name, value) =
        row.split_once('=').ok_or_else(|| format!("\"{row}\" has no {what}; write for example \"muc={example}\""))?;
    let name = name.trim();
    let known = || KNOWN.iter().map(|(name, _)| *name);
    if !known().any(|known| known == name) {
        let hint = nearest(name, known()).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
        return Err(format!("there is no module \"{name}\"{hint}"));
    }
    Ok((name.to_string(), Value::Str(value.trim().to_string())))
}

fn warning(percent: u32) -> Result<(), String> {
    match percent {
        10..=90 => Ok(()),
        _ => Err(format!("{percent} does not fit; write a number from 10 to 90")),
    }
}

impl Log {
    /// [`Log::levels`] taken apart: a prefix of the log target and its level. The check has refused everything else.
    pub fn levels_by_target(&self) -> impl Iterator<Item = (&str, Level)> {
        self.levels.iter().filter_map(|row| level_of_target(row).ok())
    }
}

/// Takes `couplet::net=debug` apart.
fn level_of_target(row: &str) -> Result<(&str, Level), String> {
    let (target, level) = row
        .split_once('=')
        .filter(|(target, _)| !target.trim().is_empty())
        .ok_or_else(|| format!("\"{row}\" has no level; write for example \"couplet::net=debug\""))?;
    Ok((target.trim(), Level::parse(&Value::Str(level.trim().to_string()))?))
}

fn check_levels(levels: &[String]) -> Result<(), String> {
    levels.iter().try_for_each(|row| level_of_target(row).map(|_| ()))
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("this is empty; write a path".to_string()) } else { Ok(()) }
}

/// Less pages of the data file than that are read again and again.
const CACHE_MIN: u32 = 64_000;

/// What is enough for the pages that a small server needs.
const CACHE_ENOUGH: u32 = 256_000;

/// Of so many bytes of memory, pages of the data file take one where nothing was said.
const CACHE_SHARE: u32 = 64;

impl Storage {
    /// Memory for pages of the data file, in bytes, where the whole process may have `max`.
    pub fn cache_bytes(&self, max: Bytes) -> usize {
        let of_all = (max.0 / CACHE_SHARE).clamp(CACHE_MIN, CACHE_ENOUGH);
        (if self.cache.0 == 0 { of_all } else { self.cache.0 }) as usize
    }
}

fn at_least_bytes(size: Bytes, min: u32) -> Result<(), String> {
    if size.0 >= min {
        Ok(())
    } else {
        Err(format!("{} is too small; write {} or more", size.show(), Bytes(min).show()))
    }
}

fn cache(size: Bytes) -> Result<(), String> {
    if size.0 == 0 { Ok(()) } else { at_least_bytes(size, CACHE_MIN) }
}

fn at_least_a_second(time: Seconds) -> Result<(), String> {
    if time.0 > 0 { Ok(()) } else { Err("0 s is too short; write \"1 s\" or more".to_string()) }
}

/// A new file and its reserve have 2.2 MB.
fn size_max(size: Bytes) -> Result<(), String> {
    if size.0 == 0 { Ok(()) } else { at_least_bytes(size, 4_000_000) }
}

fn compact_free(percent: u32) -> Result<(), String> {
    match percent {
        0 | 20..=95 => Ok(()),
        _ => Err(format!("{percent} does not fit; write 0, or a number from 20 to 95")),
    }
}

/// RFC 5802 section 5.1 asks for at least 4096. Each login costs as many rounds of our time or of the client's: the
/// ceiling is some seconds of a small machine.
fn iterations(n: u32) -> Result<(), String> {
    match n {
        0..4096 => Err(format!("{n} is too small; write 4096 or more")),
        4096..=1_000_000 => Ok(()),
        _ => Err(format!("{n} is too large; write 1000000 or less")),
    }
}
