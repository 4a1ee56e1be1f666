//! `couplet run`.

use super::invite::shown;
use super::offline::{give_to_owner, make_certificates_folder, make_folder};
use super::{Exit, complain, load, say};
#[cfg(feature = "acme")]
use crate::config::Challenge;
use crate::config::{Backend, Config, Format, Level, Output};
use crate::core::admin::Command;
use crate::core::io::{Role, Transport};
use crate::engine::Settings;
use crate::jid::Jid;
#[cfg(feature = "acme")]
use crate::net::acme;
use crate::net::activation::{self, Passed};
use crate::net::authorities::Authorities;
use crate::net::clock::Clock;
use crate::net::listen::{Keepalive, Wish, key_of};
use crate::net::log::{LogFormat, LogOptions, LogTarget};
use crate::net::process::{self, Account, Process};
use crate::net::sandbox::Places;
use crate::net::shell::{Federation, Reload, Report, Tuning};
#[cfg(feature = "statistics")]
use crate::net::statistics;
use crate::net::{Handle, ServeError, ServeOptions, machine, serve};
use crate::storage::StoreOptions;
use argh::FromArgs;
use log::LevelFilter;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Run the server in the foreground, until SIGTERM or Ctrl-C. SIGHUP reloads.
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Run {
    /// configuration file (default: $COUPLET_CONFIG, else /etc/couplet/couplet.toml, else built-in defaults)
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Run {
    pub fn run(self) -> Exit {
        match self.prepare().map(serve) {
            Err(exit) => exit,
            Ok(Ok(())) => Exit::Ok,
            Ok(Err(
                error @ (ServeError::Listen(_)
                | ServeError::Certificates(_)
                | ServeError::Log(_)
                | ServeError::Process(_)),
            )) => complain(Exit::Failed, &format!("{error}\n`couplet check` looks at everything else, too.")),
            Ok(Err(error)) => complain(Exit::Failed, &error.to_string()),
        }
    }

    /// Not inlined: its part of the stack would stay in use below the server's.
    #[inline(never)]
    fn prepare(self) -> Result<Box<ServeOptions>, Exit> {
        let config = load(self.config.as_deref())?;
        let is_new = !config.store().file().is_some_and(Path::exists);
        make_folder(&config)
            .and_then(|()| make_certificates_folder(&config))
            .map_err(|error| complain(Exit::Failed, &error))?;
        give_to_owner(&config);
        let options = options(*config, self.config, is_new).map_err(|error| complain(Exit::BadConfig, &error))?;
        Ok(Box::new(options))
    }
}

fn options(mut config: Config, path: Option<PathBuf>, is_new: bool) -> Result<ServeOptions, String> {
    let process = process(&mut config)?;
    let listen = listen_addresses(&config);
    let passed = passed(&config)?;
    let store = config.store();
    let (described, looked_at) = (store.clone(), config.clone());
    // Who has neither written a configuration nor added a user yet is trying it out.
    let greets = config.file.is_none() || is_new;
    Ok(ServeOptions {
        listen,
        passed,
        certificates: config.certificates_folder(),
        plan: store.plan,
        store: Box::new(move || store.open()),
        store_status: Box::new(move || status_of(&described, &looked_at)),
        admin_socket: Some(config.admin_socket()),
        tuning: tuning(&config),
        settings: config.engine_settings(),
        reload: reload(config.clone(), path),
        process: Some(process),
        on_ready: Some(Box::new(move |serving| {
            if greets {
                say(&greeting(&config, &serving.addresses));
            }
            if let Some(account) = account_of_image(&config, |name| std::env::var(name).ok()) {
                make_account(serving.handle.clone(), account);
            }
            // Who reads it makes himself the administrator: it is for the eyes of who starts the server, not for a log
            // that is kept and that others read.
            if std::io::stdout().is_terminal() {
                invite_the_first(serving.handle.clone());
            }
        })),
    })
}

/// What `couplet status` says beside the engine.
fn status_of(store: &StoreOptions, config: &Config) -> String {
    let mut lines = vec![store.status()];
    lines.extend(super::cert::troubles(config));
    lines.join("\n")
}

/// What the process gives up; the limits of connections become what it has files for.
fn process(config: &mut Config) -> Result<Process, String> {
    let account = Account::find(&config.process.user, &config.process.group)?;
    let mut notices: Vec<String> = lacks(config).into_iter().map(|(_, notice)| notice).collect();
    notices.extend(process::fit_connections(&mut config.limits, process::raise_open_files()));
    #[cfg(feature = "acme")]
    let (authorities, program) = (config.acme_authorities_file(), config.acme_hook());
    #[cfg(not(feature = "acme"))]
    let (authorities, program) = (None, None);
    let places = config.process.sandbox.then(|| Places {
        data: config.data_folder(),
        certificates: config.certificates_folder(),
        files: config.file.iter().cloned().chain(value_files()).chain(config.list_files()).chain(authorities).collect(),
        authorities: config.authorities_file(),
        log: (config.log.output == Output::File).then(|| config.log_file()),
        socket: Some(config.admin_socket()),
        program,
    });
    Ok(Process {
        account,
        sandbox: places,
        data: config.data_folder(),
        backups: config.backup_folder(),
        secrets: config.secret_files(),
        notices,
    })
}

/// What this machine lacks, and what to do about it; with the word that `couplet check` has for it.
pub fn lacks(config: &Config) -> Vec<(&'static str, String)> {
    let listens = config.s2s.enabled && !(config.s2s.listen.is_empty() && config.s2s.direct_tls_listen.is_empty());
    let no_authorities = || Authorities::new(config.authorities_file()).path().err();
    let on_disk = config.storage.backend.is_kept();
    [
        ("clock", machine::clock(Clock::start().now().wall_ms)),
        ("memory", machine::memory(config.memory.max.0.into())),
        ("storage", on_disk.then(|| machine::room(&config.data_folder())).flatten()),
        ("authorities", listens.then(no_authorities).flatten()),
    ]
    .into_iter()
    .filter_map(|(what, notice)| Some((what, notice?)))
    .collect()
}

/// Files that variables of the environment name in place of a value.
fn value_files() -> impl Iterator<Item = PathBuf> {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_str().filter(|name| name.starts_with("COUPLET_") && name.ends_with("_FILE"));
        name.map(|_| PathBuf::from(value))
    };
    std::env::vars_os().filter_map(named)
}

