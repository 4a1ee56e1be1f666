//! Moving house: data and configurations of other servers, as an operator brings them. The programs that wrote them are
//! in `tests/interop/moving.py`.
#![cfg(feature = "import")]

#[cfg(feature = "mam")]
#[path = "moving/archives.rs"]
mod archives;
#[path = "moving/readers.rs"]
mod readers;
#[cfg(feature = "mam")]
mod seeded;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder to work in, removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-moving-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("couplet.toml"), "hosts = [\"localhost\"]\n[sasl]\niterations = 4096\n").unwrap();
        Self(path)
    }

    /// Exit code, what was printed, and what was complained of.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_couplet"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"COUPLET_")) {
            command.env_remove(name);
        }
        let done = command.current_dir(&self.0).args(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moving")
}

/// What was counted: name, then new, same, those that differ and stay, replaced, refused.
fn counts(table: &str) -> Vec<(String, Vec<u64>)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers: Option<Vec<u64>> = words[words.len().saturating_sub(5)..].iter().map(|w| w.parse().ok()).collect();
        Some((words[..words.len().saturating_sub(5)].join(" "), numbers?))
    };
    table.lines().filter(|line| !line.starts_with("skipped")).filter_map(row).collect()
}

/// What has to be said for old messages to be kept.
const FOR_EVER: &str = "hosts = [\"localhost\"]\n[sasl]\niterations = 4096\n[modules.mam]\nkeep = 0\nrooms_keep = 0\n";

const EVERYTHING: [(&str, u64); 13] = [
    ("accounts", 3),
    ("administrators", 1),
    ("contacts", 3),
    ("roster versions", 1),
    ("vCards", 1),
    ("private elements", 1),
    ("blocklists", 1),
    ("offline messages", 1),
    ("nodes", 2),
    ("items of nodes", 3),
    ("rooms", 1),
    ("messages in rooms", 3),
    ("archive preferences", 1),
];

/// The data of a folder that has seen better days: what is good of it, and why the rest is not.
#[test]
fn what_prosody_kept_moves_in_once() {
    let folder = Folder::new();
    let from = fixtures().join("prosody").display().to_string();
    let import = ["import", "prosody", &from, "--config", "couplet.toml"];
    let (code, dry, _) = folder.run(&[&import[..], &["--dry-run"]].concat());
    assert_eq!(code, 1);
    assert!(dry.starts_with("would be taken") && !folder.0.join("couplet-data").exists(), "{dry}");
    let (code, first, complaints) = folder.run(&import);
    assert_eq!(code, 1);
    let new = counts(&first).into_iter().map(|(name, row)| (name, row[0]));
    let new: Vec<(String, u64)> = new.filter(|(_, count)| *count > 0).collect();
    assert_eq!(new, EVERYTHING.map(|(name, count)| (name.to_string(), count)), "{first}");
    assert_eq!(counts(&dry), counts(&first));
    for line in [
        "localhost/accounts/tybalt.dat: line 3: a text has no end; nothing of tybalt@localhost was taken",
        "localhost/accounts/paris.dat: its keys are of a hash function that is not known here",
        "localhost/accounts/benvolio.dat: line 1: this is no data: it would have to be run",
        "localhost/roster/mer%2ccu%3dtio.dat: \"@@\" is no contact; nothing of it was taken",
        "localhost/offline/romeo.list: an item is no message",
        "localhost/archive/romeo.list: an item is no message",
        "archived messages: its id in the archive is missing, or is none",
        "pep_urn%3axmpp%3abookmarks%3a1/romeo.list: line 11: the file ends in the middle of an item",
        "elsewhere.example is none of hosts",
        "pubsub_nodes/half.dat: line 2: a value is missing; nothing of the node half was taken",
    ] {
        assert!(complaints.contains(line), "{line:?} is missing in {complaints}");
    }
    for line in [
        "skipped: pubsub.localhost: items of nodes that are not there (1)",
        "skipped: roles: whoever is no administrator may do here what all others may (1)",
        "reminders: nothing here keeps that (1)",
        "skipped: passwords of accounts that are disabled there: laurence@localhost (1)",
        "roster: files of users without an account (1)",
        "skipped: archived messages: older than what is kept, see keep and rooms_keep of [modules.mam] (2)",
        "skipped: archived in rooms: older than what is kept, see keep and rooms_keep of [modules.mam] (3)",
    ] {
        assert!(first.contains(line), "{line:?} is missing in {first}");
    }
    assert!(!folder.0.join("it-was-run").exists());
    let (_, second, _) = folder.run(&import);
    for (name, row) in counts(&second) {
        assert_eq!((row[0], row[3]), (0, 0), "{name} came twice: {second}");
    }
    let (_, third, _) = folder.run(&[&import[..], &["--replace"]].concat());
    for (name, row) in counts(&third) {
        assert_eq!((row[0], row[3]), (0, 0), "{name} came twice: {third}");
    }
    assert_eq!(
        folder.run(&["user", "list", "--config", "couplet.toml"]).1,
        "laurence@localhost\nmer,cu=tio@localhost\nromeo@localhost\n"
    );
}

