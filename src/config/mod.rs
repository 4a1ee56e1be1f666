//! The configuration: one TOML file, the environment over it, built-in defaults below.
//!
//! Every key is a row of a [`section!`](crate::setting): field, type, default, documentation, name in the environment
//! and line of `config.example.toml` come from that row. A key that no section has is refused, so that a slip does not
//! silently mean the default.

#[cfg(feature = "acme")]
mod acme;
mod address;
mod check;
mod compliance;
mod federation;
#[cfg(feature = "http")]
mod http;
mod limits;
#[cfg(feature = "rules")]
mod lists;
mod prosody;
mod rates;
mod read;
mod sections;
mod show;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "statistics")]
mod statistics;

#[cfg(feature = "acme")]
pub use acme::{Acme, Challenge};
pub use address::Address;
pub use compliance::{Compliance, Reached, compliance};
pub use federation::{ComponentSecret, Components, Dns, NameServer, S2s};
#[cfg(feature = "http")]
pub use http::Http;
pub use limits::shown as shown_limits;
pub use rates::{Addresses, C2sRate, ComponentRate, Factor, Network, Preset, Rates, S2sRate};
#[cfg(feature = "compression")]
pub use sections::Compression;
pub use sections::{
    Admin, Backend, Backup, C2s, Durability, Format, Level, Log, Memory, MemoryMode, Output, Process, Promised, Sasl,
    Server, Storage, Tcp, Tls,
};
#[cfg(feature = "statistics")]
pub use statistics::Statistics;

#[cfg(feature = "sqlite")]
pub use sqlite::{Preset as SqlitePreset, Sqlite};

use crate::core::settings;
use crate::engine::Settings;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::modules;
use crate::setting::{MASK, Seconds, Section};
use crate::storage::redb::RedbOptions;
use crate::storage::{Kept, Mode, Plan, Promises, StoreOptions, WhenIdle};
use crate::stream::s2s::Policy;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Read when no other file is named and this one exists.
pub const SYSTEM_FILE: &str = "/etc/couplet/couplet.toml";

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "COUPLET_CONFIG";

/// The store's file of each form.
const FILES: [&str; 3] = ["couplet.redb", "couplet.snapshot", "couplet.sqlite"];