/// The account that the variables of Prosody's container image name: `LOCAL`, `DOMAIN` and `PASSWORD`, all three, with
/// a domain that is served.
fn account_of_image(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Option<Command> {
    let (local, domain) = (variable("LOCAL")?, variable("DOMAIN")?);
    let password = Zeroizing::new(variable("PASSWORD")?);
    let jid = Jid::parse(&format!("{local}@{domain}")).ok()?;
    config
        .server
        .hosts
        .iter()
        .any(|host| host == jid.domain())
        .then(|| Command::UserAdd { jid: jid.to_string(), password })
}

/// Makes it, if it is not there yet. Unlike there, an account that exists keeps its password.
fn make_account(handle: Handle, account: Command) {
    let (reply, answer) = smol::channel::bounded(1);
    handle.report(Report::Admin(account, reply));
    std::thread::spawn(move || {
        if let Ok(reply) = answer.recv_blocking() {
            log::info!("the account of LOCAL and DOMAIN: {}", reply.text);
        }
    });
}

/// Shows the invitation for the first account, if there is none yet. It has a thread until the answer is there: that
/// comes from the worker, which serves once this has returned.
fn invite_the_first(handle: Handle) {
    let (reply, answer) = smol::channel::bounded(1);
    handle.report(Report::Admin(Command::InviteFirst, reply));
    std::thread::spawn(move || {
        if let Ok(reply) = answer.recv_blocking()
            && !reply.text.is_empty()
        {
            let text = "There is no account yet. With this link the first one is made, that of an administrator:";
            say(&format!("\n{text}\n\n{}\n", shown(&reply.text)));
        }
    });
}

/// Where to listen, STARTTLS first.
pub fn listen_addresses(config: &Config) -> Vec<Wish> {
    let Config { c2s, s2s, components, .. } = config;
    let kinds = [
        (&c2s.listen, Role::Client, Transport::StartTls),
        (&c2s.direct_tls_listen, Role::Client, Transport::DirectTls),
        (&s2s.listen, Role::Server, Transport::StartTls),
        (&s2s.direct_tls_listen, Role::Server, Transport::DirectTls),
        (&components.listen, Role::Component, Transport::StartTls),
    ];
    #[cfg(feature = "http")]
    let kinds = kinds.into_iter().chain([
        (&config.http.listen, Role::Web, Transport::StartTls),
        (&config.http.tls_listen, Role::Web, Transport::DirectTls),
    ]);
    #[cfg(feature = "acme")]
    let alone = config.acme_listen();
    #[cfg(feature = "acme")]
    let kinds = kinds.chain([(&alone, Role::Authority, Transport::StartTls)]);
    let of_kind = |(addresses, role, transport): (&Vec<crate::config::Address>, Role, Transport)| {
        addresses.iter().map(move |a| (SocketAddr::new(a.ip, a.port), role, transport)).collect::<Vec<_>>()
    };
    let is_on = |(_, role, _): &(_, Role, _)| match role {
        Role::Client | Role::Web | Role::Authority => true,
        Role::Server => s2s.enabled,
        Role::Component => !components.secrets.is_empty(),
    };
    kinds.into_iter().filter(is_on).flat_map(of_kind).collect()
}

/// Sockets that a supervisor passes.
fn passed(config: &Config) -> Result<Vec<Passed>, String> {
    let passed = activation::take()?;
    for Passed { role, transport, .. } in &passed {
        let off = match role {
            Role::Server if !config.s2s.enabled => "s2s.enabled is false",
            Role::Component if config.components.secrets.is_empty() => "components.secrets names no component",
            _ => continue,
        };
        let key = key_of(*role, *transport);
        return Err(format!("the supervisor passes a socket named \"{key}\", and {off}; disable its .socket unit"));
    }
    Ok(passed)
}

fn tuning(config: &Config) -> Tuning {
    Tuning {
        limits: config.limits.clone(),
        rates: config.engine_settings().core.rates,
        nodelay: config.tcp.nodelay,
        keepalive: Keepalive {
            idle_s: config.tcp.keepalive_idle.0,
            interval_s: config.tcp.keepalive_interval.0,
            count: config.tcp.keepalive_count,
        },
        hosts: config.server.hosts.clone(),
        federation: federation(config),
        #[cfg(feature = "http")]
        site: site(config),
        log: Some(log_options(config)),
        #[cfg(feature = "acme")]
        acme: config.acme.enabled.then(|| acme(config)),
        #[cfg(feature = "statistics")]
        statistics: statistics(config),
    }
}

/// Which figures are taken, and who gets them.
#[cfg(feature = "statistics")]
fn statistics(config: &Config) -> statistics::Settings {
    let wanted = &config.statistics;
    let place = |(host, port)| statistics::Place { host, port };
    let [graphite, statsd] = wanted.places().map(|found| found.map(place));
    let rows_max = wanted.rows() as usize;
    statistics::Settings { interval_s: wanted.interval.0, rows_max, prefix: wanted.prefix.clone(), graphite, statsd }
}

/// How certificates are got.
#[cfg(feature = "acme")]
fn acme(config: &Config) -> acme::Settings {
    let wanted = &config.acme;
    let contact = |address: &String| match address.starts_with("mailto:") {
        true => address.clone(),
        false => format!("mailto:{address}"),
    };
    let data = std::path::absolute(config.data_folder()).unwrap_or_else(|_| config.data_folder());
    let binding = acme::Binding { key_id: wanted.eab_key_id.clone(), hmac_key: wanted.eab_hmac_key.0.clone() };
    let hook = |program| acme::Hook {
        program,
        timeout_s: wanted.hook_timeout.0,
        folder: acme::Files::new(&data, Path::new("")).folder().to_path_buf(),
    };
    acme::Settings {
        visitor: acme::Visitor {
            directory: wanted.directory.clone(),
            contacts: wanted.contacts.iter().map(contact).collect(),
            terms_agreed: wanted.terms_agreed,
            binding: Some(binding).filter(|binding| !binding.key_id.is_empty()),
            kind: match wanted.challenge {
                Challenge::TlsAlpn => acme::Kind::TlsAlpn,
                Challenge::Http => acme::Kind::Http,
                Challenge::Dns => acme::Kind::Dns,
            },
        },
        hosts: config.acme_names(),
        authorities: config.acme_authorities_file(),
        hook: config.acme_hook().map(hook),
        dns_wait_s: wanted.dns_wait.0,
        name_servers: config.dns.servers.iter().map(|server| server.0).collect(),
        data,
    }
}

/// What is served by HTTP.
#[cfg(feature = "http")]
fn site(config: &Config) -> crate::http::SiteOptions {
    crate::http::SiteOptions {
        endpoints: cfg!(feature = "unified_push") && !config.modules.general.is_off("unified_push"),
        hosts: config.server.hosts.clone(),
        external_url: config.http.url(),
        trusted: config.http.trusted_proxies.iter().map(|network| network.0).collect(),
        proxy_protocol: config.http.proxy_protocol,
        origins: config.http.origins.clone(),
        websocket: config.http.websocket,
        bosh: config.http.bosh,
        files: files(config),
        metrics_from: config.http.metrics_from.iter().map(|network| network.0).collect(),
    }
}

/// Where users' files are, if they are kept.
#[cfg(feature = "upload")]
pub(super) fn files(config: &Config) -> Option<crate::http::upload::FilesOptions> {
    let upload = &config.modules.upload;
    (!config.modules.general.is_off("upload")).then(|| crate::http::upload::FilesOptions {
        folder: config.uploads_folder(),
        expires_s: upload.expires.0,
        total_max: upload.total_quota.0.into(),
    })
}

#[cfg(all(feature = "http", not(feature = "upload")))]
fn files(_: &Config) -> Option<crate::http::upload::FilesOptions> {
    None
}

/// How other servers are found and believed.
pub fn federation(config: &Config) -> Federation {
    Federation {
        authorities: config.authorities_file(),
        routes: config.s2s.routes.clone(),
        name_servers: config.dns.servers.iter().map(|server| server.0).collect(),
    }
}

fn log_options(config: &Config) -> LogOptions {
    LogOptions {
        target: match config.log.output {
            Output::Stderr => LogTarget::Stderr,
            Output::File => LogTarget::File(config.log_file()),
            Output::Syslog => LogTarget::Syslog,
        },
        format: match config.log.format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        },
        level: filter(config.log.level),
        levels: config.log.levels_by_target().map(|(target, level)| (target.to_string(), filter(level))).collect(),
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::Off,
        Level::Error => LevelFilter::Error,
        Level::Warn => LevelFilter::Warn,
        Level::Info => LevelFilter::Info,
        Level::Debug => LevelFilter::Debug,
        Level::Trace => LevelFilter::Trace,
    }
}

