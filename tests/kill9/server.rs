//! The binary in a folder of its own.

use crate::client::PASSWORD;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Removed, with its folder, when it is dropped.
pub struct Server {
    /// Where it takes direct TLS now.
    pub port: u16,
    folder: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
}

impl Server {
    pub fn new(name: &str, environment: &[(&'static str, &'static str)]) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("couplet-kill9-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut all = vec![
            ("COUPLET_C2S__LISTEN", ""),
            ("COUPLET_C2S__DIRECT_TLS_LISTEN", "127.0.0.1:0"),
            ("COUPLET_S2S__LISTEN", ""),
            ("COUPLET_S2S__DIRECT_TLS_LISTEN", ""),
            ("COUPLET_SASL__ITERATIONS", "4096"),
            // As much as happens between two kills, at once.
            ("COUPLET_LIMITS__OFFLINE_MESSAGES_MAX", "100000"),
            ("COUPLET_LIMITS__OFFLINE_BYTES_MAX", "100 MB"),
            ("COUPLET_LIMITS__OUT_BYTES_MAX", "20 MB"),
        ];
        all.extend(environment);
        Ok(Self { port: 0, folder, environment: all, child: None })
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
        let address = log.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next());
        let port = address.and_then(|address| address.rsplit(':').next()).and_then(|port| port.parse().ok());
        self.port = port.ok_or_else(|| io::Error::other(format!("no port in the log: {log}")))?;
        // It must not wait for somebody to read its log. What is more than news shows when the test fails.
        let worse = |line: &String| !line.contains(" INFO ");
        thread::spawn(move || lines.map_while(Result::ok).filter(worse).for_each(|line| eprintln!("server: {line}")));
        Ok(())
    }

    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    pub fn add_user(&self, user: &str) -> io::Result<()> {
        let added = self.adding_user(user)?.wait_with_output()?;
        if added.status.success() { Ok(()) } else { Err(io::Error::other(format!("{added:?}"))) }
    }

    /// Success means that the user is there for ever.
    pub fn adding_user(&self, user: &str) -> io::Result<Child> {
        let mut command = self.command(&["user", "add", &format!("{user}@localhost"), "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(PASSWORD.as_bytes())?;
        }
        Ok(child)
    }

    /// Names of all users.
    pub fn users(&self) -> io::Result<Vec<String>> {
        let listed = self.command(&["user", "list"]).stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.split('@').next()).map(ToOwned::to_owned).collect())
    }

    /// Length of the data file.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.folder.join("couplet-data/couplet.redb")).map_or(0, |file| file.len())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let binary = std::env::var_os("COUPLET_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_couplet").into());
        let mut command = Command::new(binary);
        command.args(arguments).env_clear().envs(self.environment.iter().copied()).current_dir(&self.folder);
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
