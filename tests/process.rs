//! What the process of the server gives up, on the real binary: root, the way back, files that are not its own; and
//! that everything an operator does with it works all the same. Only root can show that; others say that it is skipped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// A user that owns nothing on any system.
const NOBODY: u32 = 65534;

/// Somebody else than root, on ports that the system chooses.
const CONFIG: &str = "hosts = [\"localhost\"]\n[sasl]\niterations = 4096\n[c2s]\ndirect_tls_listen = []\n\
                      listen = [\"127.0.0.1:0\"]\n[s2s]\nlisten = [\"127.0.0.1:0\"]\ndirect_tls_listen = []\n\
                      [process]\nuser = \"65534\"\ngroup = \"65534\"\n";

struct World {
    root: PathBuf,
}

impl World {
    /// None where this cannot be shown.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !geteuid().is_root() {
            println!("skipped: only root can become somebody else; run the tests as root to see it");
            return None;
        }
        let name = format!("couplet-process-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { root };
        world.configure("");
        Some(world)
    }

    fn configure(&self, more: &str) {
        let storage = format!("[storage]\npath = \"{}\"\n", self.data().display());
        // As editors and tools of configuration do it: another file takes the name.
        let new = self.root.join("etc/couplet.toml.new");
        fs::write(&new, format!("{CONFIG}{more}{storage}")).unwrap();
        fs::rename(new, self.root.join("etc/couplet.toml")).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"COUPLET_")) {
            command.env_remove(name);
        }
        command.env("COUPLET_CONFIG", self.root.join("etc/couplet.toml")).current_dir("/").args(args);
        if cfg!(feature = "http") {
            command.env("COUPLET_HTTP__LISTEN", "").env("COUPLET_HTTP__TLS_LISTEN", "");
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> String {
        told(&self.command(args).output().unwrap())
    }

    fn add_user(&self, jid: &str) -> String {
        let mut command = self.command(&["user", "add", jid, "--password-stdin"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        told(&child.wait_with_output().unwrap())
    }

    fn serve(&self) -> Server {
        self.serve_by(self.command(&["run"]))
    }

    fn serve_by(&self, mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Server { child, stderr, log: String::new() };
        server.wait_for(" ready in ");
        server
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Both outputs, and the exit code where it is not zero.
fn told(output: &Output) -> String {
    let code = output.status.code().filter(|code| *code != 0).map(|code| format!("exit {code}: ")).unwrap_or_default();
    code + &String::from_utf8_lossy(&output.stdout) + &String::from_utf8_lossy(&output.stderr)
}

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
}

impl Server {
    fn wait_for(&mut self, text: &str) -> String {
        let begun = self.log.len();
        while !self.log.get(begun..).is_some_and(|new| new.contains(text)) {
            assert!(self.stderr.read_line(&mut self.log).unwrap() > 0, "no \"{text}\": {}", self.log);
        }
        self.log[begun..].to_string()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the kernel says of each thread, under this name.
    fn threads(&self, field: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).unwrap();
        let value = |text: String| {
            let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap_or_default().to_string();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        tasks.map(|task| value(status(task.unwrap()))).collect()
    }

    fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let mut rest = std::mem::take(&mut self.log);
        self.stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the server of the log is in a sandbox; where the kernel has none, that is said and the rest is shown.
fn is_sandboxed(log: &str) -> bool {
    let is_it = log.contains("sandbox (Landlock)");
    if !is_it {
        assert!(log.contains("no sandbox: "), "{log}");
        println!("skipped: the sandbox; this kernel has no Landlock");
    }
    is_it
}

fn eventually(what: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn root_becomes_nobody_before_there_is_a_thread() {
    let Some(world) = World::new() else { return };
    let server = world.serve();
    assert_eq!(server.threads("Name").len(), 4, "{:?}", server.threads("Name"));
    let id = format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}");
    for (field, value) in [
        ("Uid", id.as_str()),
        ("Gid", id.as_str()),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert!(server.threads(field).iter().all(|v| v == value), "{field}: {:?}", server.threads(field));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let row = |name: &str| limits.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(&row("Max core file size")[4..6], ["0", "0"]);
    assert_eq!(row("Max open files")[3], row("Max open files")[4], "raised to what is allowed");
    // Not dumpable: what shows its memory is root's.
    assert_eq!(fs::metadata(format!("/proc/{}/mem", server.child.id())).unwrap().uid(), 0);
    assert_eq!(fs::metadata(world.data()).unwrap().uid(), NOBODY);
    assert_eq!(fs::metadata(world.data()).unwrap().mode() & 0o777, 0o700);
    for file in ["couplet.redb", "couplet.redb.lock", "couplet.sock", "certs/localhost.key"] {
        let meta = fs::metadata(world.data().join(file)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (NOBODY, 0o600), "{file}");
    }
    let status = world.run(&["status"]);
    for text in ["user 65534 (65534:65534)", "no capabilities", "no new privileges", "no core dumps", "open files"] {
        assert!(status.contains(text), "{text}: {status}");
    }
    let log = server.stop();
    assert!(!log.contains("WARN"), "{log}");
    assert!(!world.data().join("couplet.sock").exists(), "the socket goes with the server");
}

#[test]
fn commands_work_beside_it_and_without_it() {
    let Some(world) = World::new() else { return };
    let backups = world.root.join("backups");
    world.configure(&format!("[backup]\nfolder = \"{}\"\n", backups.display()));
    assert!(world.run(&["check"]).contains("process: becomes user 65534 (65534:65534)"));
    assert!(world.run(&["about"]).contains("sandbox of the server: "));
    // Root makes the store, and the server's user can open it.
    assert_eq!(world.add_user("early@localhost"), "added early@localhost\n");
    let server = world.serve();
    assert_eq!(world.add_user("romeo@localhost"), "added romeo@localhost\n");
    assert_eq!(world.run(&["user", "list"]), "early@localhost\nromeo@localhost\n");
    assert_eq!(world.run(&["healthcheck"]), "ok\n");
    assert_eq!(world.run(&["reload"]), "configuration and certificates are read again\n");
    assert!(world.run(&["backup", "create"]).starts_with("made "));
    assert!(world.run(&["compact"]).contains("bytes"));
    assert_eq!(world.run(&["flush"]), "all that was stored is on the disk\n");
    assert!(world.run(&["check"]).contains("ok    server: running and well"));
    assert!(fs::read_dir(&backups).unwrap().count() > 0);
    server.stop();
    // And root's own work on the store leaves it to the server's user.
    assert_eq!(world.add_user("late@localhost"), "added late@localhost\n");
    let server = world.serve();
    assert!(world.run(&["user", "list"]).contains("late@localhost"));
    server.stop();
}

#[test]
fn what_others_renew_is_read_and_what_is_elsewhere_is_not() {
    let Some(world) = World::new() else { return };
    // As certbot leaves it: HOST is a link to a folder of links into an archive.
    let (live, archive) = (world.root.join("le/live/localhost"), world.root.join("le/archive/localhost"));
    fs::create_dir_all(&live).unwrap();
    let issue = |folder: &Path, n: u32| {
        fs::create_dir_all(folder).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
        for (name, text) in [("fullchain", made.cert.pem()), ("privkey", made.signing_key.serialize_pem())] {
            let file = folder.join(format!("{name}{n}.pem"));
            fs::write(&file, text).unwrap();
            chown(&file, Some(NOBODY), None).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    let link = |folder: &Path, n: u32| {
        for name in ["fullchain", "privkey"] {
            let _ = fs::remove_file(live.join(format!("{name}.pem")));
            symlink(folder.join(format!("{name}{n}.pem")), live.join(format!("{name}.pem"))).unwrap();
        }
    };
    issue(&archive, 1);
    link(Path::new("../../archive/localhost"), 1);
    let certificates = world.root.join("certs");
    fs::create_dir(&certificates).unwrap();
    symlink(&live, certificates.join("localhost")).unwrap();
    let logs = world.root.join("log");
    fs::create_dir(&logs).unwrap();
    chown(&logs, Some(NOBODY), Some(NOBODY)).unwrap();
    let more = format!(
        "[tls]\ncertificates = \"{}\"\n[log]\noutput = \"file\"\nfile = \"{}/couplet.log\"\n[admin]\nsocket = \
         \"{}/socket\"\n",
        certificates.display(),
        logs.display(),
        logs.display()
    );
    world.configure(&more);
    let log = || fs::read_to_string(logs.join("couplet.log")).unwrap_or_default();
    let mut child = world.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(eventually(|| log().contains(" ready in ")), "{}", log());
    let sandboxed = is_sandboxed(&log());

    let read_again = "configuration and certificates are read again\n";
    // A renewal, a configuration that an editor has replaced, and a log that was rotated away.
    issue(&archive, 2);
    link(Path::new("../../archive/localhost"), 2);
    world.configure(&more);
    fs::rename(logs.join("couplet.log"), logs.join("couplet.log.1")).unwrap();
    assert_eq!(world.run(&["reload"]), read_again);
    assert!(log().contains("read again"), "{}", log());
    // What is in force is what was renewed: a broken one is seen.
    fs::write(archive.join("fullchain2.pem"), "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
    let broken = world.run(&["reload"]);
    assert!(broken.contains("no certificate in it") || broken.contains("damaged"), "{broken}");

    // A place that it has not seen when it started, though its user may read it.
    let secret = world.root.join("elsewhere");
    issue(&secret, 3);
    link(&secret, 3);
    let elsewhere = world.run(&["reload"]);
    if sandboxed {
        assert!(elsewhere.contains("Permission denied") && elsewhere.contains("restarted"), "{elsewhere}");
    } else {
        assert_eq!(elsewhere, read_again);
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", log());
    assert!(!logs.join("socket").exists());

    // A server without a sandbox reads whatever its user may.
    let unconfined = CONFIG.to_string() + "sandbox = false\n";
    let storage = format!("[storage]\npath = \"{}\"\n", world.data().display());
    fs::write(world.root.join("etc/couplet.toml"), unconfined + &more + &storage).unwrap();
    let mut child = world.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(eventually(|| log().contains("process.sandbox is off")), "{}", log());
    link(&secret, 3);
    assert!(eventually(|| world.run(&["healthcheck"]) == "ok\n"));
    assert_eq!(world.run(&["reload"]), read_again);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reload_refuses_what_only_a_restart_can_reach() {
    let Some(world) = World::new() else { return };
    let elsewhere = world.root.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(elsewhere.join("ca.pem"), "").unwrap();
    let server = world.serve();
    let sandboxed = is_sandboxed(&server.log);
    let file = |name: &str| elsewhere.join(name).display().to_string();
    world.configure(&format!("[log]\noutput = \"file\"\nfile = \"{}\"\n", file("couplet.log")));
    let told = world.run(&["reload"]);
    assert_eq!(sandboxed, told.contains("couplet.log") && told.contains("must be restarted"), "{told}");
    world.configure("");
    assert_eq!(world.run(&["reload"]), "configuration and certificates are read again\n");
    let config = fs::read_to_string(world.root.join("etc/couplet.toml")).unwrap();
    let config = config.replace("[s2s]\n", &format!("[s2s]\nca = \"{}\"\n", file("ca.pem")));
    fs::write(world.root.join("etc/couplet.toml"), config).unwrap();
    let told = world.run(&["reload"]);
    assert_eq!(sandboxed, told.contains("s2s.ca: cannot read") && told.contains("restart"), "{told}");
    server.stop();
}

#[test]
fn values_in_files_of_their_own_are_read_again() {
    let Some(world) = World::new() else { return };
    let run = world.root.join("run");
    fs::create_dir(&run).unwrap();
    let write = |hosts: &str| {
        fs::write(run.join("new"), hosts).unwrap();
        fs::rename(run.join("new"), run.join("hosts")).unwrap();
    };
    fs::write(
        world.root.join("etc/couplet.toml"),
        format!(
            "{}[storage]\npath = \"{}\"\n",
            CONFIG.replace("hosts = [\"localhost\"]\n", ""),
            world.data().display()
        ),
    )
    .unwrap();
    write("localhost");
    let mut command = world.command(&["run"]);
    command.env("COUPLET_HOSTS_FILE", run.join("hosts"));
    let mut server = world.serve_by(command);
    write("localhost,example.org");
    server.signal(Signal::HUP);
    server.wait_for("read again");
    assert!(world.run(&["status"]).contains("hosts: localhost, example.org"));
    server.stop();
}

#[test]
fn starts_that_cannot_be_right_are_refused_with_the_remedy() {
    let Some(world) = World::new() else { return };
    let data = world.data();
    let refused = |text: &str| {
        let told = world.run(&["run"]);
        assert!(told.starts_with("exit ") && told.contains(text), "{text}: {told}");
    };
    fs::create_dir(&data).unwrap();
    refused(&format!("run: chown -R {NOBODY}:{NOBODY} {}", data.display()));
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&format!("every user can write to the data folder; run: chmod o= {}", data.display()));
    assert!(world.run(&["check"]).contains("FAIL  files: "));
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();

    let mut other = world.command(&["run"]);
    std::os::unix::process::CommandExt::uid(&mut other, NOBODY - 1);
    let told = told(&other.output().unwrap());
    assert!(told.contains("but user 65533 has started it: start it as root or as 65534"), "{told}");

    let config = fs::read_to_string(world.root.join("etc/couplet.toml")).unwrap();
    let unknown = config.replace("user = \"65534\"", "user = \"juliet-capulet\"");
    fs::write(world.root.join("etc/couplet.toml"), unknown).unwrap();
    refused("useradd -r juliet-capulet");
}

#[test]
fn what_is_only_unwise_is_said() {
    let Some(world) = World::new() else { return };
    world.configure(
        "[components]\nsecrets = [\"irc.localhost=joshua\"]\nlisten = [\"127.0.0.1:0\"]\n\
                     [limits]\nconnections_max = 1000\ns2s_connections_max = 200\ns2s_dials_max = 32\n",
    );
    assert_eq!(world.add_user("romeo@localhost"), "added romeo@localhost\n");
    fs::set_permissions(world.data().join("couplet.redb"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 400; exec \"$0\" run", env!("CARGO_BIN_EXE_couplet")]);
    command.env("COUPLET_CONFIG", world.root.join("etc/couplet.toml")).current_dir("/").stdin(Stdio::null());
    if cfg!(feature = "http") {
        command.env("COUPLET_HTTP__LISTEN", "").env("COUPLET_HTTP__TLS_LISTEN", "");
    }
    let server = world.serve_by(command);
    let log = server.stop();
    for text in [
        "couplet.redb: other users could reach it; closed",
        "couplet.toml: every user can read the secrets in this file; run: chmod o= ",
        "the system allows 400 open files",
        "LimitNOFILE=1296",
        "253 connections of clients and 50 with servers are let in",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert_eq!(fs::metadata(world.data().join("couplet.redb")).unwrap().mode() & 0o777, 0o600);

    // Root without anybody to become serves, and says what that means.
    let config = fs::read_to_string(world.root.join("etc/couplet.toml")).unwrap();
    let config = config.replace("user = \"65534\"\ngroup = \"65534\"\n", "");
    fs::write(world.root.join("etc/couplet.toml"), config).unwrap();
    let log = world.serve().stop();
    assert!(log.contains("couplet runs as root") && log.contains("set process.user"), "{log}");
}
