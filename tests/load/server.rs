//! The binary in a folder of its own.

use super::client::PASSWORD;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The program under test: `COUPLET_BINARY`, else what these tests were built with.
pub fn binary() -> PathBuf {
    std::env::var_os("COUPLET_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_couplet").into(), PathBuf::from)
}

/// The back end of the store: `COUPLET_BACKEND`, else redb.
pub fn backend() -> String {
    std::env::var("COUPLET_BACKEND").unwrap_or_else(|_| "redb".to_owned())
}

/// Name of the data file.
pub fn store_file() -> String {
    format!("couplet.{}", backend())
}

/// Killed, and removed with its folder, when it is dropped.
pub struct Server {
    /// Where it takes direct TLS now; the first of its ports, when it has more.
    pub port: u16,
    /// What it listens for, in its words, and where.
    ports: Vec<(String, u16)>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    /// What it says that is more than news.
    said: Arc<Mutex<String>>,
    saying: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new(name: &str, environment: &[(&str, &str)]) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("couplet-load-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut all = vec![
            ("COUPLET_C2S__LISTEN", ""),
            ("COUPLET_C2S__DIRECT_TLS_LISTEN", "127.0.0.1:0"),
            ("COUPLET_S2S__LISTEN", ""),
            ("COUPLET_S2S__DIRECT_TLS_LISTEN", ""),
            ("COUPLET_SASL__ITERATIONS", "4096"),
            // As fast as the generator can.
            ("COUPLET_LIMITS__C2S__RATE", "unlimited"),
            // As much as happens between two kills, at once.
            ("COUPLET_LIMITS__OFFLINE_MESSAGES_MAX", "100000"),
            ("COUPLET_LIMITS__OFFLINE_BYTES_MAX", "100 MB"),
            ("COUPLET_LIMITS__OUT_BYTES_MAX", "20 MB"),
            // A binary that was not built for speed weighs 24 MB by itself.
            ("COUPLET_MEMORY__MAX", "64 MB"),
            ("COUPLET_LIMITS__SM_SPOOL_DELAY_MS", "20"),
        ];
        if cfg!(feature = "http") {
            all.extend([("COUPLET_HTTP__LISTEN", ""), ("COUPLET_HTTP__TLS_LISTEN", "")]);
        }
        let backend = backend();
        all.push(("COUPLET_STORAGE__BACKEND", &backend));
        all.extend(environment);
        let environment = all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let said = Arc::new(Mutex::new(String::new()));
        Ok(Self { port: 0, ports: Vec::new(), folder, environment, child: None, said, saying: None })
    }

    /// Starts it and waits until it serves.
    pub fn start(&mut self) -> io::Result<()> {
        let mut child = self.command(&["run"]).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?).lines();
        self.child = Some(child);
        let mut log = String::new();
        while !log.contains(" ready in ") {
            match lines.next() {
                Some(line) => log.push_str(&format!("{}\n", line?)),
                None => return Err(io::Error::other(format!("the server does not start: {log}"))),
            }
        }
        self.ports = log.lines().filter_map(listening).collect();
        let first = self.ports.first().map(|(_, port)| *port);
        self.port = first.ok_or_else(|| io::Error::other(format!("no port in the log: {log}")))?;
        // It must not wait for somebody to read its log. What is more than news shows when the test fails.
        let said = self.said.clone();
        let worse = |line: &String| !line.contains(" INFO ");
        self.saying = Some(thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter(worse) {
                eprintln!("server: {line}");
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            }
        }));
        Ok(())
    }

    /// Where it listens for that, in its words: `STARTTLS`, `direct TLS`.
    pub fn port_of(&self, kind: &str) -> Option<u16> {
        self.ports.iter().find(|(known, _)| known == kind).map(|(_, port)| *port)
    }

    /// Of its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn kill(&mut self) -> io::Result<()> {
        self.strike()?;
        self.bury()
    }

    /// Sends SIGKILL. It may be waiting for something meanwhile.
    pub fn strike(&mut self) -> io::Result<()> {
        self.child.as_mut().map_or(Ok(()), Child::kill)
    }

    /// Waits for its end.
    pub fn bury(&mut self) -> io::Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.wait().map(drop))
    }

    /// How it has ended by itself, if it does so in that time.
    pub fn ended(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        while let Some(child) = &mut self.child
            && begun.elapsed() < patience
        {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                // All that it said.
                self.saying.take().map(JoinHandle::join);
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }

    /// What it has said since it was asked last that is more than news.
    pub fn said(&self) -> String {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Success means that the user is there for ever.
    pub fn add_user(&self, user: &str) -> io::Result<()> {
        self.registrar().add_user(user)
    }

    /// Who adds users from another thread.
    pub fn registrar(&self) -> Registrar {
        Registrar { folder: self.folder.clone(), environment: self.environment.clone() }
    }

    /// Names of all users.
    pub fn users(&self) -> io::Result<Vec<String>> {
        let listed = self.command(&["user", "list"]).stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.split('@').next()).map(ToOwned::to_owned).collect())
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        let set = self.environment.iter().find(|(key, _)| key == "COUPLET_STORAGE__PATH");
        set.map_or_else(|| self.folder.join("couplet-data"), |(_, path)| path.into())
    }

    /// Length of the data file.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.data().join(store_file())).map_or(0, |file| file.len())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.registrar().command(arguments)
    }
}

/// What a line of the log says of a port: `listening on 127.0.0.1:5222 (STARTTLS)`.
fn listening(line: &str) -> Option<(String, u16)> {
    let (address, kind) = line.split_once("listening on ")?.1.split_once(" (")?;
    Some((kind.strip_suffix(')')?.to_owned(), address.rsplit(':').next()?.parse().ok()?))
}

/// Runs commands beside a server, in its folder.
pub struct Registrar {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Registrar {
    pub fn add_user(&self, user: &str) -> io::Result<()> {
        let mut command = self.command(&["user", "add", &format!("{user}@localhost"), "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it reads says why.
            let _ = stdin.write_all(PASSWORD.as_bytes());
        }
        let added = child.wait_with_output()?;
        if added.status.success() { Ok(()) } else { Err(io::Error::other(format!("{added:?}"))) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env_clear().envs(self.environment.iter().cloned()).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