/// Archives come once, with their ids, and go out again in documents.
#[test]
fn archives_move_in_once_and_out_again() {
    let (one, other, sqlite) = (Folder::new(), Folder::new(), Folder::new());
    for folder in [&one, &other, &sqlite] {
        std::fs::write(folder.0.join("couplet.toml"), FOR_EVER).unwrap();
    }
    let from = fixtures().join("prosody").display().to_string();
    let import = ["import", "prosody", &from, "--config", "couplet.toml"];
    let archived = |table: &str| -> Vec<(String, Vec<u64>)> {
        counts(table).into_iter().filter(|(name, _)| name.starts_with("archived")).collect()
    };
    let row = |name: &str, row: [u64; 5]| (name.to_string(), row.to_vec());
    let (_, first, _) = one.run(&import);
    assert_eq!(
        archived(&first),
        [row("archived messages", [2, 0, 0, 0, 1]), row("archived in rooms", [3, 0, 0, 0, 0])]
    );
    assert!(counts(&first).iter().all(|(name, _)| name != "messages in rooms"), "{first}");
    let (_, second, _) = one.run(&[&import[..], &["--replace"]].concat());
    assert_eq!(
        archived(&second),
        [row("archived messages", [0, 2, 0, 0, 1]), row("archived in rooms", [0, 3, 0, 0, 0])]
    );

    assert_eq!(one.run(&["export", "a.xml", "--config", "couplet.toml"]).0, 0);
    let document = std::fs::read_to_string(one.0.join("a.xml")).unwrap();
    let result = "<result xmlns='urn:xmpp:mam:2' id='0197c4b5-9d10-7000-8000-000000000001'>\
                  <forwarded xmlns='urn:xmpp:forward:0'>\
                  <delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00.250Z'/>\
                  <message to='juliet@elsewhere.example' xmlns='jabber:client' from='romeo@localhost/orchard' id='x1' ";
    assert!(document.contains(result), "{document}");
    let file = one.0.join("a.xml").display().to_string();
    let import = ["import", "xep0227", &file, "--config", "couplet.toml"];
    assert_eq!(archived(&other.run(&import).1), [row("archived messages", [2, 0, 0, 0, 0])]);
    assert_eq!(archived(&other.run(&import).1), [row("archived messages", [0, 2, 0, 0, 0])]);
    assert_eq!(other.run(&["export", "--config", "couplet.toml"]).1, document);

    std::fs::copy(fixtures().join("prosody.sqlite"), sqlite.0.join("prosody.sqlite")).unwrap();
    let (_, table, _) = sqlite.run(&["import", "prosody", "prosody.sqlite", "--config", "couplet.toml"]);
    assert_eq!(
        archived(&table),
        [row("archived messages", [1, 0, 0, 0, 0]), row("archived in rooms", [3, 0, 0, 0, 0])]
    );
}