/// What to do about a file that the user of the server may use and the server may not.
const SANDBOXED: &str = "a folder that the server has not seen when it started needs a restart (process.sandbox)";

/// Reads the configuration again. What only a start can change is told and stays as it was.
fn reload(mut before: Config, path: Option<PathBuf>) -> Reload {
    Box::new(move || -> Result<(Box<Settings>, Tuning), String> {
        let mut config = Config::load(path.as_deref(), std::env::vars_os())
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        for key in needs_restart(&before, &config) {
            log::warn!("{key} has changed: restart couplet for that; until then the old value stays in force");
        }
        // Without them no other server could prove who it is, so they are not left to be missed later.
        if let Some(file) = config.authorities_file().filter(|_| config.s2s.ca != before.s2s.ca)
            && let Err(error) = File::open(&file)
        {
            return Err(format!("s2s.ca: cannot read {}: {error}; {SANDBOXED}", file.display()));
        }
        if let Some(warning) = process::fit_connections(&mut config.limits, process::raise_open_files()) {
            log::warn!("{warning}");
        }
        let parts = (Box::new(config.engine_settings()), tuning(&config));
        before = config;
        Ok(parts)
    })
}

/// Keys whose new value a reload cannot put in force.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut compare = |key, same: bool| {
        if !same {
            keys.push(key);
        }
    };
    compare("c2s.listen", old.c2s.listen == new.c2s.listen);
    compare("c2s.direct_tls_listen", old.c2s.direct_tls_listen == new.c2s.direct_tls_listen);
    compare("s2s.listen", old.s2s.listen == new.s2s.listen);
    compare("s2s.direct_tls_listen", old.s2s.direct_tls_listen == new.s2s.direct_tls_listen);
    let components = |config: &Config| (config.components.listen.clone(), config.components.secrets.is_empty());
    compare("components.listen", components(old) == components(new));
    #[cfg(feature = "http")]
    compare("http.listen or http.tls_listen", {
        let ports = |config: &Config| (config.http.listen.clone(), config.http.tls_listen.clone());
        ports(old) == ports(new)
    });
    compare("tls.certificates", old.tls.certificates == new.tls.certificates);
    compare("storage.path", old.storage.path == new.storage.path);
    compare("storage.backend", old.storage.backend == new.storage.backend);
    #[cfg(feature = "sqlite")]
    compare("sqlite.preset or sqlite.pragmas", old.sqlite == new.sqlite);
    let (old_store, new_store) = (old.store(), new.store());
    compare("storage.cache", old.storage.cache == new.storage.cache);
    compare("storage.size_max", old_store.options.size_max == new_store.options.size_max);
    compare("storage.durability or what belongs to it", old_store.plan.mode == new_store.plan.mode);
    compare("storage.compact_free or storage.compact_idle", old_store.plan.compact == new_store.plan.compact);
    compare("admin.socket", old.admin.socket == new.admin.socket);
    compare("process.user, process.group or process.sandbox", old.process == new.process);
    #[cfg(feature = "acme")]
    compare("acme.listen", old.acme_listen() == new.acme_listen());
    #[cfg(feature = "acme")]
    compare("acme.hook", old.acme_hook() == new.acme_hook() || !new.process.sandbox);
    keys
}

