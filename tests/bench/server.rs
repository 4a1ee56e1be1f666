//! The servers: ours, those of others that are installed, and a bare echo. Each is started on a processor of its own,
//! with a copy of a data folder that was made once, and reached on a free port of the loopback address.

use crate::crowd::{Crowd, HOST, PASSWORD, PATIENCE, Profile};
use crate::net::Net;
use crate::seed;
use couplet::core::admin::Command as Admin;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The processor of every server.
pub const SERVER_CORE: &str = "0";
/// The processor of the generator.
pub const GENERATOR_CORE: &str = "1";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours, as it is published, with the limits lifted that all servers have lifted.
    Couplet,
    /// The same, with its store in SQLite.
    Sqlite,
    /// Ours, with its own limits.
    Defaults,
    /// Debian's Prosody.
    Prosody,
    /// Debian's ejabberd, with few modules and one scheduler.
    Ejabberd,
    /// Debian's jabberd2.
    Jabberd2,
    /// No XMPP at all: a TLS echo on our runtime. What it takes is what nobody can take away.
    Echo,
}

impl Kind {
    /// All, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Couplet, Self::Sqlite, Self::Prosody, Self::Ejabberd, Self::Jabberd2, Self::Defaults, Self::Echo];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Couplet => "Couplet",
            Self::Sqlite => "Couplet, SQLite",
            Self::Defaults => "Couplet, own limits",
            Self::Prosody => "Prosody",
            Self::Ejabberd => "ejabberd",
            Self::Jabberd2 => "jabberd2",
            Self::Echo => "TLS echo",
        }
    }

    /// As files are called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Couplet | Self::Defaults => "couplet",
            Self::Sqlite => "couplet-sqlite",
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
            Self::Jabberd2 => "jabberd2",
            Self::Echo => "echo",
        }
    }

    /// As `BENCH_SERVERS` calls it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::Sqlite => "sqlite",
            _ => self.word(),
        }
    }

    /// What to do where it is not on this machine.
    pub fn remedy(self) -> String {
        match self {
            Self::Sqlite => "the binary has no SQLite; build it with `--features balanced,sqlite`".into(),
            _ => format!("not installed; on Debian try `apt-get install {}`", self.word()),
        }
    }

    /// Whether it is on this machine.
    pub fn is_installed(self) -> bool {
        match self {
            Self::Couplet | Self::Defaults => couplet().is_ok(),
            Self::Sqlite => couplet().is_ok_and(|path| has_sqlite(&path)),
            Self::Prosody => Path::new("/usr/bin/prosody").exists(),
            Self::Ejabberd => ejabberd_code().is_some(),
            Self::Jabberd2 => Path::new("/usr/sbin/jabberd2-c2s").exists(),
            Self::Echo => true,
        }
    }

    /// Whether it is one of ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Couplet | Self::Sqlite | Self::Defaults)
    }
}

/// The folder that all results and all data of runs are in.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench")
}

/// The binary of ours that is measured.
pub fn couplet() -> Result<PathBuf, String> {
    let path = std::env::var("BENCH_COUPLET").map_err(|_| "BENCH_COUPLET names no binary: use `make bench`")?;
    fs::canonicalize(&path).map_err(|e| format!("{path}: {e}"))
}

/// Whether a binary of ours has SQLite built in.
fn has_sqlite(binary: &Path) -> bool {
    let about = Command::new(binary).arg("about").output();
    about.is_ok_and(|about| String::from_utf8_lossy(&about.stdout).contains(": redb, sqlite"))
}

fn ejabberd_code() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib/x86_64-linux-gnu").or_else(|_| fs::read_dir("/usr/lib")).ok()?;
    let mut found: Vec<_> = folders.flatten().map(|entry| entry.path().join("ebin")).collect();
    found.retain(|path| path.to_string_lossy().contains("/ejabberd-") && path.join("ejabberd.app").exists());
    found.pop()
}

/// A server that runs. Dropping it ends it.
pub struct Server {
    /// Which.
    pub kind: Kind,
    /// Where it takes TLS with the first byte.
    pub address: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a server on a fresh copy of its seed.
    pub fn start(kind: Kind) -> Result<Self, String> {
        let folder = target().join("run").join(kind.word());
        let _ = fs::remove_dir_all(&folder);
        if kind == Kind::Echo {
            fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        } else {
            copy(&seed::folder(kind), &folder)?;
        }
        Self::start_in(kind, folder)
    }

