//! The program as an operator types it: the built binary, its exit codes and what it prints.

#[path = "cli/certs.rs"]
mod certs;
#[path = "cli/machine.rs"]
mod machine;
#[path = "cli/network.rs"]
mod network;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports that the system chooses, so that tests run side by side.
const CONFIG: &str = "\
    [c2s]\nlisten = [\"127.0.0.1:0\"]\ndirect_tls_listen = [\"127.0.0.1:0\"]\n\
    [s2s]\nlisten = [\"127.0.0.1:0\"]\ndirect_tls_listen = [\"127.0.0.1:0\"]\n\
    [sasl]\niterations = 4096\n";

/// A folder to work in, removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.write("couplet.toml", CONFIG);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"COUPLET_")) {
            command.env_remove(name);
        }
        command.env("COUPLET_CONFIG", self.0.join("couplet.toml")).current_dir(&self.0).args(args).stdin(Stdio::null());
        if cfg!(feature = "http") {
            command.env("COUPLET_HTTP__LISTEN", "127.0.0.1:0").env("COUPLET_HTTP__TLS_LISTEN", "127.0.0.1:0");
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // A program that refuses before it reads closes the pipe; that is its right.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::from(child.wait_with_output().unwrap())
    }

    /// Starts the server and waits until its log says that it serves.
    fn serve(&self) -> Server {
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains(" ready in ") {
            assert!(stderr.read_line(&mut log).unwrap() > 0, "the server did not start: {log}");
        }
        Server { child, log, stderr }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn ran(code: i32, out: &str, err: &str) -> Ran {
    Ran { code, out: out.to_string(), err: err.to_string() }
}

/// A running server, killed when the test is over.
struct Server {
    child: Child,
    log: String,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    /// Asks it to stop as a supervisor does.
    fn stop(mut self) -> Ran {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let (mut out, mut err) = (String::new(), std::mem::take(&mut self.log));
        self.stderr.read_to_string(&mut err).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        Ran { code: self.child.wait().unwrap().code().unwrap(), out, err }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_newcomer_gets_help() {
    let folder = Folder::new();
    let nothing = folder.run(&[]);
    assert_eq!((nothing.code, nothing.out.as_str()), (2, ""));
    let help = folder.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert_eq!(help.out, nothing.err);
    for verb in [
        "run",
        "user",
        "invite",
        "check",
        "cert",
        "status",
        "reload",
        "healthcheck",
        "about",
        "config",
        "adduser",
        "deluser",
        "register",
        "backup",
        "compact",
        "set-aside",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{verb}");
        let help = folder.run(&[verb, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{verb}");
        assert!(help.out.starts_with(&format!("Usage: couplet {verb}")), "{verb}: {}", help.out);
    }
    assert_eq!(folder.run(&["--version"]), ran(0, concat!("couplet ", env!("CARGO_PKG_VERSION"), "\n"), ""));
}

#[test]
fn a_wrong_command_line_returns_2() {
    let folder = Folder::new();
    for args in [
        &["serve"][..],
        &["--colour"],
        &["user"],
        &["user", "add"],
        &["user", "add", "a@localhost", "b@localhost"],
        &["user", "frobnicate"],
        &["user", "reset"],
        &["invite", "--uses", "0"],
        &["invite", "--uses", "many"],
        &["invite", "--expires", "soon"],
        &["invite", "revoke"],
        &["config"],
        &["run", "--config"],
        &["register", "romeo", "localhost"],
        &["user", "add", "romeo@localhost", "--password-stdin", "--password-file", "x"],
        // No terminal to ask at.
        &["user", "add", "romeo@localhost"],
    ] {
        let ran = folder.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(!ran.err.is_empty(), "{args:?}");
    }
}

/// The token in the link of an invitation.
fn token(invited: &Ran) -> &str {
    let (_, rest) = invited.out.split_once("preauth=").expect("a link");
    rest.split([';', '\n']).next().expect("a token")
}

#[test]
fn invitations() {
    let folder = Folder::new();
    assert_eq!(folder.run(&["invite", "list"]), ran(0, "", ""));
    assert!(!folder.0.join("couplet-data").exists(), "asking makes nothing");
    let one = folder.run(&["invite"]);
    assert_eq!((one.code, one.err.as_str()), (0, ""));
    let link = format!("xmpp:localhost?register;preauth={}\nan account at localhost, once, until ", token(&one));
    assert!(one.out.starts_with(&link) && one.out.lines().count() == 2, "no picture in a pipe: {}", one.out);
    // The running server does the same.
    let server = folder.serve();
    let created = folder.run(&["invite", "create", "--user", "Juliet@localhost", "--admin", "--expires", "1h"]);
    let says = "the account juliet@localhost of an administrator, once, until ";
    assert!(created.out.starts_with("xmpp:juliet@localhost?register;preauth=") && created.out.contains(says));
    assert_eq!(folder.run_with_input(&["user", "add", "romeo@localhost", "--password-stdin"], "x\n").code, 0);
    let contact = folder.run(&["invite", "--contact", "romeo@localhost", "--uses", "3"]);
    let (link, rest) = contact.out.split_once('\n').unwrap();
    assert_eq!(link, format!("xmpp:romeo@localhost?roster;preauth={};ibr=y", token(&contact)));
    assert!(rest.starts_with("an account at localhost and, or only, romeo@localhost as a contact, 3 times, until "));
    let reset = folder.run(&["user", "reset", "romeo@localhost"]);
    assert!(reset.out.starts_with("xmpp:romeo@localhost?register;preauth="), "{}", reset.out);
    assert!(reset.out.contains("\nanother password for romeo@localhost, until "), "{}", reset.out);
    let list = folder.run(&["invite", "list", "localhost"]);
    assert_eq!(list.out.lines().count(), 4);
    for invited in [&one, &created, &contact, &reset] {
        assert!(list.out.lines().any(|l| l.starts_with(&format!("{}  until 2", token(invited)))), "{}", list.out);
    }
    assert_eq!(folder.run(&["invite", "revoke", token(&one)]), ran(0, "the invitation is taken back\n", ""));
    assert_eq!(folder.run(&["invite", "revoke", link]), ran(0, "the invitation is taken back\n", ""));
    let gone = "there is no such invitation; see couplet invite list\n";
    assert_eq!(folder.run(&["invite", "revoke", link]), ran(1, "", gone));
    for (args, why) in [
        (
            &["invite", "--user", "romeo"][..],
            "romeo@localhost exists already; for another password: couplet user reset",
        ),
        (&["invite", "--user", "juliet"], "somebody is invited as juliet@localhost already; see couplet invite list"),
        (&["invite", "--user", "nurse", "--uses", "2"], "only one person can become nurse@localhost"),
        (&["invite", "--user", "a b"], "\"a b\" is no username: "),
        (&["invite", "--user", "nurse@else.example"], "else.example is not served here"),
        (&["invite", "--admin", "--uses", "2"], "an administrator is one person"),
        (&["invite", "--contact", "nurse@localhost"], "there is no account nurse@localhost; to add it:"),
        (&["invite", "--expires", "2000d"], "an invitation ends within a year"),
        (&["user", "reset", "nurse@localhost"], "there is no account nurse@localhost; to add it:"),
    ] {
        let refused = folder.run(args);
        assert!(refused.code == 1 && refused.out.is_empty() && refused.err.starts_with(why), "{args:?}: {refused:?}");
    }
    for (args, why) in [
        (["user", "demote", "romeo@localhost"], "romeo@localhost is no administrator\n"),
        (["user", "admins", "verona.example"], "verona.example is not served here\n"),
    ] {
        assert_eq!(folder.run(&args), ran(1, "", why));
    }
    // With the account goes what leads to it.
    assert_eq!(folder.run(&["user", "del", "romeo@localhost"]).code, 0);
    assert_eq!(folder.run(&["invite", "list"]).out.lines().count(), 1);
    let ended = server.stop();
    assert!(ended.code == 0 && !ended.out.contains("preauth") && !ended.err.contains("preauth"), "{ended:?}");
}

#[test]
fn administrators_of_the_configuration() {
    let folder = Folder::new();
    folder.write("couplet.toml", &format!("admins = [\"juliet@localhost\", \"nurse@else.example\"]\n{CONFIG}"));
    let both = "juliet@localhost  (configuration)\nnurse@else.example  (configuration)\n";
    assert_eq!(folder.run(&["user", "admins"]), ran(0, both, ""));
    assert_eq!(folder.run(&["user", "admins", "localhost"]), ran(0, "juliet@localhost  (configuration)\n", ""));
    let stays = "juliet@localhost stays an administrator: take it out of `admins` in the configuration, then run \
                 couplet reload\n";
    assert_eq!(folder.run(&["user", "demote", "juliet@localhost"]), ran(1, "", stays));
}

#[test]
fn verbs_for_a_running_server_return_3_without_one() {
    let folder = Folder::new();
    let socket = folder.0.join("couplet-data/couplet.sock");
    let told = format!("the server is not running: nothing listens at {}\n", socket.display());
    for verb in ["status", "reload", "healthcheck"] {
        assert_eq!(folder.run(&[verb]), ran(3, "", &told), "{verb}");
    }
    assert!(!folder.0.join("couplet-data").exists(), "asking makes nothing");
}

#[test]
fn a_wrong_configuration_returns_78_and_says_everything() {
    let folder = Folder::new();
    folder.write("couplet.toml", "host = [\"a.example\"]\n[log]\nlevel = \"loud\"\n");
    let file = folder.0.join("couplet.toml").display().to_string();
    let levels = "\"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"";
    let lines = format!(
        "{file}:1:1: unknown key \"host\"; did you mean \"hosts\"?\n\
         {file}:3:9: log.level: \"loud\" is not one of {levels}\n"
    );
    for args in [&["run"][..], &["user", "list"], &["status"], &["config", "show"]] {
        assert_eq!(folder.run(args), ran(78, "", &lines), "{args:?}");
    }
    let check = folder.run(&["check"]);
    assert_eq!((check.code, check.err.lines().count()), (78, 2));
    assert!(check.err.starts_with("FAIL  configuration: "), "{}", check.err);
    let missing = folder.run(&["run", "--config", "/nowhere.toml"]);
    assert_eq!(missing, ran(78, "", "/nowhere.toml: there is no such file\n"));
    assert!(!folder.0.join("couplet-data").exists());
}

#[test]
fn users_are_kept_without_a_server() {
    users(&Folder::new());
}

#[test]
fn users_are_kept_by_a_server_with_the_same_answers() {
    let folder = Folder::new();
    let server = folder.serve();
    users(&folder);
    assert_eq!(server.stop().code, 0);
}

/// The same commands and the same answers, whoever does the work.
fn users(folder: &Folder) {
    let add = ["user", "add", "romeo@localhost", "--password-stdin"];
    let is_new = !folder.0.join("couplet-data").exists();
    assert_eq!(folder.run(&["user", "list"]), ran(0, "", ""));
    assert!(!is_new || !folder.0.join("couplet-data").exists(), "looking makes nothing");
    assert_eq!(folder.run_with_input(&add, "wherefore\n"), ran(0, "added romeo@localhost\n", ""));
    assert_eq!(
        folder.run_with_input(&add, "wherefore\n"),
        ran(1, "", "romeo@localhost exists already; to change its password: couplet user passwd romeo@localhost\n")
    );
    folder.write("secret", "art thou\n");
    let passwd = ["user", "passwd", "romeo@localhost", "--password-file", "secret"];
    assert_eq!(folder.run(&passwd), ran(0, "changed the password of romeo@localhost\n", ""));
    let juliet = ["adduser", "Juliet@LOCALHOST", "--password-file", "secret"];
    assert_eq!(folder.run(&juliet), ran(0, "added juliet@localhost\n", ""));
    let nurse = folder.run(&["register", "nurse", "localhost", "secret"]);
    assert_eq!((nurse.code, nurse.out.as_str()), (0, "added nurse@localhost\n"));
    assert!(nurse.err.starts_with("warning: a password on the command line can be seen"), "{}", nurse.err);
    let all = "juliet@localhost\nnurse@localhost\nromeo@localhost\n";
    assert_eq!(folder.run(&["user", "list"]), ran(0, all, ""));
    assert_eq!(folder.run(&["user", "list", "localhost"]), ran(0, all, ""));
    assert_eq!(folder.run(&["user", "list", "verona.example"]), ran(1, "", "verona.example is not served here\n"));
    assert_eq!(folder.run(&["deluser", "nurse@localhost"]), ran(0, "deleted nurse@localhost\n", ""));
    let gone = "there is no account nurse@localhost; to add it: couplet user add nurse@localhost\n";
    assert_eq!(folder.run(&["user", "del", "nurse@localhost"]), ran(1, "", gone));
    let passwd = ["passwd", "nurse@localhost", "--password-file", "secret"];
    assert_eq!(folder.run(&passwd), ran(1, "", gone));
    assert_eq!(folder.run(&["user", "list"]), ran(0, "juliet@localhost\nromeo@localhost\n", ""));
}

#[test]
fn what_cannot_be_a_user_or_a_password_is_refused() {
    let folder = Folder::new();
    for (address, password, told) in [
        ("tybalt@localhost", "\n", "the password is empty\n"),
        ("tybalt@localhost", "a\tb\n", "the password has a control character\n"),
        ("tybalt@verona.example", "x\n", "verona.example is not served here; hosts are: localhost\n"),
        ("tybalt", "x\n", "\"tybalt\" is not of the form user@host\n"),
        ("tybalt@localhost/home", "x\n", "\"tybalt@localhost/home\" is not of the form user@host\n"),
    ] {
        let ran = folder.run_with_input(&["user", "add", address, "--password-stdin"], password);
        assert_eq!((ran.code, ran.err.as_str()), (1, told), "{address} {password:?}");
    }
    let long = folder.run_with_input(&["user", "add", "a@localhost", "--password-stdin"], &"x".repeat(5000));
    assert_eq!(long.code, 1);
    let missing = folder.run(&["user", "add", "a@localhost", "--password-file", "none"]);
    assert!(missing.code == 1 && missing.err.starts_with("cannot read the password from none: "), "{missing:?}");
    assert_eq!(folder.run(&["user", "list"]), ran(0, "", ""));
}

#[test]
fn a_server_tells_what_it_does_and_stops_when_told() {
    let folder = Folder::new();
    let server = folder.serve();
    let mode = |name: &str| std::fs::metadata(folder.0.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("couplet-data"), mode("couplet-data/couplet.sock")), (0o700, 0o600));
    assert_eq!(folder.run(&["healthcheck"]), ran(0, "ok\n", ""));
    let status = folder.run(&["status"]);
    assert_eq!((status.code, status.err.as_str()), (0, ""));
    assert!(status.out.starts_with(concat!("couplet ", env!("CARGO_PKG_VERSION"), ", up ")), "{}", status.out);
    let check = folder.run(&["check"]);
    assert_eq!((check.code, check.err.as_str()), (0, ""), "{}", check.out);
    assert!(check.out.contains("ok    server: running and well"), "{}", check.out);

    // A second one on the same data: the ports are the system's choice, so the socket is what stops it.
    let second = folder.run(&["run"]);
    assert_eq!((second.code, second.out.as_str()), (1, ""));
    assert!(second.err.contains("another server uses this data folder"), "{}", second.err);

    folder.write("couplet.toml", &CONFIG.replace("[c2s]", "hosts = [\"localhost\", \"verona.example\"]\n[c2s]"));
    assert_eq!(folder.run(&["reload"]).code, 0);
    let nurse = folder.run_with_input(&["user", "add", "nurse@verona.example", "--password-stdin"], "x\n");
    assert_eq!(nurse, ran(0, "added nurse@verona.example\n", ""));
    folder.write("couplet.toml", &CONFIG.replace("4096", "1"));
    assert_eq!(folder.run(&["reload"]).code, 78, "the configuration that the command reads is wrong");

    folder.write("couplet.toml", CONFIG);
    let stopped = server.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    for line in ["serves localhost", "user add romeo@localhost", "user add juliet@localhost", "couplet-data"] {
        assert!(stopped.out.contains(line), "{line}: {}", stopped.out);
    }
    assert!(!folder.0.join("couplet-data/couplet.sock").exists(), "{}", stopped.err);
    assert_eq!(folder.run(&["healthcheck"]).code, 3);
}

#[test]
fn a_killed_server_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    drop(folder.serve());
    assert!(folder.0.join("couplet-data/couplet.sock").exists(), "it had no time to remove it");
    assert_eq!(folder.run(&["status"]).code, 3);
    assert_eq!(folder.run(&["user", "list"]), ran(0, "", ""));
    let again = folder.serve().stop();
    assert_eq!((again.code, again.out.as_str()), (0, ""), "only a newcomer is greeted");
}

/// A server that starts is there for commands before it has opened the store, and waits for whoever has that open.
#[test]
fn a_command_and_a_start_do_not_meet_in_the_store() {
    let folder = Folder::new();
    drop(folder.serve());
    let lock = std::fs::File::open(folder.0.join("couplet-data/couplet.redb.lock")).unwrap();
    lock.lock().unwrap();
    let socket = folder.0.join("couplet-data/couplet.sock");
    std::fs::remove_file(&socket).unwrap();
    let mut child = folder.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !socket.exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it has not waited");
    }
    let mut add = folder.command(&["user", "add", "romeo@localhost", "--password-stdin"]);
    let mut adding = add.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    adding.stdin.take().unwrap().write_all(b"secret-password\n").unwrap();
    drop(lock);
    assert!(adding.wait().unwrap().success());
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\n");
    assert_eq!(folder.run(&["healthcheck"]).code, 0, "and the server has started");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_taken_port_is_named_by_check_and_by_run() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    folder.write("couplet.toml", &CONFIG.replacen("127.0.0.1:0", &address.to_string(), 1));
    let remedy =
        format!("listens on {address}: stop it (`ss -ltnp sport = :{}` shows it) or set c2s.listen\n", address.port());
    let check = folder.run(&["check"]);
    assert_eq!(check.code, 1);
    assert!(check.out.contains(&format!("FAIL  port: another program {remedy}")), "{}", check.out);
    let run = folder.run(&["run"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains(&remedy), "{}", run.err);
}

#[test]
fn check_finds_what_run_would_stumble_over() {
    let folder = Folder::new();
    let fresh = folder.run(&["check"]);
    assert_eq!((fresh.code, fresh.err.as_str()), (0, ""), "{}", fresh.out);
    for line in ["ok    configuration: ", "ok    server: not running", "ok    certificate: ", "ok    storage: "] {
        assert!(fresh.out.contains(line), "{line}: {}", fresh.out);
    }
    assert!(!folder.0.join("couplet-data").exists(), "checking makes nothing");

    let data = folder.0.join("couplet-data");
    std::fs::create_dir_all(data.join("certs")).unwrap();
    std::fs::write(data.join("certs/localhost.crt"), "no certificate").unwrap();
    std::fs::write(data.join("certs/localhost.key"), "no key").unwrap();
    std::fs::write(data.join("couplet.redb"), "no store").unwrap();
    folder.write("couplet.toml", &format!("{CONFIG}[log]\noutput = \"file\"\nfile = \"/nowhere/at/all.log\"\n"));
    let broken = folder.run(&["check"]);
    assert_eq!(broken.code, 1);
    for line in ["FAIL  certificate: ", "FAIL  storage: ", "FAIL  log: cannot write to /nowhere/at"] {
        assert!(broken.out.contains(line), "{line}: {}", broken.out);
    }
    assert_eq!(std::fs::read(data.join("couplet.redb")).unwrap(), b"no store", "checking harms nothing");
    assert_eq!(folder.run(&["run"]).code, 1);
}

#[test]
fn a_memory_store_has_users_while_it_runs() {
    let folder = Folder::new();
    folder.write("couplet.toml", &format!("{CONFIG}[storage]\nbackend = \"memory\"\n"));
    let add = ["user", "add", "romeo@localhost", "--password-stdin"];
    assert_eq!(folder.run_with_input(&add, "x\n").code, 3);
    let server = folder.serve();
    assert_eq!(folder.run_with_input(&add, "x\n"), ran(0, "added romeo@localhost\n", ""));
    assert_eq!(folder.run(&["user", "list"]), ran(0, "romeo@localhost\n", ""));
    assert_eq!(server.stop().code, 0);
    assert!(!folder.0.join("couplet-data/couplet.redb").exists());
}

/// What the messages of a backup name: its file.
fn backup_path(made: &Ran) -> PathBuf {
    assert_eq!((made.code, made.err.as_str()), (0, ""), "{made:?}");
    let path = made.out.strip_prefix("made ").and_then(|text| text.split_once(": ")).map(|(path, _)| path);
    PathBuf::from(path.unwrap_or_else(|| panic!("{made:?}")))
}

#[test]
fn a_backup_made_while_the_server_runs_brings_everything_back() {
    let folder = Folder::new();
    let data = folder.0.join("couplet-data");
    let server = folder.serve();
    let add = |name: &str| folder.run_with_input(&["user", "add", name, "--password-stdin"], "x\n").code;
    assert_eq!(add("romeo@localhost"), 0);
    let made = backup_path(&folder.run(&["backup", "create"]));
    assert!(made.starts_with(data.join("backups")) && made.exists(), "{made:?}");
    let piped = folder.command(&["backup", "create", "--output", "-"]).output().unwrap();
    assert!(piped.status.success());
    std::fs::write(folder.0.join("piped"), &piped.stdout).unwrap();
    assert_eq!(folder.run(&["backup", "create", "--output", "named"]).code, 0);
    for name in [made.to_str().unwrap(), "piped", "named"] {
        let verified = folder.run(&["backup", "verify", name]);
        assert!(verified.code == 0 && verified.out.starts_with(&format!("{name} is a good backup: ")), "{verified:?}");
    }
    let listed = folder.run(&["backup", "list"]);
    assert!(listed.code == 0 && listed.out.contains(made.to_str().unwrap()), "{listed:?}");
    assert_eq!(listed.out.lines().count(), 1);

    assert_eq!(add("tybalt@localhost"), 0);
    let path = made.to_str().unwrap();
    assert_eq!(folder.run(&["backup", "restore", path]), ran(1, "", "the server is running: stop it first\n"));
    let status = folder.run(&["status"]);
    assert!(status.out.contains("storage: durable; "), "{}", status.out);
    let compacted = folder.run(&["compact"]);
    assert!(compacted.code == 0 && compacted.out.starts_with("the data file has "), "{compacted:?}");
    assert_eq!(server.stop().code, 0);

    let refused = folder.run(&["backup", "restore", path]);
    assert!(refused.code == 1 && refused.err.contains("was left as it is"), "{refused:?}");
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\ntybalt@localhost\n");
    let mut flipped = std::fs::read(&made).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    std::fs::write(folder.0.join("flipped"), flipped).unwrap();
    for args in [&["backup", "verify", "flipped"][..], &["backup", "restore", "flipped", "--replace"]] {
        let refused = folder.run(args);
        assert!(refused.code == 1 && refused.err.starts_with("flipped: the backup "), "{refused:?}");
    }
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\ntybalt@localhost\n");
    let restored = folder.run(&["backup", "restore", path, "--replace"]);
    assert!(restored.code == 0 && restored.out.starts_with("restored "), "{restored:?}");
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\n");
}

#[test]
fn what_is_in_memory_is_on_the_disk_when_the_operator_says_so() {
    let folder = Folder::new();
    folder.write("couplet.toml", &format!("{CONFIG}[storage]\ndurability = \"volatile\"\n"));
    assert_eq!(folder.run(&["flush"]).code, 3);
    let server = folder.serve();
    for user in ["romeo@localhost", "juliet@localhost"] {
        assert_eq!(folder.run_with_input(&["user", "add", user, "--password-stdin"], "x\n").code, 0);
        assert_eq!(folder.run(&["flush"]), ran(0, "all that was stored is on the disk\n", ""));
    }
    assert_eq!(folder.run_with_input(&["user", "add", "tybalt@localhost", "--password-stdin"], "x\n").code, 0);
    drop(server);
    assert_eq!(folder.run(&["user", "list"]).out, "juliet@localhost\nromeo@localhost\n", "killed before its time");
}

#[test]
fn backups_and_compaction_need_no_server_but_a_store() {
    let folder = Folder::new();
    let data = folder.0.join("couplet-data");
    let none = format!("there is no store in {}\n", data.display());
    for args in [&["backup", "create"][..], &["compact"], &["set-aside"]] {
        assert_eq!(folder.run(args), ran(1, "", &none), "{args:?}");
    }
    let empty = format!("no backups in {}\n", data.join("backups").display());
    assert_eq!(folder.run(&["backup", "list"]), ran(0, &empty, ""));
    assert!(!data.exists(), "asking makes nothing");
    folder.run_with_input(&["user", "add", "romeo@localhost", "--password-stdin"], "x\n");
    assert_eq!(folder.run(&["compact"]).code, 0);
    assert_eq!(folder.run(&["backup", "create", "--output", "-", "--keep", "1"]).code, 2);
    // Three older ones in the folder, of which one is kept beside the new one.
    let old = backup_path(&folder.run(&["backup", "create", "--to", "elsewhere"]));
    for day in 1..4 {
        let name = folder.0.join(format!("elsewhere/couplet-2020010{day}T000000Z.backup"));
        std::fs::copy(folder.0.join(&old), name).unwrap();
    }
    std::fs::remove_file(folder.0.join(&old)).unwrap();
    let new = backup_path(&folder.run(&["backup", "create", "--to", "elsewhere", "--keep", "2"]));
    let listed = folder.run(&["backup", "list", "elsewhere"]);
    assert_eq!(listed.out.lines().count(), 2, "{listed:?}");
    assert!(listed.out.contains(new.to_str().unwrap()), "{listed:?}");
}

#[test]
fn a_damaged_store_is_named_with_the_remedies_and_kept() {
    let folder = Folder::new();
    let store = folder.0.join("couplet-data/couplet.redb");
    folder.run_with_input(&["user", "add", "romeo@localhost", "--password-stdin"], "x\n");
    let backup = backup_path(&folder.run(&["backup", "create"]));
    std::fs::write(&store, "garbage").unwrap();
    let run = folder.run(&["run"]);
    assert_eq!(run.code, 1);
    for remedy in ["couplet backup restore FILE --replace", "couplet set-aside"] {
        assert!(run.err.contains(remedy), "{}", run.err);
    }
    let aside = format!("{}.damaged-1", store.display());
    let restored = folder.run(&["backup", "restore", backup.to_str().unwrap(), "--replace"]);
    assert!(restored.out.contains(&format!("\nwhat was there is kept as {aside}\n")), "{restored:?}");
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "garbage");
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\n");
    std::fs::write(&store, "garbage again").unwrap();
    let told = format!("{0} is now {0}.damaged-2; the server will start with an empty store\n", store.display());
    assert_eq!(folder.run(&["set-aside"]), ran(0, &told, ""));
    assert_eq!(folder.serve().stop().code, 0);
}

#[test]
fn every_durability_keeps_what_it_promises_over_a_stop() {
    for (settings, status) in [
        ("durability = \"batched\"\ncommit_every = \"1 s\"\n", "storage: batched, written every 1 s, "),
        ("durability = \"batched\"\npromises = \"early\"\n", "storage: batched, a crash loses up to 5 s; "),
        ("durability = \"volatile\"\n", "storage: volatile, a crash loses up to 3600 s; "),
    ] {
        let folder = Folder::new();
        folder.write("couplet.toml", &format!("{CONFIG}[storage]\n{settings}"));
        let add = |name: &str| folder.run_with_input(&["user", "add", name, "--password-stdin"], "x\n");
        assert_eq!(add("juliet@localhost").code, 0, "without a server");
        let server = folder.serve();
        assert_eq!(add("romeo@localhost"), ran(0, "added romeo@localhost\n", ""), "{settings}");
        let told = folder.run(&["status"]);
        assert!(told.out.contains(status), "{}", told.out);
        let made = backup_path(&folder.run(&["backup", "create"]));
        assert_eq!(server.stop().code, 0);
        let both = "juliet@localhost\nromeo@localhost\n";
        assert_eq!(folder.run(&["user", "list"]).out, both, "{settings}");
        assert_eq!(folder.serve().stop().code, 0);
        assert_eq!(folder.run(&["user", "del", "romeo@localhost"]).code, 0);
        assert_eq!(folder.run(&["backup", "restore", made.to_str().unwrap(), "--replace"]).code, 0);
        assert_eq!(folder.run(&["user", "list"]).out, both, "{settings}");
    }
}

#[test]
fn a_store_of_another_durability_is_not_passed_over() {
    let folder = Folder::new();
    folder.run_with_input(&["user", "add", "romeo@localhost", "--password-stdin"], "x\n");
    let backup = backup_path(&folder.run(&["backup", "create"]));
    folder.write("couplet.toml", &format!("{CONFIG}[storage]\ndurability = \"volatile\"\n"));
    for args in [&["user", "list"][..], &["run"]] {
        let refused = folder.run(args);
        assert!(
            refused.code == 1 && refused.err.contains("written with another storage.backend or storage.durability"),
            "{refused:?}"
        );
    }
    let path = backup.to_str().unwrap();
    assert_eq!(folder.run(&["backup", "restore", path]).code, 1);
    let restored = folder.run(&["backup", "restore", path, "--replace"]);
    assert!(restored.code == 0 && restored.out.contains("couplet.redb.damaged-1"), "{restored:?}");
    assert_eq!(folder.run(&["user", "list"]).out, "romeo@localhost\n");
}

#[test]
fn about_and_config_describe_the_program() {
    let folder = Folder::new();
    let about = folder.run(&["about"]);
    assert_eq!((about.code, about.err.as_str()), (0, ""));
    for (module, _) in couplet::modules::KNOWN {
        assert!(about.out.contains(&format!("\n  {module} ")), "{module}");
    }
    for limit in couplet::limits::TABLE {
        assert!(about.out.contains(limit.name) && about.out.contains(limit.reason), "{}", limit.name);
    }
    for thread in ["couplet ", "couplet-store", "couplet-hash", "async-io"] {
        assert!(about.out.contains(&format!("\n  {thread}")), "{thread}");
    }
    assert!(about.out.contains("\n  Core         Advanced Server\n"), "{}", about.out);
    assert_eq!(folder.run(&["config", "example"]).out, couplet::config::Config::example());
    let show = folder.run(&["config", "show"]);
    assert!(show.out.contains("iterations = 4096") && show.out.contains("couplet.toml:5"), "{}", show.out);
}

#[test]
fn warnings_go_to_the_standard_error_and_change_nothing() {
    let folder = Folder::new();
    let output = folder.command(&["user", "list"]).env("COUPLET_HOST", "x").output().unwrap();
    let told = "warning: COUPLET_HOST: no key has this name; did you mean COUPLET_HOSTS?\n";
    assert_eq!(Ran::from(output), ran(0, "", told));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    let mut child = folder.command(&["about"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