/// Files come once, with their times, and under names that their old paths lead to.
#[cfg(feature = "upload")]
#[test]
fn files_move_in_once() {
    let folder = Folder::new();
    let config = "hosts = [\"localhost\"]\n[sasl]\niterations = 4096\n[modules.upload]\nexpires = \"2000 weeks\"\n";
    std::fs::write(folder.0.join("couplet.toml"), config).unwrap();
    let from = fixtures().join("prosody").display().to_string();
    let import = ["import", "prosody", &from, "--config", "couplet.toml"];
    let row = |table: &str| counts(table).into_iter().find(|(name, _)| name == "files").unwrap().1;
    let (_, dry, _) = folder.run(&[&import[..], &["--dry-run"]].concat());
    assert_eq!(row(&dry), [2, 0, 0, 0, 1]);
    assert!(dry.contains("skipped: files: of users without an account here (1)"), "{dry}");
    let (_, first, complaints) = folder.run(&import);
    // One is of somebody whose account is said to come from the future.
    assert_eq!(row(&first), [2, 0, 0, 0, 1]);
    assert!(first.contains("skipped: files: never brought, or deleted since (1)"), "{first}");
    assert!(complaints.contains("short.bin: it is not as long as it should be"), "{complaints}");
    let path = folder.0.join("couplet-data/uploads").join(couplet::core::slots::moved_id("0197c4b5-9d10"));
    let meta = std::fs::metadata(&path).unwrap();
    let stored = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((stored.as_secs(), meta.permissions().mode() & 0o777), (1_577_836_800, 0o600));
    let bytes = std::fs::read(&path).unwrap();
    let file = couplet::http::upload::read_label(&bytes, meta.len(), stored.as_secs()).unwrap();
    assert_eq!((file.name.as_str(), file.owner.as_str(), file.size), ("a b.txt", "romeo@localhost", 15));
    assert!(bytes.ends_with(b"It is the east\n"));
    // His account can be younger than the file: it is granted by who takes it in.
    assert!(file.granted_s > file.stored_s);
    assert!(first.contains("skipped: files: of users without an account here (1)"), "{first}");
    assert_eq!(row(&folder.run(&import).1), [0, 2, 0, 0, 1]);
    let other = Folder::new();
    let (_, table, _) = other.run(&import);
    assert!(table.contains("skipped: files: older than what is kept, see expires of [modules.upload] (5)"), "{table}");
    assert!(!other.0.join("couplet-data/uploads").exists());
}

/// Of those who have to do with a node of a service as many are taken as it may have.
#[test]
fn nodes_take_as_many_people_as_they_may() {
    let folder = Folder::new();
    let config = "hosts = [\"localhost\"]\n[limits]\npubsub_service_subscriptions_max = 1\n";
    std::fs::write(folder.0.join("couplet.toml"), config).unwrap();
    let from = fixtures().join("prosody").display().to_string();
    let import = ["import", "prosody", &from, "--host", "pubsub.localhost", "--config", "couplet.toml"];
    let row = |table: &str| counts(table).into_iter().find(|(name, _)| name == "nodes").unwrap().1;
    let (_, table, complaints) = folder.run(&import);
    assert_eq!(row(&table), [0, 0, 0, 0, 1]);
    let why = "the node news_of é/one: more have to do with it than limits.pubsub_service_subscriptions_max; \
               they are left out";
    assert!(complaints.contains(why), "{complaints}");
    std::fs::write(folder.0.join("couplet.toml"), "hosts = [\"localhost\"]\n").unwrap();
    assert_eq!(row(&folder.run(&import).1), [1, 0, 0, 0, 0]);
    assert_eq!(row(&folder.run(&import).1), [0, 1, 0, 0, 0]);
    std::fs::write(folder.0.join("couplet.toml"), "hosts = [\"localhost\"]\n[modules]\ndisabled = [\"pubsub\"]\n")
        .unwrap();
    let (_, _, complaints) = folder.run(&import);
    assert!(complaints.contains("pubsub.localhost is none of modules.pubsub.hosts: add it there"), "{complaints}");
}

#[test]
fn what_to_import_has_to_be_said() {
    let folder = Folder::new();
    for (words, wanted) in [
        (&["import"][..], "Required positional arguments not provided"),
        (&["import", "oracle", "x"], "prosody, ejabberd or xep0227"),
        (&["import", "ejabberd"], "say which file"),
        (&["import", "xep0227", "-c", "prosody.cfg.lua"], "say which file"),
    ] {
        let (code, _, complaints) = folder.run(words);
        assert!(code == 2 && complaints.contains(wanted), "{words:?}: {code} {complaints}");
    }
    for words in [&["import", "--help"], &["import", "prosody", "--help"][..]] {
        let (code, help, _) = folder.run(words);
        assert!(code == 0 && help.contains("--dry-run") && help.contains("sql_database"), "{help}");
    }
}