/// Everything that the operator can say, checked.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Keys above the first section. The hosts are prepared (nameprep) and each stands once.
    pub server: Server,
    /// `[c2s]`
    pub c2s: C2s,
    /// `[s2s]`. The domains are prepared.
    pub s2s: S2s,
    /// `[components]`.
    pub components: Components,
    /// `[dns]`
    pub dns: Dns,
    /// `[http]`
    #[cfg(feature = "http")]
    pub http: Http,
    /// `[compression]`
    #[cfg(feature = "compression")]
    pub compression: Compression,
    /// `[tcp]`
    pub tcp: Tcp,
    /// `[tls]`
    pub tls: Tls,
    /// `[acme]`. The hosts are prepared.
    #[cfg(feature = "acme")]
    pub acme: Acme,
    /// `[storage]`
    pub storage: Storage,
    /// `[sqlite]`
    #[cfg(feature = "sqlite")]
    pub sqlite: Sqlite,
    /// `[backup]`
    pub backup: Backup,
    /// `[sasl]`
    pub sasl: Sasl,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[statistics]`
    #[cfg(feature = "statistics")]
    pub statistics: Statistics,
    /// `[process]`
    pub process: Process,
    /// `[memory]`
    pub memory: Memory,
    /// `[limits]`
    pub limits: Limits,
    /// `[limits.addresses]`
    pub addresses: Addresses,
    /// `[limits.rates]`. The addresses are prepared.
    pub rates: Rates,
    /// `[limits.c2s]`
    pub c2s_rate: C2sRate,
    /// `[limits.s2s]`
    pub s2s_rate: S2sRate,
    /// `[limits.components]`
    pub component_rate: ComponentRate,
    /// `[modules]` and the sections below it.
    pub modules: modules::Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What deserves a line in the log but does not keep the server from starting.
    pub warnings: Vec<String>,
    /// What the files of lists have, by the place of the list.
    #[cfg(feature = "rules")]
    listed: Vec<(usize, Vec<String>)>,
    /// Where values that are not defaults come from, by full name of the key; of several, the last counts.
    origins: Vec<(String, Origin)>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Nobody set it.
    Default,
    /// A place of the file; lines and columns count from 1.
    File { file: String, line: usize, column: usize },
    /// An environment variable.
    Environment(String),
}

/// One thing that is wrong with the configuration, as `place: what is wrong and what to write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `FILE:LINE:COLUMN`, the name of an environment variable, or the key.
    pub place: String,
    /// What is wrong and what to write.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file at `path`, else the one that [`FILE_VARIABLE`] names, else [`SYSTEM_FILE`] if there is one; then
    /// the variables of `env` that begin with `COUPLET_`; and checks the result.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<ConfigError>> {
        read::load(path, env)
    }

    /// The folder of data. Relative paths count from the folder of the configuration file, or from the present folder
    /// when no file was read.
    pub fn data_folder(&self) -> PathBuf {
        let base = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        base.join(&self.storage.path)
    }

    /// Files of lists, which are read again at a reload.
    pub fn list_files(&self) -> Vec<PathBuf> {
        #[cfg(feature = "rules")]
        return lists::files(self);
        #[cfg(not(feature = "rules"))]
        Vec::new()
    }

    /// The folder of certificates.
    pub fn certificates_folder(&self) -> PathBuf {
        self.data_folder().join(&self.tls.certificates)
    }

    /// The file of authorities that are believed about other servers; None is the system's.
    pub fn authorities_file(&self) -> Option<PathBuf> {
        let base = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        (!self.s2s.ca.is_empty()).then(|| base.join(&self.s2s.ca))
    }

    /// The file of authorities that vouch for the server of the one that issues our certificates; None is the system's.
    #[cfg(feature = "acme")]
    pub fn acme_authorities_file(&self) -> Option<PathBuf> {
        let base = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        (!self.acme.ca.is_empty()).then(|| base.join(&self.acme.ca))
    }

    /// The program that writes records of DNS.
    #[cfg(feature = "acme")]
    pub fn acme_hook(&self) -> Option<PathBuf> {
        let base = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let is_used = self.acme.enabled && self.acme.challenge == Challenge::Dns && !self.acme.hook.is_empty();
        // It is started in another folder.
        is_used.then(|| base.join(&self.acme.hook)).map(|path| std::path::absolute(&path).unwrap_or(path))
    }

    /// Where the store is, and how it is used.
    pub fn store(&self) -> StoreOptions {
        let Storage { size_max, backend, durability, promises, .. } = self.storage;
        let milliseconds = |time: Seconds| u64::from(time.0) * 1000;
        let folder = self.data_folder();
        let [redb, snapshot, sqlite] = FILES.map(|name| folder.join(name));
        let kept = match (backend, durability) {
            (Backend::Memory, _) => Kept::Nowhere,
            (_, Durability::Volatile) => Kept::Snapshot { path: snapshot, others: [redb, sqlite] },
            #[cfg(feature = "sqlite")]
            (Backend::Sqlite, _) => {
                Kept::Sqlite { path: sqlite, others: [redb, snapshot], tuning: self.sqlite.tuning() }
            }
            // The check has refused what is not built in.
            _ => Kept::File { path: redb, others: [snapshot, sqlite] },
        };
        let mode = match durability {
            Durability::Durable => Mode::Durable,
            Durability::Batched => Mode::Batched {
                every_ms: milliseconds(self.storage.commit_every),
                promises: match promises {
                    Promised::Wait => Promises::Wait,
                    Promised::Early => Promises::Early,
                },
            },
            Durability::Volatile => Mode::Volatile { snapshot_every_ms: milliseconds(self.storage.snapshot_every) },
        };
        // The check has refused what is no percentage.
        let free_percent = u8::try_from(self.storage.compact_free).unwrap_or_default();
        let idle_ms = milliseconds(self.storage.compact_idle);
        let compact = (free_percent > 0).then_some(WhenIdle { idle_ms, free_percent });
        let options =
            RedbOptions { cache_bytes: self.storage.cache_bytes(self.memory.max), size_max: size_max.0.into() };
        StoreOptions { kept, options, plan: Plan { mode, compact } }
    }

    /// The folder of backups.
    pub fn backup_folder(&self) -> PathBuf {
        self.data_folder().join(&self.backup.folder)
    }

    /// The log file, for [`Output::File`].
    pub fn log_file(&self) -> PathBuf {
        self.data_folder().join(&self.log.file)
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_folder().join(&self.admin.socket)
    }

    /// The engine's part.
    pub fn engine_settings(&self) -> Settings {
        let core = settings::Settings {
            hosts: self.server.hosts.clone(),
            // The check has refused what is no address.
            admins: self.server.admins.iter().filter_map(|admin| Jid::parse(admin).ok()).collect(),
            encryption_required: self.c2s.encryption_required,
            plain_allowed: self.sasl.plain,
            sasl2: self.sasl.sasl2,
            fast: self.sasl.fast,
            fast_lifetime_s: self.sasl.fast_token_lifetime.0,
            fast_rotation_s: self.sasl.fast_token_rotation.0,
            iterations: self.sasl.iterations,
            #[cfg(feature = "compression")]
            compression: self.compression.enabled,
            memory: settings::Memory {
                max_bytes: self.memory.max.0 as usize,
                warning_percent: self.memory.warning,
                modules: self.memory.modules.iter().filter_map(|row| sections::quota(row).ok()).collect(),
            },
            components: self.components.secrets.iter().map(|secret| secret.0.clone()).collect(),
            s2s: Policy {
                enabled: self.s2s.enabled,
                secure_auth: self.s2s.secure_auth,
                insecure: self.s2s.insecure_domains.clone(),
                dialback: self.s2s.dialback,
                bidi: self.s2s.bidi,
                blocked: self.s2s.blocked_domains.clone(),
                allowed: self.s2s.allowed_domains.clone(),
            },
            exempt: self.exempt(),
            #[cfg(feature = "http")]
            url: self.http.url(),
            rates: self.rates.all(&self.c2s_rate, &self.s2s_rate, &self.component_rate),
            // Its module fills it in.
            archive: settings::Archive::default(),
            #[cfg(feature = "rtbl")]
            rtbl: Vec::new(),
            limits: self.limits.clone(),
        };
        let mut modules = self.modules.clone();
        #[cfg(feature = "rules")]
        lists::add(&self.listed, &mut modules.rules.lists);
        modules.general.disabled.extend(self.memory.off_with(self.server.memory_mode));
        Settings { core, modules }
    }

    /// For whom there are no limits of connections: whom the operator has named, and proxies that stand for others.
    fn exempt(&self) -> Vec<crate::core::gate::Network> {
        let named = self.addresses.exempt.iter();
        #[cfg(feature = "http")]
        let named = named.chain(&self.http.trusted_proxies);
        named.map(|network| network.0).collect()
    }

    /// The values in force as TOML, each with where it comes from. Secrets are masked.
    pub fn show(&self) -> String {
        show::effective(self)
    }

    /// The text of `config.example.toml`: every section and key of this build with documentation and default.
    pub fn example() -> String {
        show::example()
    }

    /// The folder of users' files.
    #[cfg(feature = "http")]
    pub fn uploads_folder(&self) -> PathBuf {
        self.data_folder().join("uploads")
    }

    /// Sets one key, as a line of the file would.
    ///
    /// # Errors
    /// One line that says what is wrong; also when this build has no such key.
    #[cfg(feature = "import")]
    pub fn try_set(&mut self, section: &str, key: &str, value: &crate::setting::Value) -> Result<(), String> {
        let is = |s: &&mut dyn Section| s.name() == section && s.fields().iter().any(|field| field.key == key);
        match self.sections().into_iter().find(is) {
            Some(section) => section.set(key, value),
            None => Err("this build has nothing of that".to_string()),
        }
    }

    /// Names of all sections, in the order of the example.
    #[cfg(feature = "import")]
    pub fn section_names(&mut self) -> Vec<&'static str> {
        self.sections().iter().map(|section| section.name()).collect()
    }

    /// The files that values come from which nobody but the server should know.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let mut copy = self.clone();
        let holds_secret = copy.sections().iter().any(|section| {
            section.fields().iter().any(|field| {
                let is_masked = section.show(field.key).is_some_and(|shown| shown.contains(MASK));
                is_masked && matches!(self.origin(section.name(), field.key), Origin::File { .. })
            })
        });
        self.file.iter().filter(|_| holds_secret).cloned().collect()
    }

    /// All sections in the order of the example.
    fn sections(&mut self) -> Vec<&mut dyn Section> {
        let mut all: Vec<&mut dyn Section> = vec![
            &mut self.server,
            &mut self.c2s,
            &mut self.s2s,
            &mut self.components,
            &mut self.dns,
            #[cfg(feature = "http")]
            &mut self.http,
            &mut self.tls,
            #[cfg(feature = "acme")]
            &mut self.acme,
            &mut self.sasl,
            &mut self.storage,
            #[cfg(feature = "sqlite")]
            &mut self.sqlite,
            &mut self.backup,
            &mut self.log,
            &mut self.admin,
            #[cfg(feature = "statistics")]
            &mut self.statistics,
            &mut self.process,
            &mut self.memory,
            &mut self.tcp,
            #[cfg(feature = "compression")]
            &mut self.compression,
            &mut self.limits,
            &mut self.addresses,
            &mut self.rates,
            &mut self.c2s_rate,
            &mut self.s2s_rate,
            &mut self.component_rate,
        ];
        all.extend(self.modules.sections());
        all
    }

    fn origin(&self, section: &str, key: &str) -> &Origin {
        let name = full_name(section, key);
        let set = self.origins.iter().rev().find(|(of, _)| *of == name);
        set.map_or(&Origin::Default, |(_, origin)| origin)
    }
}

/// `section.key`, or the key alone above the first section.
fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
}

/// The environment variable of a key: `COUPLET_LOG__LEVEL`.
fn variable(section: &str, key: &str) -> String {
    let name = full_name(section, key).replace('.', "__").replace('-', "_");
    format!("COUPLET_{}", name.to_uppercase())
}
