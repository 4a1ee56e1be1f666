//! `couplet check`: everything that `couplet run` would stumble over, all at once.

use super::run::{federation, lacks, listen_addresses};
use super::{Exit, complain, say, with_config};
#[cfg(feature = "acme")]
use crate::config::Challenge;
use crate::config::{Config, Output};
use crate::core::admin::{Command, OK};
use crate::net::admin::{CallError, call};
use crate::net::authorities::Authorities;
use crate::net::certs::CertStore;
use crate::net::listen::key_of;
use crate::net::modes::{self, Exposure};
use crate::net::process::{Account, fit_connections, raise_open_files};
use crate::net::{machine, sandbox};
use argh::FromArgs;
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Check configuration, certificates, ports and storage, and say what to do about what is wrong.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,

    #[argh(subcommand)]
    what: Option<What>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum What {
    Dns(Dns),
}

/// Print the DNS records that the domains need, for a zone file, and compare them with what name servers say.
#[derive(FromArgs)]
#[argh(subcommand, name = "dns")]
struct Dns {
    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl Check {
    pub fn run(&self) -> Exit {
        if let Some(What::Dns(dns)) = &self.what {
            return with_config(dns.config.as_ref().or(self.config.as_ref()), super::dns::check);
        }
        let mut report = Report::default();
        let config = match Config::load(self.config.as_deref(), std::env::vars_os()) {
            Ok(config) => config,
            Err(errors) => {
                errors.iter().for_each(|error| report.fail("configuration", &error.to_string()));
                return complain(Exit::BadConfig, &report.text);
            }
        };
        configuration(&config, &mut report);
        let is_running = server(&config, &mut report);
        process(&config, &mut report);
        // Whether there are authorities is looked at below, and harder.
        for (what, notice) in lacks(&config).iter().filter(|(what, _)| *what != "authorities") {
            report.warn(what, notice);
        }
        certificates(&config, &mut report);
        by_themselves(&config, &mut report);
        authorities(&config, &mut report);
        if !is_running {
            ports(&config, &mut report);
            storage(&config, &mut report);
        }
        log_file(&config, &mut report);
        say(&report.text);
        if report.failures == 0 { Exit::Ok } else { Exit::Failed }
    }
}

/// The lines so far.
#[derive(Default)]
struct Report {
    text: String,
    failures: u32,
}

impl Report {
    fn ok(&mut self, what: &str, text: &str) {
        self.line("ok", what, text);
    }

    fn warn(&mut self, what: &str, text: &str) {
        self.line("warn", what, text);
    }

    fn fail(&mut self, what: &str, text: &str) {
        self.failures += 1;
        self.line("FAIL", what, text);
    }