    /// Starts a server in a folder that may be empty.
    pub fn start_in(kind: Kind, folder: PathBuf) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut server = Self { kind, address, folder, child: None };
        server.run()?;
        Ok(server)
    }

    /// The first of its processes.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Clients of it, none yet.
    pub fn crowd(&self) -> Result<Crowd, String> {
        Ok(Crowd::new(Net::new(self.address)?))
    }

    /// Ends it and starts it again, on the same data.
    pub fn restart(&mut self) -> Result<(), String> {
        self.stop();
        self.run()
    }

    /// Makes accounts: by the operator's way where that is fast, else as strangers do.
    pub fn add_users(&self, users: std::ops::Range<usize>) -> Result<(), String> {
        if !self.kind.is_ours() {
            let profile = Profile { registers: true, ..Profile::default() };
            let mut crowd = self.crowd()?;
            return crowd.log_in(users, profile, 16, &mut |_, _, _| {}).map(drop);
        }
        let socket = self.folder.join("data/couplet.sock");
        let add = |user: usize| {
            let (jid, password) = (format!("u{user}@{HOST}"), PASSWORD.to_owned().into());
            match couplet::net::admin::call(&socket, &Admin::UserAdd { jid, password }) {
                Ok(reply) if reply.code == 0 => Ok(()),
                Ok(reply) => Err(reply.text),
                Err(error) => Err(error.to_string()),
            }
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..4)
                .map(|part| {
                    let users = users.clone();
                    scope.spawn(move || users.skip(part).step_by(4).try_for_each(add))
                })
                .collect();
            parts.into_iter().try_for_each(|part| part.join().unwrap_or_else(|_| Err("a thread ends".into())))
        })
    }

    fn run(&mut self) -> Result<(), String> {
        self.configure()?;
        let log = fs::File::create(self.folder.join("log")).map_err(|e| e.to_string())?;
        let program = self.program()?;
        // It ends with the generator, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "taskset", "-c", SERVER_CORE])
            .args(program)
            .env_clear()
            .current_dir(&self.folder)
            .process_group(0);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.folder);
        command.env("EJABBERD_CONFIG_PATH", self.folder.join("ejabberd.yml"));
        command.env("EJABBERD_LOG_PATH", self.folder.join("ejabberd.log"));
        if self.kind == Kind::Sqlite {
            command.env("COUPLET_STORAGE__BACKEND", "sqlite");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(|e| e.to_string())?).stderr(log);
        let child = self.child.insert(command.spawn().map_err(|e| format!("setpriv: {e}"))?);
        let begin = Instant::now();
        loop {
            if TcpStream::connect(self.address).is_ok() {
                std::thread::sleep(Duration::from_millis(300));
                return Ok(());
            }
            let ended = child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("{} does not start:\n{log}", self.kind.name()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes the files that say what it is to do.
    fn configure(&self) -> Result<(), String> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/peers");
        let write =
            |name: &str, text: &str| fs::write(self.folder.join(name), text).map_err(|e| format!("{name}: {e}"));
        let folder = self.folder.display().to_string();
        let [plain, inner] = [free_port()?.to_string(), free_port()?.to_string()];
        let fill = |name: &str| {
            let path = peers.join(name);
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let text = text.replace("@FOLDER@", &folder).replace("@TLS@", &self.address.port().to_string());
            Ok::<_, String>(text.replace("@PLAIN@", &plain).replace("@INNER@", &inner))
        };
        let [certificate, key] = seed::certificate()?;
        write("localhost.crt", &certificate)?;
        write("localhost.key", &key)?;
        write("localhost.pem", &format!("{certificate}{key}"))?;
        match self.kind {
            Kind::Couplet | Kind::Sqlite => {
                write("couplet.toml", &(fill("couplet.toml")? + &fill("couplet-lifted.toml")?))
            }
            Kind::Defaults => write("couplet.toml", &fill("couplet.toml")?),
            Kind::Prosody => write("prosody.cfg.lua", &fill("prosody.cfg.lua")?),
            Kind::Ejabberd => write("ejabberd.yml", &fill("ejabberd.yml")?),
            Kind::Jabberd2 => ["router.xml", "router-users.xml", "sm.xml", "c2s.xml", "run"]
                .iter()
                .try_for_each(|name| write(name, &fill(&format!("jabberd2/{name}"))?)),
            Kind::Echo => Ok(()),
        }
    }

    fn program(&self) -> Result<Vec<String>, String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Ok(match self.kind {
            Kind::Couplet | Kind::Sqlite | Kind::Defaults => {
                words(&[&couplet()?.display().to_string(), "run", "--config", &file("couplet.toml")])
            }
            Kind::Prosody => words(&["prosody", "--config", &file("prosody.cfg.lua"), "-F"]),
            Kind::Ejabberd => {
                let code = ejabberd_code().ok_or("no ejabberd")?.display().to_string();
                let data = format!("\"{}\"", file("mnesia"));
                let options = ["-noinput", "+K", "true", "+S", "1", "+P", "250000", "+Q", "65536", "-mnesia", "dir"];
                words(&[&["erl", "-pa", &code], &options[..], &[&data, "-s", "ejabberd"]].concat())
            }
            Kind::Jabberd2 => words(&["sh", &file("run")]),
            Kind::Echo => {
                let own = std::env::current_exe().map_err(|e| e.to_string())?.display().to_string();
                words(&[&own, "echo", &self.address.port().to_string(), &file("localhost.pem")])
            }
        })
    }

    /// Ends it; kills it when it does not go.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(group) = Pid::from_raw(child.id() as i32) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|e| e.to_string())
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|e| e.to_string())?;
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().map_err(|e| format!("cp: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cannot copy {}", from.display())) }
}
