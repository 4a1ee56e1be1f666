//! The configuration as an operator meets it: files, variables, and what is said about wrong ones.

use couplet::config::{Backend, Config, Format, Level, Output, Preset};
use couplet::setting::{Bytes, Seconds};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed with its content.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("couplet-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(path: &Path, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let file = format!("{}", path.display());
    let shorten = |e: couplet::config::ConfigError| e.to_string().replace(&file, "F");
    Config::load(Some(path), variables(env)).map_err(|errors| errors.into_iter().map(shorten).collect())
}

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = Folder::new();
    load(&folder.file("couplet.toml", text), env)
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load_text("", &[]).unwrap();
    assert_eq!(config.server.hosts, ["localhost"]);
    assert_eq!(config.c2s.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[::]:5222"]);
    assert_eq!(config.c2s.direct_tls_listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[::]:5223"]);
    assert_eq!(config.s2s.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[::]:5269"]);
    assert_eq!(config.authorities_file(), None);
    assert!(config.c2s.encryption_required && config.sasl.plain && config.tcp.nodelay);
    assert_eq!(config.sasl.iterations, 10_000);
    assert_eq!(config.memory.max, Bytes(32_000_000));
    assert_eq!(config.limits, couplet::limits::Limits::default());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn every_kind_of_value_is_read() {
    let config = load_text(
        r#"
        hosts = ["Example.ORG", "localhost"]
        admins = ["Romeo@example.org"]
        [c2s]
        listen = ["127.0.0.1:15222"]
        direct_tls_listen = []
        encryption_required = false
        [tcp]
        nodelay = false
        keepalive_idle = "2 min"
        keepalive_count = 5
        [storage]
        backend = "memory"
        cache = "1 MiB"
        [sasl]
        iterations = 4096
        [log]
        level = "warn"
        levels = ["couplet::net=debug", "rustls = off"]
        output = "file"
        file = "/var/log/couplet.log"
        format = "json"
        [memory]
        max = "64 MB"
        [limits]
        stanza_bytes_max = "512 KiB"
        auth_timeout_s = "1 min"
        resources_max = 3
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(config.server.hosts, ["example.org", "localhost"], "prepared");
    assert_eq!(config.server.admins, ["romeo@example.org"]);
    assert_eq!(config.c2s.listen[0].to_string(), "127.0.0.1:15222");
    assert!(config.c2s.direct_tls_listen.is_empty() && !config.c2s.encryption_required && !config.tcp.nodelay);
    assert_eq!((config.tcp.keepalive_idle, config.tcp.keepalive_count), (Seconds(120), 5));
    assert_eq!((config.storage.backend, config.storage.cache), (Backend::Memory, Bytes(1_048_576)));
    assert_eq!((config.log.level, config.log.output, config.log.format), (Level::Warn, Output::File, Format::Json));
    let levels: Vec<_> = config.log.levels_by_target().collect();
    assert_eq!(levels, [("couplet::net", Level::Debug), ("rustls", Level::Off)]);
    assert_eq!(config.log_file(), Path::new("/var/log/couplet.log"));
    assert_eq!(config.limits.stanza_bytes_max, 524_288);
    assert_eq!((config.limits.auth_timeout_s, config.limits.resources_max), (60, 3));
}

#[test]
fn wrong_files_are_explained() {
    let size = "a size such as \"256 kB\", \"32 MB\", \"4 KiB\"";
    let mut wrong = Vec::new();
    for (text, expected) in [
        // Not TOML at all.
        ("hosts = [", "F:1:10: this is not TOML: the file ends in the middle of something"),
        ("hosts = localhost", "F:1:9: this is not TOML: a text needs \"quotes\""),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", "F:3:1: this is not TOML: duplicate key: `level`"),
        ("[log]\n[log]", "F:2:1: this is not TOML: redefinition of table `log`"),
        // Keys and sections that do not exist.
        ("hosst = [\"a\"]", "F:1:1: unknown key \"hosst\"; did you mean \"hosts\"?"),
        ("[c2s]\nlissten = []", "F:2:1: unknown key \"c2s.lissten\"; did you mean \"listen\"?"),
        ("\n\n  colour = 1", "F:3:3: unknown key \"colour\"; `couplet config example` lists all keys"),
        ("listen = []", "F:1:1: unknown key \"listen\"; it belongs under [c2s]"),
        (
            "[c2s]\nhosts = []",
            "F:2:1: unknown key \"c2s.hosts\"; it belongs to the top of the file, above the first section",
        ),
        ("[cs2]\nlisten = []", "F:1:2: unknown section [cs2]; did you mean [c2s]?"),
        ("[plugins]", "F:1:2: unknown section [plugins]; `couplet config example` lists all sections"),
        (
            "[modules.teleport]\nx = 1",
            "F:1:10: unknown section [modules.teleport]; `couplet config example` lists all sections",
        ),
        ("[modules.blcking]", "F:1:10: unknown section [modules.blcking]; did you mean [modules.blocking]?"),
        ("[hosts]", "F:1:2: \"hosts\" is a key, not a section; write hosts = ..."),
        ("[log.level]\nx = 1", "F:1:6: \"log.level\" is a key, not a section; write level = ..."),
        ("c2s = 5222", "F:1:1: \"c2s\" is a section; write [c2s] on a line of its own"),
        ("[[c2s]]\nlisten = []", "F:1:3: \"c2s\" is there once; write [c2s]"),
        ("hosts = [[\"a\"]]", "F:1:9: hosts: a list holds texts, numbers, true and false only"),
        // Values.
        ("hosts = \"localhost\"", "F:1:9: hosts: this is a text; write a list: [\"localhost\"]"),
        ("hosts = []", "F:1:1: hosts: a server needs a domain; write for example hosts = [\"example.org\"]"),
        ("hosts = [\"a@b.c\"]", "F:1:1: hosts: \"a@b.c\" is an address; write the domain alone: \"b.c\""),
        ("hosts = [\"b.c/x\"]", "F:1:1: hosts: \"b.c/x\" is not a domain; write for example \"example.org\""),
        (
            "hosts = [\"\"]",
            "F:1:1: hosts: \"\" is not a domain (a part of the address is empty); write for example \"example.org\"",
        ),
        ("hosts = [\"b.c\", \"B.C\"]", "F:1:1: hosts: \"B.C\" stands there twice; remove one"),
        (
            "[modules]\ndisabled = [\"muc@b.example\"]",
            "F:2:1: modules.disabled: \"b.example\" is none of hosts; write \"muc\", or \"muc@\" with one of them",
        ),
        (
            "[components]\nsecrets = [\"irc.example.org\"]",
            "F:2:11: components.secrets: this is not a domain and its secret such as \"irc.example.org=SECRET\"",
        ),
        (
            "[components]\nsecrets = [\"localhost=x\"]",
            "F:2:1: components.secrets: \"localhost\" is one of hosts; a component has a domain of its own",
        ),
        ("admins = [\"b.c\"]", "F:1:1: admins: \"b.c\" is not an address; write for example \"romeo@example.org\""),
        (
            "[modules]\ndisabled = [\"carbon\"]",
            "F:2:12: modules.disabled: there is no module \"carbon\"; did you mean \"carbons\"?",
        ),
        (
            "[c2s]\nlisten = [\"5222\"]",
            "F:2:10: c2s.listen: \"5222\" is not an address with a port such as \"[::]:5222\" or \"127.0.0.1:5222\"",
        ),
        (
            "[c2s]\nlisten = [\"[::]:5223\"]",
            "c2s.direct_tls_listen: \"[::]:5223\" stands in c2s.listen, too; each needs a port of its own",
        ),
        (
            "[s2s]\nlisten = [\"[::]:5222\"]",
            "F:2:1: s2s.listen: \"[::]:5222\" stands in c2s.listen, too; each needs a port of its own",
        ),
        (
            "[c2s]\nlisten = []\ndirect_tls_listen = []",
            "F:2:1: c2s.listen: nobody can connect when direct_tls_listen is empty, too; \
             write for example [\"[::]:5222\"]",
        ),
        (
            "[log]\nlevel = \"inf\"",
            "F:2:9: log.level: \"inf\" is not one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"; \
             did you mean \"info\"?",
        ),
        (
            "[log]\nlevels = [\"couplet\"]",
            "F:2:10: log.levels: \"couplet\" has no level; write for example \"couplet::net=debug\"",
        ),
        ("[sasl]\niterations = 1000", "F:2:14: sasl.iterations: 1000 is too small; write 4096 or more"),
        ("[sasl]\niterations = 9999999", "F:2:14: sasl.iterations: 9999999 is too large; write 1000000 or less"),
        ("[sasl]\nplain = \"true\"", "F:2:9: sasl.plain: write true without quotes"),
        ("[sasl]\nplain = 1", "F:2:9: sasl.plain: this is a number; write true or false"),
        ("[storage]\npath = \"\"", "F:2:8: storage.path: this is empty; write a path"),
        ("[memory]\nmax = \"32 parsecs\"", &format!("F:2:7: memory.max: \"32 parsecs\" is not {size}")),
        ("[memory]\nmax = \"1 kB\"", "F:2:7: memory.max: \"1 kB\" is too small; write \"8 MB\" or more"),
        ("[memory]\nwarning = 95", "F:2:11: memory.warning: 95 does not fit; write a number from 10 to 90"),
        (
            "[memory]\nmodules = [\"mucc=1 MB\"]",
            "F:2:11: memory.modules: there is no module \"mucc\"; did you mean \"muc\"?",
        ),
        ("[memory]\nmax = -1", &format!("F:2:7: memory.max: -1 is negative; write {size}")),
        ("[memory]\nmax = \"5 GB\"", "F:2:7: memory.max: \"5 GB\" is too large; write at most \"4294967295 B\""),
        (
            "[limits]\nstanza_bytes_max = 100",
            "F:2:20: limits.stanza_bytes_max: \"100 B\" is too small; write \"10 kB\" or more",
        ),
        ("[limits]\nstanza = 100", "F:2:1: unknown key \"limits.stanza\"; `couplet config example` lists all keys"),
        (
            "[limits]\nstanza_byte_max = 100",
            "F:2:1: unknown key \"limits.stanza_byte_max\"; did you mean \"stanza_bytes_max\"?",
        ),
    ] {
        let told = load_text(text, &[]).err().unwrap_or_default();
        if told != [expected] {
            wrong.push(format!("{text}\n  told     {told:?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "zzz = 1\n[sasl]\nplain = 1\n[log]\nlevel = 2\naaa = 3\nformat = \"text\"\n";
    assert_eq!(
        load_text(text, &[("COUPLET_MEMORY__MAX", "much")]).unwrap_err(),
        [
            "F:1:1: unknown key \"zzz\"; `couplet config example` lists all keys",
            "F:3:9: sasl.plain: this is a number; write true or false",
            "F:5:9: log.level: this is a number; \
             write one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            "F:6:1: unknown key \"log.aaa\"; `couplet config example` lists all keys",
            "COUPLET_MEMORY__MAX: memory.max: \"much\" is not a size such as \"256 kB\", \"32 MB\", \"4 KiB\"",
        ]
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = Folder::new();
    let missing = folder.0.join("none.toml");
    assert_eq!(load(&missing, &[]).unwrap_err(), ["F: there is no such file"]);
    assert_eq!(load(&folder.file("latin1", b"# caf\xe9"), &[]).unwrap_err(), ["F: this file is not UTF-8"]);
    let large = folder.file("large", "#".repeat(300_000));
    assert_eq!(load(&large, &[]).unwrap_err(), ["F: this file has more than 262144 bytes"]);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load_text(
        "hosts = [\"a.example\"]\n[log]\nlevel = \"warn\"",
        &[
            ("COUPLET_HOSTS", "b.example, c.example"),
            ("COUPLET_LOG__LEVEL", "debug"),
            ("COUPLET_SASL__PLAIN", "false"),
            ("COUPLET_LIMITS__RESOURCES_MAX", "7"),
            ("COUPLET_TCP__KEEPALIVE_IDLE", "1 min"),
            ("COUPLET_C2S__LISTEN", "127.0.0.1:1,127.0.0.1:2"),
            ("COUPLET_LOG__FILE", "x.log"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.hosts, ["b.example", "c.example"]);
    assert_eq!(config.log.level, Level::Debug);
    assert!(!config.sasl.plain);
    assert_eq!(config.limits.resources_max, 7);
    assert_eq!(config.tcp.keepalive_idle, Seconds(60));
    assert_eq!(config.c2s.listen.len(), 2);
    assert_eq!(config.log.file, "x.log");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn values_come_from_files_that_variables_name() {
    let folder = Folder::new();
    let toml = folder.file("couplet.toml", "");
    let secret = folder.file("hosts", "a.example,b.example\n");
    let path = secret.to_str().unwrap();
    assert_eq!(load(&toml, &[("COUPLET_HOSTS_FILE", path)]).unwrap().server.hosts, ["a.example", "b.example"]);
    assert_eq!(
        load(&toml, &[("COUPLET_HOSTS_FILE", "/nowhere/at/all")]).unwrap_err(),
        ["COUPLET_HOSTS_FILE: there is no such file"]
    );
    assert_eq!(
        load(&toml, &[("COUPLET_HOSTS", "x"), ("COUPLET_HOSTS_FILE", path)]).unwrap_err(),
        ["COUPLET_HOSTS_FILE: COUPLET_HOSTS is set, too; remove one of them"]
    );
}

#[test]
fn mistakes_in_variables_are_errors_and_unknown_variables_warnings() {
    let config = load_text("", &[("COUPLET_HOST", "a.example"), ("COUPLET_TELEPORT", "on")]).unwrap();
    assert_eq!(
        config.warnings,
        [
            "COUPLET_HOST: no key has this name; did you mean COUPLET_HOSTS?",
            "COUPLET_TELEPORT: no key has this name; `couplet config example` lists all keys",
        ]
    );
    assert_eq!(
        load_text("", &[("COUPLET_HOSTS", "a@b"), ("COUPLET_SASL__PLAIN", "yes")]).unwrap_err(),
        [
            "COUPLET_SASL__PLAIN: sasl.plain: \"yes\" is not true or false",
            "COUPLET_HOSTS: \"a@b\" is an address; write the domain alone: \"b\"",
        ]
    );
    let broken = [("COUPLET_HOSTS".into(), OsString::from_vec(vec![0xff]))];
    let errors = Config::load(None, broken).unwrap_err();
    assert_eq!(errors[0].to_string(), "COUPLET_HOSTS: this is not UTF-8; write it in UTF-8");
}

#[test]
fn a_variable_can_name_the_file_and_an_option_wins() {
    let folder = Folder::new();
    let (one, two) = (folder.file("1.toml", "hosts = [\"one\"]"), folder.file("2.toml", "hosts = [\"two\"]"));
    let env = variables(&[("COUPLET_CONFIG", two.to_str().unwrap())]);
    assert_eq!(Config::load(None, env.clone()).unwrap().server.hosts, ["two"]);
    assert_eq!(Config::load(Some(&one), env).unwrap().server.hosts, ["one"]);
}

#[test]
fn paths_count_from_the_folder_of_the_file() {
    let folder = Folder::new();
    let config = load(&folder.file("couplet.toml", "[storage]\npath = \"data\""), &[]).unwrap();
    assert_eq!(config.data_folder(), folder.0.join("data"));
    assert_eq!(config.certificates_folder(), folder.0.join("data/certs"));
    assert_eq!(config.admin_socket(), folder.0.join("data/couplet.sock"));
    assert_eq!(config.log_file(), folder.0.join("data/couplet.log"));
    let absolute = load_text("[storage]\npath = \"/srv/x\"\n[tls]\ncertificates = \"/etc/ssl\"", &[]).unwrap();
    assert_eq!(absolute.data_folder(), Path::new("/srv/x"));
    assert_eq!(absolute.certificates_folder(), Path::new("/etc/ssl"));
    assert_eq!(Config::default().data_folder(), Path::new("couplet-data"));
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from() {
    let config = load_text("[log]\nlevel = \"warn\"", &[("COUPLET_HOSTS", "a.example")]).unwrap();
    let shown = config.show();
    let line = |start: &str| {
        let line = shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {shown}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("hosts"), "hosts = [\"a.example\"] # COUPLET_HOSTS");
    assert!(line("level =").starts_with("level = \"warn\" # /") && line("level =").ends_with("couplet.toml:2"));
    assert_eq!(line("plain"), "plain = true # default");
    assert_eq!(line("max ="), "max = \"32 MB\" # default");
    // It is a configuration itself.
    let again = load_text(&shown, &[]).unwrap();
    assert_eq!((again.server, again.log, again.limits), (config.server, config.log, config.limits));
}

/// `config.example.toml` is what `couplet config example` of a build with all modules prints;
/// `COUPLET_WRITE=1 cargo test --features cluster --test config` writes it.
#[test]
fn the_example_is_that_of_the_sections() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let has_all = cfg!(feature = "sqlite") && couplet::modules::KNOWN.iter().all(|(_, built)| *built);
    if std::env::var_os("COUPLET_WRITE").is_some() {
        assert!(has_all, "this build lacks sections: write with --features cluster");
        std::fs::write(&path, Config::example()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    if has_all {
        assert_eq!(committed, Config::example());
    } else {
        // A smaller build has fewer sections, and fewer keys in some; those it has are all there, as they are.
        let example = Config::example();
        let missing = example.split("\n\n").filter(|section| !committed.contains(section.trim_end()));
        let missing: Vec<&str> = missing.flat_map(str::lines).filter(|line| !committed.contains(line)).collect();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }
    if has_all {
        assert_eq!(load(&path, &[]).unwrap().show(), Config::default().show());
    }
}

#[test]
fn the_example_loads_with_every_key_uncommented_and_means_the_defaults() {
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    let uncomment = |line: &str| if is_key(line) { line.trim_start_matches('#').to_string() } else { line.to_string() };
    let text: Vec<String> = Config::example().lines().map(uncomment).collect();
    let config = load_text(&text.join("\n"), &[]).unwrap();
    let values = |config: &Config| {
        let shown = config.show();
        shown.lines().map(|line| line.split(" #").next().unwrap_or("").trim().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(values(&config), values(&Config::default()));
    assert!(!config.show().contains("# default"), "every key was found: {}", config.show());
}

#[test]
fn variables_of_the_image_of_prosody_are_understood() {
    let env = [
        ("PROSODY_VIRTUAL_HOSTS", "a.example,b.example"),
        ("PROSODY_ADMINS", "romeo@a.example"),
        ("PROSODY_LOGLEVEL", "debug"),
        ("PROSODY_S2S_SECURE_AUTH", "0"),
        ("PROSODY_COMPONENTS", "rooms.a.example:muc"),
        ("PROSODY_C2S_RATE_LIMIT", "12kb/s"),
        ("PROSODY_STORAGE", "sql"),
        ("COUPLET_LOG__LEVEL", "warn"),
    ];
    let config = load_text("", &env).unwrap();
    assert_eq!(config.server.hosts, ["a.example", "b.example"]);
    assert_eq!(config.log.level, Level::Warn, "our own variable counts");
    assert!(!config.s2s.secure_auth);
    assert_eq!(config.engine_settings().modules.muc.hosts, ["rooms.a.example"]);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with("PROSODY_STORAGE means nothing here"), "{:?}", config.warnings);
    let wrong = load_text("", &[("PROSODY_VIRTUAL_HOSTS", "a@b")]).unwrap_err();
    assert!(wrong[0].contains("write the domain alone"), "{wrong:?}");
}

/// What `cross/deploy/profiles` ships, each with the clients and megabytes that it is meant for.
#[test]
fn each_profile_is_a_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/deploy/profiles");
    let known = [
        ("personal", Preset::Personal, 250, 16),
        ("community", Preset::Community, 2500, 64),
        ("enterprise", Preset::Enterprise, 20_000, 512),
        ("cluster", Preset::Enterprise, 10_000, 256),
    ];
    for (name, preset, clients, megabytes) in known {
        let config = load(&folder.join(format!("{name}.toml")), &[]).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
        assert_eq!((config.rates.preset, config.limits.connections_max), (preset, clients), "{name}");
        assert_eq!(config.memory.max, Bytes(megabytes * 1_000_000), "{name}");
        // A client holds 8 kB while nothing happens, and the program and its pages are there before any.
        let needed = u64::from(clients) * 8000 + 8_000_000 + config.storage.cache_bytes(config.memory.max) as u64;
        assert!(needed < u64::from(config.memory.max.0), "{name}: {needed}");
        // The environment goes over it, as over any other.
        let changed = load(&folder.join(format!("{name}.toml")), &[("COUPLET_HOSTS", "a.example")]).unwrap();
        assert_eq!(changed.server.hosts, ["a.example"], "{name}");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), known.len(), "each has its row here");
}

#[test]
fn pages_of_the_data_file_have_a_share_of_all_memory() {
    let bytes = |text: &str| {
        let config = load_text(text, &[]).unwrap();
        config.storage.cache_bytes(config.memory.max)
    };
    assert_eq!(bytes("[memory]\nmax = \"8 MB\""), 125_000);
    assert_eq!(bytes(""), 256_000);
    assert_eq!(bytes("[memory]\nmax = \"8 MB\"\n[storage]\ncache = \"1 MB\""), 1_000_000);
    let error = load_text("[storage]\ncache = \"63 kB\"", &[]).unwrap_err().join(" ");
    assert!(error.contains("\"63 kB\" is too small; write \"64 kB\" or more"), "{error}");
}

#[test]
fn modules_run_where_there_is_memory_for_them() {
    let text = "[memory]\nmodes = [\"muc=high\", \" carbons = normal\"]\n[modules]\ndisabled = [\"ping\"]";
    let off = |env: &[(&str, &str)]| {
        let config = load_text(text, env).unwrap();
        assert_eq!(config.modules.general.disabled, ["ping"], "what was written stays what it is");
        config.engine_settings().modules.general.disabled
    };
    assert_eq!(off(&[("COUPLET_MEMORY_MODE", "low")]), ["ping", "muc", "carbons"]);
    assert_eq!(off(&[("COUPLET_MEMORY_MODE", "normal")]), ["ping", "muc"]);
    assert_eq!(off(&[]), ["ping", "muc"], "normal is the default");
    assert_eq!(off(&[("COUPLET_MEMORY_MODE", "high")]), ["ping"]);
    for (text, expected) in [
        ("memory_mode = \"hihg\"", "did you mean \"high\"?"),
        ("[memory]\nmodes = [\"muc\"]", "\"muc\" has no mode; write for example \"muc=high\""),
        ("[memory]\nmodes = [\"mcu=high\"]", "there is no module \"mcu\"; did you mean \"muc\"?"),
        ("[memory]\nmodes = [\"muc=huge\"]", "\"low\", \"normal\", \"high\""),
    ] {
        let errors = load_text(text, &[]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:?}");
    }
}

#[cfg(feature = "compression")]
#[test]
fn whoever_compresses_is_warned() {
    let warnings = |text: &str| load_text(text, &[]).unwrap().warnings;
    assert!(warnings("[compression]\nenabled = false").is_empty());
    let said = warnings("[compression]\nenabled = true");
    assert!(said.len() == 1 && said[0].contains("CRIME"), "{said:?}");
}

#[cfg(feature = "statistics")]
#[test]
fn statistics_are_bounded_and_go_to_places() {
    let text = "[statistics]\ninterval = \"10 s\"\nretention = \"1 h\"\ngraphite = \"stats.example:2003\"";
    let settings = load_text(text, &[("COUPLET_STATISTICS__STATSD", "[::1]:8125")]).unwrap().statistics;
    assert_eq!((settings.rows(), settings.prefix.as_str()), (360, "couplet"));
    assert_eq!(settings.places(), [Some(("stats.example".to_owned(), 2003)), Some(("::1".to_owned(), 8125))]);
    let settings = load_text("[statistics]\ninterval = \"0 s\"", &[]).unwrap().statistics;
    assert_eq!((settings.rows(), settings.places()), (0, [None, None]));
    for (text, expected) in [
        ("graphite = \"stats.example\"", "statistics.graphite: \"stats.example\" is no place; write for example"),
        ("prefix = \"a b\"", "statistics.prefix: \"a b\" is no name; write letters, digits, _ and -"),
        ("interval = \"1 s\"", "statistics.interval: at most 10080 are kept; write \"9 s\" or more, or less"),
        ("interval = \"0 s\"\nstatsd = \"a:1\"", "statistics.interval: nobody gets figures that are never taken"),
    ] {
        let errors = load_text(&format!("[statistics]\n{text}"), &[]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
    }
}

#[cfg(feature = "acme")]
#[test]
fn certificates_by_themselves_are_for_names_below_hosts() {
    const HOSTS: &str = r#"hosts = ["a.example", "b.a.example", "Bücher.example", "192.0.2.1", "localhost"]"#;
    let names = "names = [\"conference.a.example\", \"x.b.a.example\", \"*.a.example\", \"chat.bücher.example\"]";
    let dns = "challenge = \"dns-01\"\nhook = \"bin/hook\"";
    let config = load_text(&format!("{HOSTS}\n[acme]\nenabled = true\n{names}\n{dns}"), &[]).unwrap();
    let row = |host: &str, names: &[&str]| (host.to_string(), names.iter().map(|n| n.to_string()).collect::<Vec<_>>());
    let all = [
        row("a.example", &["a.example", "conference.a.example", "*.a.example"]),
        row("b.a.example", &["b.a.example", "x.b.a.example"]),
        row("bücher.example", &["xn--bcher-kva.example", "chat.xn--bcher-kva.example"]),
    ];
    assert_eq!(config.acme_names(), all, "neither addresses nor localhost");
    let file = config.file.as_ref().unwrap();
    assert_eq!(config.acme_hook().unwrap(), file.parent().unwrap().join("bin/hook"));
    assert!(config.acme_listen().is_empty(), "for http-01 alone");
    let one = load_text(&format!("{HOSTS}\n[acme]\nenabled = true\nhosts = [\"A.example\"]"), &[]).unwrap();
    assert_eq!(one.acme_names(), [row("a.example", &["a.example"])]);
    assert!(load_text(HOSTS, &[]).unwrap().acme_names().is_empty());
    let http = "[acme]\nenabled = true\nchallenge = \"http-01\"\n[http]\nlisten = ";
    let shown = |listen: &str| load_text(&format!("{http}{listen}"), &[]).unwrap().acme_listen().len();
    assert_eq!((shown("[]"), shown("[\"[::]:80\"]")), (1, 0), "where the whole HTTP server is, it shows proofs, too");
    for (text, expected) in [
        ("directory = \"http://a/\"", "acme.directory: \"http://a/\" is no address of an authority; write one that"),
        ("challenge = \"dns\"", "acme.challenge: \"dns\" is not one of \"tls-alpn-01\", \"http-01\", \"dns-01\""),
        ("challenge = \"dns-01\"", "acme.challenge: \"dns-01\" needs hook; name the program that writes records"),
        ("hosts = [\"c.example\"]", "acme.hosts: \"c.example\" is none of hosts; add it there, or take it out"),
        ("names = [\"ba.example\"]", "acme.names: \"ba.example\" ends with none of hosts; write for example"),
        ("names = [\"*.a.example\"]", "acme.names: \"*.a.example\" can be proved with challenge = \"dns-01\" alone"),
        ("contacts = [\"tel:1\"]", "acme.contacts: \"tel:1\" is not an address of e-mail; write for example"),
        ("eab_key_id = \"k\"", "acme.eab_key_id: eab_key_id and eab_hmac_key belong together; write both, or none"),
        ("hook_timeout = \"0 s\"", "acme.hook_timeout: 0 s is too short"),
        ("listen = []\nchallenge = \"http-01\"\n[http]\nlisten = []", "acme.listen: \"http-01\" needs a port; write"),
        (
            "[c2s]\ndirect_tls_listen = []\n[s2s]\ndirect_tls_listen = []\n[http]\ntls_listen = []",
            "acme.challenge: \"tls-alpn-01\" needs a port with direct TLS; write for example",
        ),
    ] {
        let errors = load_text(&format!("{HOSTS}\n[acme]\nenabled = true\n{text}"), &[]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
    }
    let secret = "[acme]\neab_key_id = \"k\"\neab_hmac_key = \"c2VjcmV0\"";
    assert!(!load_text(secret, &[]).unwrap().show().contains("c2VjcmV0"));
}

#[test]
#[cfg(feature = "rules")]
fn rows_of_one_kind_stand_under_double_brackets() {
    let text = "[[rules]]\nname = \"a\"\naction = \"drop\"\nfrom = [\"list:bad\"]\n\n[[rules]]\naction = \"log\"\n\
                rate = \"few\"\n[[lists]]\nname = \"bad\"\nentries = [\"x.example\"]\n[[rates]]\nname = \"few\"\n";
    let config = load_text(text, &[("COUPLET_RULES__2__TEXT", "hm"), ("COUPLET_RULES__3__ACTION", "pass")]).unwrap();
    let rules = &config.engine_settings().modules.rules;
    assert_eq!((rules.rules.len(), rules.lists.len(), rules.rates.len()), (3, 1, 1));
    assert_eq!((rules.rules[0].name.as_str(), rules.rules[1].text.as_str()), ("a", "hm"));
    let shown: Vec<String> =
        config.show().lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let at = shown.iter().position(|line| line == "[[rules]]").unwrap();
    assert!(shown[at + 1].starts_with("name = \"a\" # ") && shown[at + 1].ends_with(":2"), "{}", shown[at + 1]);
    assert_eq!(shown.iter().filter(|line| *line == "[[rules]]").count(), 3);
    assert!(shown.contains(&"text = \"hm\" # COUPLET_RULES__2__TEXT".to_string()));
}

#[test]
#[cfg(feature = "rules")]
fn wrong_rows_are_explained() {
    let rule = "[[rules]]\naction = \"drop\"\n";
    for (text, expected) in [
        ("[rules]\naction = \"drop\"", "F:1:2: there may be several of \"rules\"; write [[rules]] above each"),
        ("rules = 1", "F:1:1: there may be several of \"rules\"; write [[rules]] above each"),
        ("[[c2s]]\n", "F:1:3: \"c2s\" is there once; write [c2s]"),
        ("[[rule]]\n", "F:1:3: unknown section [rule]; `couplet config example` lists all sections"),
        (
            "[[rules]]\nname = \"x\"",
            "F:2:1: rules.1.action: a rule needs an action; write for example action = \"drop\"",
        ),
        (
            &format!("{rule}colour = 1"),
            "F:3:1: unknown key \"rules.1.colour\"; `couplet config example` lists all keys",
        ),
        (&format!("{rule}bodi = []"), "F:3:1: unknown key \"rules.1.bodi\"; did you mean \"body\"?"),
        (&format!("{rule}body = \"x\""), "F:3:8: rules.1.body: this is a text; write a list: [\"x\"]"),
        (
            &format!("{rule}{rule}from = [\"a b\"]"),
            "F:5:8: rules.2.from: \"a b\" is no address; write for example \"romeo@example.org\", \"example.org\", \
             \"*.example.org\" or \"*bot@example.org\"",
        ),
        (
            &format!("{rule}to = [\"list:bda\"]\n[[lists]]\nname = \"bad\""),
            "F:3:1: rules.1.to: there is no list \"bda\"; did you mean \"bad\"?",
        ),
        (
            &format!("{rule}body = [\"list:bad\"]\n[[lists]]\nname = \"bad\""),
            "F:3:1: rules.1.body: list \"bad\" holds no texts; write holds = \"texts\" there",
        ),
        (
            &format!("{rule}rate = \"calls\""),
            "F:3:1: rules.1.rate: there is no rate \"calls\"; write [[rates]] with name = \"calls\"",
        ),
        (
            &format!("{rule}kind = [\"iq\"]\ntypes = [\"chat\"]"),
            "F:4:1: rules.1.types: nothing of this kind has the type \"chat\"",
        ),
        (
            &format!("{rule}payload = [\"{{a}}\"]"),
            "F:3:11: rules.1.payload: \"{a}\" is no element; write for example \"{jabber:x:oob}x\" or \"jabber:x:oob\"",
        ),
    ] {
        assert_eq!(load_text(text, &[]).unwrap_err(), [expected], "{text}");
    }
    let config = load_text(&format!("{rule}{rule}"), &[]).unwrap();
    assert!(config.warnings[0].starts_with("rules.2: no stanza gets there, because rules.1 decides"), "a hint");
}

#[test]
#[cfg(feature = "rules")]
fn lists_may_lie_in_files() {
    let folder = Folder::new();
    let list = folder.file("bad.txt", "# spam\n\n  spam.example\n*.spam.example # no comment here\n");
    let toml = folder.file("couplet.toml", "[[lists]]\nname = \"bad\"\nfile = \"bad.txt\"\nentries = [\"a.b\"]");
    let place = format!("{}:4: ", list.display());
    let wrong = load(&toml, &[]).unwrap_err();
    assert!(wrong.len() == 1 && wrong[0].starts_with(&place), "{wrong:?}");
    folder.file("bad.txt", "spam.example\n*.spam.example\n");
    let config = load(&toml, &[]).unwrap();
    assert_eq!(config.engine_settings().modules.rules.lists[0].entries, ["a.b", "spam.example", "*.spam.example"]);
    assert_eq!(config.list_files(), std::slice::from_ref(&list));
    assert!(!config.show().contains("spam.example"), "what lies in files is not shown");
    let text = format!("{}\n[limits]\n rules_list_bytes_max = 20", std::fs::read_to_string(&toml).unwrap());
    let short = load(&folder.file("short.toml", &text), &[]).unwrap_err();
    assert!(short[0].ends_with("this file has more than 20 bytes"), "{short:?}");
    std::fs::remove_file(list).unwrap();
    assert!(load(&toml, &[]).unwrap_err()[0].starts_with("F:3:1: lists.1.file: "), "a file that is not there");
}