/// More of one account than waits for the disk at a time.
#[cfg(feature = "mam")]
#[test]
fn a_dry_run_refuses_nothing_that_an_import_takes() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("couplet.toml"), FOR_EVER).unwrap();
    let host = folder.0.join("prosody/localhost");
    ["accounts", "archive"].iter().for_each(|store| std::fs::create_dir_all(host.join(store)).unwrap());
    std::fs::write(host.join("accounts/romeo.dat"), "return { password = \"pencil\" };\n").unwrap();
    let item = |n: u32| {
        format!(
            "item({{ [\"name\"] = \"message\"; [\"attr\"] = {{ [\"from\"] = \"nurse@localhost/r\" }};\n\
             [\"when\"] = {}; [\"key\"] = \"k{n}\"; [\"with\"] = \"nurse@localhost\";\n\
             {{ [\"name\"] = \"body\"; [\"attr\"] = {{}}; \"{}\" }} }});\n",
            1_577_836_800 + n,
            "x".repeat(100_000)
        )
    };
    // They are taken in by 64, and come to 16 MB with the third time.
    std::fs::write(host.join("archive/romeo.list"), (0..250).map(item).collect::<String>()).unwrap();
    let import = ["import", "prosody", "prosody", "--config", "couplet.toml"];
    let (code, dry, complaints) = folder.run(&[&import[..], &["--dry-run"]].concat());
    assert_eq!((code, complaints.as_str()), (0, ""), "{dry}");
    let (_, table, _) = folder.run(&import);
    assert_eq!(counts(&dry), counts(&table));
    assert!(counts(&table).contains(&("archived messages".to_string(), vec![250, 0, 0, 0, 0])), "{table}");
}

#[test]
fn what_is_here_stays_unless_it_is_to_be_replaced() {
    let folder = Folder::new();
    let from = fixtures().join("prosody").display().to_string();
    std::fs::write(folder.0.join("password"), "another\n").unwrap();
    let add = ["user", "add", "romeo@localhost", "--password-file", "password", "--config", "couplet.toml"];
    let add = folder.run(&add);
    assert_eq!(add.0, 0, "{add:?}");
    let import = ["import", "prosody", &from, "--host", "localhost", "--config", "couplet.toml"];
    let row = |table: &str| counts(table).into_iter().find(|(name, _)| name == "accounts").unwrap().1;
    assert_eq!(row(&folder.run(&import).1), [2, 0, 1, 0, 0]);
    assert_eq!(row(&folder.run(&[&import[..], &["--replace"]].concat()).1), [0, 2, 0, 1, 0]);
    // An account that is disabled there has no password here, until somebody gives it one.
    let keys = |folder: &Folder| {
        let document = folder.run(&["export", "--config", "couplet.toml"]).1;
        let user =
            document.split("<user name='laurence'>").nth(1).unwrap().split("</user>").next().unwrap().to_string();
        user.contains("scram-credentials")
    };
    assert!(!keys(&folder));
    let give = ["user", "passwd", "laurence@localhost", "--password-file", "password", "--config", "couplet.toml"];
    assert_eq!(folder.run(&give).0, 0);
    let (_, table, _) = folder.run(&import);
    assert_eq!(row(&table), [0, 2, 1, 0, 0]);
    assert!(
        table.contains("skipped: accounts that are disabled there, and not here: laurence@localhost (1)"),
        "{table}"
    );
    assert!(keys(&folder));
    assert_eq!(row(&folder.run(&[&import[..], &["--replace"]].concat()).1), [0, 2, 0, 1, 0]);
    assert!(!keys(&folder));
    let (_, other, complaints) = folder.run(&["import", "prosody", &from, "--host", "nowhere.example"]);
    assert!(other.contains("nothing was found") && complaints.contains("there is nothing of nowhere.example"));
}

