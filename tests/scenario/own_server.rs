//! Our binary as a stage needs it: an own data folder, free ports, the accounts and settings of a play.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::grammar::Play;

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server. It is killed, and its folder removed, when this is dropped.
pub struct OwnServer {
    /// Where it takes direct TLS.
    pub address: SocketAddr,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl OwnServer {
    /// Makes the accounts of a play and starts the server. `certificates` may be shared between plays.
    ///
    /// # Errors
    /// What the program says.
    pub fn start(play: &Play, certificates: &Path) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("couplet-play-{}-{}", std::process::id(), play.file));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let ([plain, direct], text) = (free_ports()?, |path: &Path| path.display().to_string());
        let mut environment = vec![
            ("COUPLET_STORAGE__PATH".to_owned(), text(&folder.join("data"))),
            ("COUPLET_TLS__CERTIFICATES".to_owned(), text(certificates)),
            ("COUPLET_C2S__LISTEN".to_owned(), plain.to_string()),
            ("COUPLET_C2S__DIRECT_TLS_LISTEN".to_owned(), direct.to_string()),
            ("COUPLET_S2S__LISTEN".to_owned(), String::new()),
            ("COUPLET_S2S__DIRECT_TLS_LISTEN".to_owned(), String::new()),
            // No play over sockets has other servers, and none is to be looked for.
            ("COUPLET_S2S__ENABLED".to_owned(), "false".to_owned()),
            ("COUPLET_SASL__ITERATIONS".to_owned(), "4096".to_owned()),
        ];
        if cfg!(feature = "http") {
            environment.extend(["LISTEN", "TLS_LISTEN"].map(|key| (format!("COUPLET_HTTP__{key}"), String::new())));
            environment.push(("COUPLET_HTTP__EXTERNAL_URL".to_owned(), "https://{host}/".to_owned()));
        }
        for setting in &play.settings {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let key = format!("COUPLET_{}", key.trim().to_uppercase().replace('.', "__"));
            environment.push((key, value.trim().trim_matches('"').to_owned()));
        }
        let mut server = Self { address: direct, folder, environment, child: None };
        for (jid, password) in play.accounts() {
            server.add_user(&jid, &password)?;
        }
        server.run()?;
        Ok(server)
    }

    /// Stops the server and starts it again on the same data.
    ///
    /// # Errors
    /// When it does not stop by itself, or not with success; when it does not start.
    pub fn restart(&mut self, kill: bool) -> Result<(), String> {
        let mut child = self.child.take().ok_or("no server runs")?;
        if kill {
            child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
        } else {
            kill_process(Pid::from_child(&child), Signal::TERM).map_err(|e| e.to_string())?;
            let status = wait_for("the server to stop", || child.try_wait().map_err(|e| e.to_string()))?;
            if !status.success() {
                return Err(format!("the server stops with {status}"));
            }
        }
        self.run()
    }

    /// Runs a command of the operator beside the server.
    ///
    /// # Errors
    /// What it says when it is refused.
    pub fn operate(&self, words: &[&str]) -> Result<String, String> {
        // The ports come before the socket; without that, the command would open the store itself.
        let socket = self.folder.join("data/couplet.sock");
        wait_for("the admin socket", || Ok(UnixStream::connect(&socket).ok()))?;
        let done = self.command(words).output().map_err(|e| e.to_string())?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(format!("couplet {words:?}: {}", String::from_utf8_lossy(&done.stderr))),
        }
    }

    fn add_user(&self, jid: &str, password: &str) -> Result<(), String> {
        let mut command = self.command(&["user", "add", jid, "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(password.as_bytes()).map_err(|e| e.to_string())?;
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("couplet user add {jid}: {status}")) }
    }

    fn run(&mut self) -> Result<(), String> {
        let log = std::fs::File::create(self.folder.join("log")).map_err(|e| e.to_string())?;
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().map_err(|e| e.to_string())?;
        let child = self.child.insert(child);
        let (address, folder) = (self.address, &self.folder);
        wait_for("the server to listen", || match child.try_wait() {
            Ok(Some(status)) => {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                Err(format!("the server stops with {status}:\n{log}"))
            }
            Ok(None) => Ok(TcpStream::connect(address).ok()),
            Err(e) => Err(e.to_string()),
        })?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        command.args(arguments).env_clear().envs(self.environment.iter().cloned()).current_dir(&self.folder);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have gone by itself; then there is nothing to end.
            let _ = child.kill().and_then(|()| child.wait());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Two ports that nobody else uses: each server has a loopback address of its own.
fn free_ports() -> Result<[SocketAddr; 2], String> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = std::process::id().to_le_bytes()[0];
    let address = Ipv4Addr::new(127, 64 | (process & 127), high, low);
    let listen = || TcpListener::bind((address, 0)).map_err(|e| e.to_string());
    let (one, two) = (listen()?, listen()?);
    Ok([one.local_addr().map_err(|e| e.to_string())?, two.local_addr().map_err(|e| e.to_string())?])
}

fn wait_for<T>(what: &str, mut is_there: impl FnMut() -> Result<Option<T>, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = is_there()? {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("waited too long for {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