    fn line(&mut self, verdict: &str, what: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{verdict:<5} {what}: {text}");
    }
}

fn configuration(config: &Config, report: &mut Report) {
    match &config.file {
        Some(file) => report.ok("configuration", &file.display().to_string()),
        None => report.ok("configuration", "built-in defaults; `couplet config example` prints a file to start from"),
    }
    config.warnings.iter().for_each(|warning| report.warn("configuration", warning));
    report.ok("hosts", &config.server.hosts.join(", "));
}

/// Whether a server runs with this data folder; its ports and its store are taken then, as they should be.
fn server(config: &Config, report: &mut Report) -> bool {
    match call(&config.admin_socket(), &Command::Healthcheck) {
        Ok(reply) if reply.code == OK => {
            report.ok("server", "running and well; it holds the ports and the storage");
            true
        }
        Ok(reply) => {
            report.fail("server", &reply.text);
            true
        }
        Err(CallError::NotRunning) => {
            report.ok("server", "not running");
            false
        }
        Err(error) => {
            report.fail("server", &error.to_string());
            false
        }
    }
}

fn certificates(config: &Config, report: &mut Report) {
    let folder = config.certificates_folder();
    match CertStore::inspect(&folder, &config.server.hosts) {
        Ok((hosts, notices)) => {
            for (host, found) in hosts {
                match found {
                    Some(_) => report.ok("certificate", &host),
                    None => {
                        let text = format!("{host}: none in {}; a self-signed one will be made", folder.display());
                        report.ok("certificate", &text);
                    }
                }
            }
            for notice in notices {
                if notice.is_warning() {
                    report.warn("certificate", &notice.to_string());
                } else {
                    report.ok("certificate", &notice.to_string());
                }
            }
        }
        Err(error) => report.fail("certificate", &error.to_string()),
    }
}

/// Certificates that the server gets by itself.
#[cfg(feature = "acme")]
fn by_themselves(config: &Config, report: &mut Report) {
    let wanted = config.acme_names();
    if !config.acme.enabled {
        return;
    }
    for host in config.server.hosts.iter().filter(|host| wanted.iter().all(|(name, _)| name != *host)) {
        report.ok("acme", &format!("{host} gets no certificate by itself"));
    }
    for (host, names) in &wanted {
        report.ok("acme", &format!("{host} gets a certificate for {}", names.join(", ")));
    }
    super::cert::troubles(config).iter().for_each(|trouble| report.warn("acme", trouble));
    if !config.acme.terms_agreed {
        let text = "terms_agreed is false: most authorities want you to agree to their terms; the log and this command \
                    say where they are, once the authority was asked";
        report.warn("acme", text);
    }
    if let Err(error) = Authorities::new(config.acme_authorities_file()).count() {
        report.fail("acme", &error.replace("s2s.ca", "acme.ca"));
    }
    match config.acme_hook() {
        Some(hook) if rustix::fs::access(&hook, Access::READ_OK | Access::EXEC_OK).is_err() => {
            report.fail("acme", &format!("cannot run {}: write the program, then chmod +x it", hook.display()));
        }
        Some(_) => {}
        None if config.acme.challenge == Challenge::Http => {
            if config.acme.listen.iter().chain(&config.http.listen).all(|address| address.port != 80) {
                let text = "authorities connect to port 80: forward it to a port of acme.listen or http.listen";
                report.ok("acme", text);
            }
        }
        None => {
            let ports = [&config.c2s.direct_tls_listen, &config.http.tls_listen, &config.s2s.direct_tls_listen];
            let ports = ports.into_iter().flatten();
            if ports.clone().all(|address| address.port != 443) {
                let ports: Vec<String> = ports.map(|address| address.port.to_string()).collect();
                let text = format!(
                    "authorities connect to port 443: forward it to one of {}, or put \"[::]:443\" into \
                     c2s.direct_tls_listen",
                    ports.join(", ")
                );
                report.ok("acme", &text);
            }
        }
    }
}

#[cfg(not(feature = "acme"))]
fn by_themselves(_config: &Config, _report: &mut Report) {}

/// Who the server will be, what it can reach, and who can reach its files.
fn process(config: &Config, report: &mut Report) {
    match Account::find(&config.process.user, &config.process.group) {
        Ok(Some(account)) => report.ok("process", &format!("becomes user {account} when root starts it")),
        Ok(None) if geteuid().is_root() => {
            report.warn("process", "runs as root when root starts it; make a user, and set process.user");
        }
        Ok(None) => report.ok("process", "runs as the user who starts it"),
        Err(error) => report.fail("process", &error),
    }
    match (config.process.sandbox, sandbox::is_available()) {
        (true, true) => report.ok("process", "a sandbox (Landlock) keeps it to its own files"),
        (true, false) => report.ok("process", "no sandbox: this kernel has no Landlock"),
        (false, _) => report.ok("process", "no sandbox: process.sandbox is off"),
    }
    if let Some(warning) = fit_connections(&mut config.limits.clone(), raise_open_files()) {
        report.warn("process", &warning);
    }
    for exposed in modes::look(&config.data_folder(), &config.backup_folder(), &config.secret_files()) {
        match exposed.what {
            Exposure::FolderWritable => report.fail("files", &exposed.to_string()),
            _ => report.warn("files", &exposed.to_string()),
        }
    }
}

/// Without them no other server can prove who it is.
fn authorities(config: &Config, report: &mut Report) {
    let listens = !config.s2s.listen.is_empty() || !config.s2s.direct_tls_listen.is_empty();
    let authorities = Authorities::new(federation(config).authorities);
    match authorities.path().and_then(|path| Ok((path.display(), authorities.count()?))) {
        Ok((path, count)) => report.ok("authorities", &format!("{count} in {path}")),
        // The operator has named this file.
        Err(error) if !config.s2s.ca.is_empty() => report.fail("authorities", &error),
        Err(error) if listens => report.warn("authorities", &error),
        Err(_) => {}
    }
}

fn ports(config: &Config, report: &mut Report) {
    let addresses = listen_addresses(config);
    // All of them open at the same time, as the server will have them.
    let mut open = Vec::new();
    for (address, role, transport) in addresses {
        let (key, kind) = (key_of(role, transport), crate::net::kind_of(role, transport));
        match bind(address) {
            Ok(listener) => {
                open.push(listener);
                report.ok("port", &format!("{address} is free ({kind})"));
            }
            Err(error) => report.fail("port", &port_error(address, key, &error)),
        }
    }
}

fn port_error(address: SocketAddr, key: &str, error: &std::io::Error) -> String {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("another program listens on {address}: stop it (`ss -ltnp sport = :{port}` shows it) or set {key}")
        }
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "not allowed to listen on {address}: ports below 1024 need `setcap cap_net_bind_service=+ep` on the \
             couplet binary; or set {key} to a higher port"
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {}: set {key} to one it has", address.ip())
        }
        _ => format!("cannot listen on {address}: {error}; set {key} to another address"),
    }
}