#[test]
fn a_configuration_of_debian_becomes_one_of_ours() {
    let folder = Folder::new();
    let file = fixtures().join("prosody.cfg.lua").display().to_string();
    let (code, toml, complaints) = folder.run(&["config", "convert", &file]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    std::fs::write(folder.0.join("converted.toml"), &toml).unwrap();
    let (code, shown, complaints) = folder.run(&["config", "show", "--config", "converted.toml"]);
    assert_eq!(code, 0, "{complaints}\n{toml}");
    for line in [
        "hosts = [\"example.org\", \"example.com\"]",
        "admins = [\"romeo@example.org\"]",
        "listen = [\"127.0.0.1:5222\", \"[::1]:5222\"]",
        "rate = \"10 kB/s\"",
        "warning = 80",
        "max = \"64 MiB\"",
        "hosts = [\"conference.example.org\"]",
        "hosts = [\"news.example.org\"]",
        "creators = \"admins\"",
        "auto_create = true",
        "disabled = [\"offline@example.com\"]",
        "auth_timeout_s = \"5 min\"",
        "retention = \"1 h\"",
        "statsd = \"127.0.0.1:8125\"",
    ] {
        assert!(shown.contains(line), "{line} is missing in {shown}");
    }
    assert!(toml.contains("secrets = [\"irc.example.org=shared\"]"), "{toml}");
    for note in [
        ":5: gc_settings: nothing is needed",
        "modules_enabled: `os.getenv(\"MODE\") == \"high\" and \"statistics\" or nil` would have to be run",
        ":32: `local secret = \"x\" .. os.getenv(\"HOME\")` was not read",
        "`if os.getenv(\"X\") then daemonize = true end` was not read",
        "motd_text: `name` would have to be run",
        "Include \"conf.d/missing.cfg.lua\": ",
        "no_such_option: there is no equal here",
    ] {
        assert!(toml.contains(note), "{note} is missing in {toml}");
    }
    let (code, _, complaints) = folder.run(&["config", "convert", "couplet.toml"]);
    assert_eq!(code, 1, "{complaints}");
}

/// Everything in one document, and again out of what it has become.
#[test]
fn documents_come_out_as_they_went_in() {
    let (one, other) = (Folder::new(), Folder::new());
    let from = fixtures().join("prosody").display().to_string();
    one.run(&["import", "prosody", &from, "--config", "couplet.toml"]);
    let (code, _, text) = one.run(&["export", "a.xml", "--config", "couplet.toml"]);
    assert!(code == 0 && text.contains("3 accounts") && text.contains("that it is an administrator's (1)"), "{text}");
    let first = std::fs::read_to_string(one.0.join("a.xml")).unwrap();
    let mode = std::fs::metadata(one.0.join("a.xml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let prefs = "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>juliet@elsewhere.example</jid></always>\
                 <never><jid>spam.example</jid></never></prefs>";
    assert!(first.contains(prefs), "{first}");
    let file = one.0.join("a.xml").display().to_string();
    let import = ["import", "xep0227", &file, "--config", "couplet.toml"];
    assert_eq!(other.run(&import).0, 0);
    let (_, second, _) = other.run(&[&import[..], &["--replace"]].concat());
    assert!(counts(&second).iter().all(|(_, row)| row[0] + row[2] + row[3] + row[4] == 0), "{second}");
    assert_eq!(other.run(&["export", "--config", "couplet.toml"]).1, first);
    // One of a host that is not there, and one that would write over something.
    assert_eq!(one.run(&["export", "--host", "elsewhere.example", "--config", "couplet.toml"]).0, 1);
    std::fs::write(one.0.join("b.xml.part"), "").unwrap();
    assert_eq!(one.run(&["export", "b.xml", "--config", "couplet.toml"]).0, 1);
}

#[test]
fn documents_in_documents_are_read_and_nothing_beside_them() {
    let folder = Folder::new();
    let from = fixtures().join("pie").display().to_string();
    let (code, table, complaints) = folder.run(&["import", "xep0227", &from, "--config", "couplet.toml"]);
    assert_eq!(code, 1);
    let new: Vec<(String, u64)> = counts(&table).into_iter().map(|(name, row)| (name, row[0])).collect();
    let wanted = [
        ("accounts", 4),
        ("contacts", 3),
        ("vCards", 1),
        ("private elements", 1),
        ("blocklists", 1),
        ("last activities", 1),
        ("offline messages", 2),
        ("nodes", 1),
        ("items of nodes", 2),
        ("archive preferences", 1),
    ];
    assert_eq!(new, wanted.map(|(name, count)| (name.to_string(), count)), "{table}{complaints}");
    for line in [
        "\"../secret.xml\" was left out: it leads out of the folder",
        "\"/etc/passwd\" was left out: it leads out of the folder",
        "missing.xml\" was left out: it cannot be read",
        "broken.xml: byte ",
        "not well-formed XML; benvolio@localhost was not taken, or not all of it",
        "elsewhere.example is none of hosts",
    ] {
        assert!(complaints.contains(line), "{line:?} is missing in {complaints}");
    }
    for line in [
        "\"\" at \"localhost\" is no user (1)",
        "passwords of accounts that are disabled there: friar@localhost (1)",
        "romeo@localhost: credentials for \"SCRAM-SHA-512\" (1)",
        "romeo@localhost: credentials that are not whole (1)",
        "romeo@localhost: <x/> in \"urn:unknown\", which nothing here keeps (1)",
        "romeo@localhost: a message of an archive that is none (1)",
        "romeo@localhost: 1 rules of a privacy list that block no address (1)",
    ] {
        assert!(table.contains(line), "{line:?} is missing in {table}");
    }
    let (_, exported, _) = folder.run(&["export", "--config", "couplet.toml"]);
    assert!(exported.contains("<value>whitelist</value>"), "{exported}");
    let friar = exported.split("<user name='friar'>").nth(1).and_then(|user| user.split("</user>").next()).unwrap();
    assert!(!friar.contains("credentials") && !friar.contains("banned"), "{exported}");
    // What stands in a user's own data is his.
    assert!(exported.contains("href='../secret.xml'"), "{exported}");
}

/// The same in one file of SQLite, whose pages are so small that rows go over several and trees have levels.
#[test]
fn what_prosody_kept_in_sqlite_moves_in_once() {
    let folder = Folder::new();
    std::fs::copy(fixtures().join("prosody.sqlite"), folder.0.join("prosody.sqlite")).unwrap();
    let import = ["import", "prosody", "prosody.sqlite", "--config", "couplet.toml"];
    std::fs::write(folder.0.join("prosody.sqlite-wal"), "something").unwrap();
    let (code, _, complaints) = folder.run(&import);
    assert!(code == 1 && complaints.contains("wal_checkpoint(TRUNCATE)"), "{complaints}");
    std::fs::write(folder.0.join("prosody.sqlite-wal"), "").unwrap();
    let (code, first, complaints) = folder.run(&import);
    assert_eq!(code, 1);
    let new: Vec<(String, u64)> = counts(&first).into_iter().map(|(name, row)| (name, row[0])).collect();
    let mut wanted = EVERYTHING.map(|(name, count)| match name {
        "accounts" => (name.to_string(), 41),
        "contacts" => (name.to_string(), 2),
        "items of nodes" => (name.to_string(), 62),
        _ => (name.to_string(), count),
    });
    wanted.sort();
    let mut got = new.clone();
    got.retain(|(name, _)| name != "push registrations");
    got.sort();
    assert_eq!(got, wanted, "{first}");
    assert!(new.contains(&("push registrations".to_string(), 1)), "{first}");
    for line in [
        "half@localhost: its keys are not whole; nothing of it was taken",
        "romeo@localhost: offline: a row is no element",
        "elsewhere.example is none of hosts",
    ] {
        assert!(complaints.contains(line), "{line:?} is missing in {complaints}");
    }
    let (_, second, _) = folder.run(&[&import[..], &["--replace"]].concat());
    assert!(counts(&second).iter().all(|(_, row)| row[0] + row[2] + row[3] + row[4] == 0), "{second}");
    std::fs::write(folder.0.join("foreign.sqlite"), "Nothing of SQLite's.").unwrap();
    let (code, _, complaints) = folder.run(&["import", "prosody", "foreign.sqlite"]);
    assert!(code == 1 && complaints.contains("it is no file of SQLite"), "{complaints}");
}

/// ejabberd's tables, with and without hosts in their rows.
#[test]
fn what_ejabberd_kept_in_sqlite_moves_in_once() {
    for (file, accounts) in [("ejabberd.sqlite", 4), ("ejabberd-old.sqlite", 4)] {
        let folder = Folder::new();
        std::fs::write(folder.0.join("couplet.toml"), FOR_EVER).unwrap();
        let from = fixtures().join(file).display().to_string();
        let import = ["import", "ejabberd", &from, "--config", "couplet.toml"];
        let (code, first, complaints) = folder.run(&import);
        assert_eq!(code, 1, "{complaints}");
        let mut new: Vec<(String, u64)> = counts(&first).into_iter().map(|(name, row)| (name, row[0])).collect();
        let wanted = [
            ("accounts", accounts),
            ("archive preferences", 1),
            ("archived in rooms", 1),
            ("archived messages", 2),
            ("blocklists", 1),
            ("contacts", 3),
            ("items of nodes", 3),
            ("last activities", 1),
            ("nodes", 2),
            ("offline messages", 1),
            ("private elements", 1),
            ("push registrations", 1),
            ("rooms", 1),
            ("vCards", 1),
        ];
        new.sort();
        assert_eq!(new, wanted.map(|(name, count)| (name.to_string(), count)), "{first}{complaints}");
        for line in [
            "rosterusers: romeo@localhost: \"@@\" is no contact",
            "users: tybalt@localhost: its keys are not whole, or of a hash function that is not known here",
            "spool: romeo@localhost: a message that is none",
            "muc_room: broken@conference.localhost: its options cannot be read",
        ] {
            assert!(complaints.contains(line), "{line:?} is missing in {complaints}");
        }
        assert_eq!(complaints.contains("elsewhere.example is none of hosts"), !file.contains("old"), "{complaints}");
        for line in [
            "skipped: archived messages: written with compress_xml, which is not read (1)",
            "skipped: conference.localhost: rooms that end with their last occupant (1)",
            "skipped: passwords of accounts that are disabled there: laurence@localhost (1)",
            "skipped: messages of the day: nothing here keeps that (1)",
            "skipped: privacy lists that are no default: nothing here keeps that (1)",
            "skipped: rules of privacy lists that block no address (1)",
        ] {
            assert!(first.contains(line), "{line:?} is missing in {first}");
        }
        let (_, second, _) = folder.run(&[&import[..], &["--replace"]].concat());
        assert!(counts(&second).iter().all(|(_, row)| row[0] + row[2] + row[3] + row[4] == 0), "{second}");
        let (code, document, _) = folder.run(&["export", "--config", "couplet.toml"]);
        assert_eq!(code, 0);
        for part in [
            "<result xmlns='urn:xmpp:mam:2' id='1577836800000000'><forwarded",
            "stamp='2020-01-01T00:00:00.003Z'/>",
            "<item jid='juliet@localhost' name='J &amp; co' subscription='both'><group>Friends</group>",
            "<group>Vérona</group>",
            "<item jid='rosaline@elsewhere.example' subscription='none' ask='subscribe'/>",
            "<status>Let me see you</status>",
            "<value>A \"title\"</value>",
            "<affiliation jid='juliet@localhost' affiliation='publisher'/>",
            "<subscription jid='juliet@localhost' subscription='subscribed'/>",
            "<item id='one' publisher='juliet@localhost'>",
            "<body>line 2</body>",
            "<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>juliet@localhost/b</jid></always>",
            "<never><jid>spam.example</jid></never>",
            "<user name='laurence'>\n<query",
        ] {
            assert!(document.contains(part), "{part:?} is missing in {document}");
        }
        assert!(!document.contains("stanza-id"), "{document}");
    }
    // Two hosts, and rows that say nothing of either.
    let folder = Folder::new();
    std::fs::write(folder.0.join("couplet.toml"), "hosts = [\"localhost\", \"example.org\"]\n").unwrap();
    let from = fixtures().join("ejabberd-old.sqlite").display().to_string();
    let import = ["import", "ejabberd", &from, "--config", "couplet.toml"];
    let (code, _, complaints) = folder.run(&import);
    assert!(code == 1 && complaints.contains("say with --host whose file it is"), "{complaints}");
    let (_, table, _) = folder.run(&[&import[..], &["--host", "example.org"]].concat());
    assert!(counts(&table).contains(&("accounts".to_string(), vec![4, 0, 0, 0, 0])), "{table}");
    let prosody = fixtures().join("prosody.sqlite").display().to_string();
    let (code, _, complaints) = folder.run(&["import", "ejabberd", &prosody, "--config", "couplet.toml"]);
    assert!(code == 1 && complaints.contains("it has no tables of ejabberd's"), "{complaints}");
}