/// What somebody needs to know who sees the server for the first time.
fn greeting(config: &Config, addresses: &[Wish]) -> String {
    let host = config.server.hosts.first().map_or("localhost", String::as_str);
    let program = std::env::args().next().unwrap_or_else(|| "couplet".to_string());
    let option = config.file.as_deref().map(|file| format!(" -c {}", file.display())).unwrap_or_default();
    let ports = |transport: Transport, name: &str| {
        let of_it = addresses.iter().filter(|wish| (wish.1, wish.2) == (Role::Client, transport));
        let ports = of_it.map(|(address, ..)| address.port().to_string()).collect::<Vec<_>>().join(", ");
        (!ports.is_empty()).then(|| format!("{ports} ({name})"))
    };
    let ports = [ports(Transport::StartTls, "STARTTLS"), ports(Transport::DirectTls, "direct TLS")];
    let ports = ports.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let kept = match config.storage.backend {
        Backend::Redb | Backend::Sqlite => format!("Everything is kept in {}.", absolute(&config.data_folder())),
        Backend::Memory => "Nothing is kept: the server forgets everything when it stops.".to_string(),
    };
    format!(
        "Couplet serves {host} on port {ports}. {kept}\n\
         \n\
         Add two users; in another terminal, in this folder:\n\
         \n\
         \x20   {program} user add romeo@{host}{option}\n\
         \x20   {program} user add juliet@{host}{option}\n\
         \n\
         Then connect any XMPP client as one of them. It will ask whether to trust the certificate, unless you put\n\
         one that it knows into {}.\n\
         Ctrl-C stops the server. `{program} config example` prints a configuration to start from.\n",
        absolute(&config.certificates_folder())
    )
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newcomer is told the ports that are for clients, wherever they stand among the others.
    #[test]
    fn the_greeting_names_the_ports_of_clients_and_no_others() {
        let wish = |port: u16, role, transport| (SocketAddr::from(([127, 0, 0, 1], port)), role, transport);
        let wishes = [
            wish(5223, Role::Client, Transport::DirectTls),
            wish(5269, Role::Server, Transport::StartTls),
            wish(5347, Role::Component, Transport::StartTls),
            wish(5222, Role::Client, Transport::StartTls),
        ];
        let said = greeting(&Config::default(), &wishes);
        assert!(said.contains("on port 5222 (STARTTLS) and 5223 (direct TLS). "), "{said}");
    }
}
