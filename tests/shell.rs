//! The shell over real sockets: TLS in both ways, threads, slow readers, shutdown, and what refuses a start.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use couplet::core::admin::{Command, Reply};
use couplet::core::io::{Role, Transport};
use couplet::core::rates::{Rate, Rates};
use couplet::engine::Settings;
use couplet::limits::Limits;
use couplet::net::listen::Keepalive;
use couplet::net::shell::{Federation, Report, Tuning};
use couplet::net::{Handle, ServeOptions, serve};
use couplet::storage::memory::Memory;
use couplet::storage::redb::{self, RedbOptions};
use couplet::storage::{Mode, Plan, StoreError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

#[cfg(feature = "planted-faults")]
#[path = "shell/bugs.rs"]
mod bugs;
#[cfg(feature = "compression")]
#[path = "shell/compression.rs"]
mod compression;
#[cfg(all(feature = "http", feature = "register"))]
#[path = "shell/invitations.rs"]
mod invitations;
#[path = "shell/secrets.rs"]
mod secrets;
mod trust;
#[cfg(feature = "http")]
#[path = "shell/web.rs"]
mod web;

const OPEN: &str = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                    xmlns:stream='http://etherx.jabber.org/streams'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

struct Server {
    starttls: SocketAddr,
    direct: SocketAddr,
    /// All, in the order of the options.
    #[cfg_attr(not(feature = "http"), expect(dead_code))]
    addresses: Vec<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Result<(), String>>,
    /// Hosts that the next reload finds in the configuration, or the error in it.
    next: Arc<Mutex<Result<Vec<String>, String>>>,
    folder: PathBuf,
}

fn options(folder: &std::path::Path, listen: [SocketAddr; 2], limits: &Limits) -> ServeOptions {
    // What is sent here comes at once.
    let rates = Rates { c2s: Rate::UNLIMITED, ..Rates::default() };
    let tuning = |hosts: &[String], limits: &Limits| Tuning {
        rates: rates.clone(),
        limits: limits.clone(),
        nodelay: true,
        keepalive: Keepalive::default(),
        hosts: hosts.to_vec(),
        federation: Federation::default(),
        #[cfg(feature = "http")]
        site: web::options(),
        log: None,
        #[cfg(feature = "acme")]
        acme: None,
        #[cfg(feature = "statistics")]
        statistics: Default::default(),
    };
    let mut settings = Settings::default();
    settings.core.limits = limits.clone();
    settings.core.rates = rates.clone();
    ServeOptions {
        listen: vec![(listen[0], Role::Client, Transport::StartTls), (listen[1], Role::Client, Transport::DirectTls)],
        passed: Vec::new(),
        certificates: folder.join("certificates"),
        store: {
            let file = folder.join("couplet.db");
            Box::new(move || redb::open(&file, RedbOptions::default()))
        },
        plan: Plan::default(),
        store_status: Box::new(|| "storage: a test's".to_string()),
        admin_socket: Some(folder.join("admin")),
        tuning: tuning(&settings.core.hosts, limits),
        settings,
        reload: Box::new(|| Err("no reload in this test".into())),
        process: None,
        on_ready: None,
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("couplet-shell-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Server {
    fn start(name: &str, limits: Limits) -> Self {
        Self::start_with(name, limits, |_| {})
    }

    fn start_with(name: &str, limits: Limits, change: impl FnOnce(&mut ServeOptions) + Send + 'static) -> Self {
        let folder = folder(name);
        let (ready, wait) = mpsc::channel();
        let next = Arc::new(Mutex::new(Ok(vec!["localhost".to_owned()])));
        let (in_thread, hosts) = (folder.clone(), next.clone());
        let thread = std::thread::spawn(move || {
            let mut options = options(&in_thread, [ANY, ANY], &limits);
            let tuning = options.tuning.clone();
            options.reload = Box::new(move || {
                let hosts = hosts.lock().unwrap().clone()?;
                let mut settings = Settings::default();
                settings.core.hosts.clone_from(&hosts);
                Ok((Box::new(settings), Tuning { hosts, ..tuning.clone() }))
            });
            options.on_ready = Some(Box::new(move |serving| {
                let addresses = serving.addresses.iter().map(|(address, ..)| *address).collect::<Vec<_>>();
                ready.send((addresses, serving.handle.clone())).unwrap();
            }));
            change(&mut options);
            serve(Box::new(options)).map_err(|error| error.to_string())
        });
        match wait.recv() {
            Ok((addresses, handle)) => {
                Self { starttls: addresses[0], direct: addresses[1], addresses, handle, thread, next, folder }
            }
            Err(_) => panic!("the server does not start: {:?}", thread.join()),
        }
    }

    fn ask(&self, command: Command) -> Reply {
        let (reply, answer) = smol::channel::bounded(1);
        self.handle.report(Report::Admin(command, reply));
        answer.recv_blocking().unwrap()
    }

    fn add_user(&self, user: &str) {
        let reply =
            self.ask(Command::UserAdd { jid: format!("{user}@localhost"), password: "secret".to_owned().into() });
        assert_eq!(reply.code, 0, "{}", reply.text);
    }

    fn stop(self) {
        self.handle.shutdown();
        self.wait();
    }

    fn wait(self) {
        assert_eq!(self.thread.join().unwrap(), Ok(()));
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// A client's end, plain or under TLS.
struct Client<S> {
    stream: S,
    got: String,
}

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

impl<S: Read + Write> Client<S> {
    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Everything up to and including `end`, which the peer must send.
    fn hear(&mut self, end: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.got.find(end) {
                let rest = self.got.split_off(at + end.len());
                return std::mem::replace(&mut self.got, rest);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the end came instead of {end}; before it: {}", self.got),
                Ok(read) => self.got.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
                Err(error) => panic!("{error} came instead of {end}; before it: {}", self.got),
            }
        }
    }

    /// What comes until the peer closes in good order.
    fn hear_all(&mut self) -> String {
        self.stream.read_to_string(&mut self.got).unwrap();
        std::mem::take(&mut self.got)
    }

    fn open(&mut self) -> String {
        self.say(OPEN);
        self.hear("</stream:features>")
    }
}

fn plain(address: SocketAddr) -> Client<TcpStream> {
    Client { stream: TcpStream::connect(address).unwrap(), got: String::new() }
}

fn under_tls(client: Client<TcpStream>) -> TlsClient {
    under_tls_for(client, b"xmpp-client")
}

/// To speak that protocol (RFC 7301).
fn under_tls_for(client: Client<TcpStream>, alpn: &[u8]) -> TlsClient {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust::Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    Client { stream: StreamOwned::new(tls, client.stream), got: client.got }
}

fn log_in(server: &Server, user: &str) -> TlsClient {
    let mut client = under_tls(plain(server.direct));
    client.open();
    let response = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("\0{user}\0secret"));
    client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"));
    client.hear("<success");
    client.hear(">");
    client.open();
    client
        .say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>");
    client.hear("</iq>");
    client.say("<presence/>");
    client.hear("<presence");
    client.hear("/>");
    client
}

#[test]
fn starttls_leads_to_the_features_of_an_encrypted_stream() {
    let server = Server::start("starttls", Limits::default());
    let mut client = plain(server.starttls);
    let features = client.open();
    assert!(features.contains("<starttls") && features.contains("<required/>"), "{features}");
    assert!(!features.contains("PLAIN"), "{features}");
    client.say(STARTTLS);
    client.hear("<proceed");
    client.hear(">");
    let mut client = under_tls(client);
    let features = client.open();
    assert!(!features.contains("<starttls"), "{features}");
    assert!(features.contains(">SCRAM-SHA-256-PLUS<"), "the engine has the facts of TLS: {features}");
    server.stop();
}

#[test]
fn direct_tls_logs_in_through_the_hashing_and_the_storage_thread() {
    let server = Server::start("direct", Limits::default());
    server.add_user("romeo");
    let mut client = log_in(&server, "romeo");
    client.say("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    assert!(client.hear("id='r'").contains("result") || client.hear(">").contains("result"));
    client.say("</stream:stream>");
    assert!(client.hear_all().ends_with("</stream:stream>"), "close_notify follows the end of the stream");
    server.stop();
}

#[test]
fn tls_that_is_none_gets_an_alert_and_silence_gets_the_end() {
    let server = Server::start("alert", Limits { tls_timeout_s: 1, ..Limits::default() });
    let mut silent = plain(server.direct);
    let mut noise = plain(server.direct);
    noise.say("GET / HTTP/1.1\r\n\r\n");
    let mut alert = Vec::new();
    noise.stream.read_to_end(&mut alert).unwrap();
    assert_eq!(alert.first(), Some(&21), "a record of the type alert: {alert:?}");
    assert_eq!(silent.hear_all(), "");
    server.stop();
}

#[test]
fn a_half_closed_connection_is_closed() {
    let server = Server::start("half", Limits::default());
    let mut client = plain(server.starttls);
    client.open();
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.hear_all();
    server.stop();
}

#[test]
fn many_come_and_go() {
    let server = Server::start("many", Limits { connections_max: 200, ..Limits::default() });
    for round in 0..3 {
        let mut clients = (0..200).map(|_| plain(server.starttls)).collect::<Vec<_>>();
        for client in &mut clients {
            client.open();
        }
        if round == 0 {
            let mut refused = Vec::new();
            let mut late = TcpStream::connect(server.starttls).unwrap();
            // Closed or reset, but not served.
            let _ = late.read_to_end(&mut refused);
            assert_eq!(refused, b"");
        }
        for client in &mut clients {
            client.say("</stream:stream>");
        }
        for client in &mut clients {
            assert_eq!(client.hear_all(), "</stream:stream>");
        }
    }
    server.stop();
}

#[test]
fn a_reader_that_pauses_gets_everything_in_order() {
    let limits = Limits { out_bytes_max: 16 << 20, account_bytes_max: 16 << 20, ..Limits::default() };
    // At the rate of a client this would take a quarter of an hour.
    let server = Server::start_with("slow", limits, |options| {
        options.tuning.rates.c2s = Rate::UNLIMITED;
        options.settings.core.rates.c2s = Rate::UNLIMITED;
    });
    server.add_user("romeo");
    server.add_user("juliet");
    let mut juliet = log_in(&server, "juliet");
    let mut romeo = log_in(&server, "romeo");
    // More than the kernel's buffers for one connection hold, so that the rest waits in the server.
    let body = "x".repeat(64_000);
    for number in 0..160 {
        romeo.say(&format!("<message to='juliet@localhost' type='chat' id='m{number}'><body>{body}</body></message>"));
    }
    romeo.say("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    romeo.hear("id='p'");
    for number in 0..160 {
        let message = juliet.hear("</message>");
        assert!(message.contains(&format!("'m{number}'")) && message.contains(&body), "message {number}");
    }
    server.stop();
}

#[test]
fn a_shutdown_ends_all_streams() {
    let server = Server::start("shutdown", Limits::default());
    let mut first = plain(server.starttls);
    first.open();
    let mut second = under_tls(plain(server.direct));
    second.open();
    server.handle.shutdown();
    for last in [first.hear_all(), second.hear_all()] {
        assert!(last.contains("<system-shutdown") && last.ends_with("</stream:stream>"), "{last}");
    }
    drop((first, second));
    let address = server.starttls;
    server.wait();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_failed_sync_ends_the_server_at_once() {
    let disk = Memory::new();
    let of_server = disk.clone();
    let server = Server::start_with("sync", Limits::default(), move |options| {
        options.store = Box::new(move || Ok(of_server.open()));
    });
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    disk.fail_commit(1, StoreError::FsyncFailed("the data file".to_owned()));
    romeo.say("<iq type='set' id='p'><query xmlns='jabber:iq:private'><a xmlns='b'/></query></iq>");
    let mut rest = String::new();
    romeo.stream.sock.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    // However the connection ends, no answer comes first.
    let _ = romeo.stream.read_to_string(&mut rest);
    assert!(!rest.contains("id='p'"), "{rest}");
    let told = "the disk did not confirm what was written to the data file: look at the disk (dmesg), then start \
                couplet again; what was acknowledged before is kept";
    assert_eq!(server.thread.join().unwrap(), Err(told.to_owned()));
    std::fs::remove_dir_all(&server.folder).unwrap();
}

#[test]
fn what_cannot_be_written_at_the_end_is_told() {
    let disk = Memory::new();
    let of_server = disk.clone();
    let server = Server::start_with("last-words", Limits::default(), move |options| {
        options.store = Box::new(move || Ok(of_server.open()));
        options.plan.mode = Mode::Volatile { snapshot_every_ms: 3_600_000 };
    });
    server.add_user("romeo");
    disk.fail_flush(StoreError::Io("the snapshot cannot be written".to_owned()));
    server.handle.shutdown();
    let told = server.thread.join().unwrap().unwrap_err();
    assert!(told.starts_with("the snapshot cannot be written: "), "{told}");
    std::fs::remove_dir_all(&server.folder).unwrap();
}

#[test]
fn a_reload_is_all_or_nothing() {
    let server = Server::start("reload", Limits::default());
    *server.next.lock().unwrap() = Err("couplet.toml:3: no such key".into());
    let reply = server.ask(Command::Reload);
    assert_eq!(reply.code, 1);
    assert!(reply.text.starts_with("couplet.toml:3: no such key") && reply.text.contains("stays"), "{}", reply.text);
    *server.next.lock().unwrap() = Ok(vec!["localhost".into(), "example.org".into()]);
    assert_eq!(server.ask(Command::Reload).code, 0);
    assert!(server.folder.join("certificates/example.org.crt").exists());
    let mut client = plain(server.starttls);
    client.say(&OPEN.replace("localhost", "example.org"));
    client.hear("</stream:features>");
    server.stop();
}

#[test]
fn a_start_that_fails_says_why_and_harms_nothing() {
    let server = Server::start("taken", Limits::default());
    let elsewhere = folder("elsewhere");
    let error = |folder: &std::path::Path, listen| {
        serve(Box::new(options(folder, listen, &Limits::default()))).map_err(|error| error.to_string()).unwrap_err()
    };
    let taken = error(&elsewhere, [server.starttls, ANY]);
    assert!(taken.contains(&format!("listens on {}: stop it", server.starttls)), "{taken}");
    assert!(!elsewhere.join("couplet.db").exists(), "nothing was made before the ports were free");
    let same = error(&server.folder, [ANY, ANY]);
    assert!(same.contains("another server uses this data folder"), "{same}");
    std::fs::remove_dir_all(elsewhere).unwrap();
    plain(server.starttls).open();
    server.stop();
}

/// The worker is the thread that calls `serve`; beside it there are the two of ours and async-io's helper.
#[test]
fn the_threads_are_those_that_the_readme_names() -> io::Result<()> {
    let server = Server::start("threads", Limits::default());
    // A thread gives itself its name once it runs, which may be a moment after it was started.
    let mut names = Vec::new();
    for _ in 0..1000 {
        names.clear();
        for task in std::fs::read_dir("/proc/self/task")? {
            names.push(std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default().trim().to_owned());
        }
        if ["couplet-store", "couplet-hash", "async-io"].iter().all(|name| names.iter().any(|known| known == name)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let of = |name: &str| names.iter().filter(|known| *known == name).count();
    assert!(of("couplet-store") >= 1 && of("couplet-hash") >= 1, "{names:?}");
    assert_eq!(of("async-io"), 1, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("smol") || name.starts_with("blocking")), "{names:?}");
    server.stop();
    Ok(())
}