/// A machine without IPv6 listens on IPv4 alone.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    TcpListener::bind(address).or_else(|error| match (error.kind(), address.ip()) {
        (ErrorKind::AddrNotAvailable | ErrorKind::Unsupported, IpAddr::V6(ip)) if ip.is_unspecified() => {
            TcpListener::bind(any_v4)
        }
        _ => Err(error),
    })
}

fn storage(config: &Config, report: &mut Report) {
    let store = config.store();
    let Some(file) = store.file() else {
        return report.warn("storage", "in memory: everything is forgotten when the server stops");
    };
    if !file.exists() && !store.has_other_form() {
        return match writable_ancestor(&config.data_folder()) {
            Ok(()) => new_store(file, report),
            Err(error) => report.fail("storage", &error),
        };
    }
    match store.open() {
        Ok(_) => report.ok("storage", &store.status()),
        Err(error) => report.fail("storage", &error.to_string()),
    }
}

/// A disk that has too little room for a new store.
fn new_store(file: &Path, report: &mut Report) {
    let folder = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (folder, needed) = (existing_ancestor(&folder), machine::NEW_STORE_BYTES);
    match machine::room_bytes(folder).filter(|free| *free < needed) {
        None => report.ok("storage", &format!("{} will be made at the first start", file.display())),
        Some(free) => report.fail(
            "storage",
            &format!(
                "{} kB are free in {}, and a new store takes {} kB: free some space, or set storage.path",
                free / 1000,
                folder.display(),
                needed / 1000
            ),
        ),
    }
}

fn log_file(config: &Config, report: &mut Report) {
    if config.log.output == Output::File {
        let file = config.log_file();
        let folder = file.parent().unwrap_or(Path::new(""));
        // The data folder will be made; any other must be there.
        let checked = if folder == config.data_folder() { writable_ancestor(folder) } else { writable(folder) };
        match checked {
            Ok(()) => report.ok("log", &file.display().to_string()),
            Err(error) => report.fail("log", &error),
        }
    }
}

/// Whether `folder`, or else the nearest folder above it that exists, can be written to.
fn writable_ancestor(folder: &Path) -> Result<(), String> {
    let folder = std::path::absolute(folder).map_err(|e| e.to_string())?;
    writable(existing_ancestor(&folder))
}

fn existing_ancestor(folder: &Path) -> &Path {
    folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("/"))
}

fn writable(folder: &Path) -> Result<(), String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let access = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK);
    if folder.is_dir() && access.is_ok() {
        return Ok(());
    }
    let remedy = match access {
        Err(Errno::ROFS) => "look at the disk (dmesg), then mount it for writing, or set another folder",
        _ => "make it a folder that the user who runs couplet may write to",
    };
    Err(format!("cannot write to {}: {remedy}", folder.display()))
}
