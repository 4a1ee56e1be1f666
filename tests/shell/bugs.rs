//! Bugs of ours, planted one after another: each ends the connection that it meets, and who is beside it stays served.

use super::*;
use couplet::fault::{Fault, arm};

/// A server that arms a fault, in its own thread, when it is told to reload.
struct Buggy {
    server: Server,
    next: Arc<Mutex<Option<Fault>>>,
    witness: TlsClient,
}

impl Buggy {
    fn start(name: &str) -> Self {
        let next = Arc::new(Mutex::new(None));
        let armed = next.clone();
        let limits = Limits { auth_timeout_s: 2, ..Limits::default() };
        let server = Server::start_with(name, limits, move |options| {
            options.reload = Box::new(move || {
                arm(armed.lock().unwrap().take());
                Err("armed".to_owned())
            });
        });
        server.add_user("romeo");
        server.add_user("juliet");
        let witness = log_in(&server, "juliet");
        Self { server, next, witness }
    }

    fn plant(&self, fault: Fault) {
        *self.next.lock().unwrap() = Some(fault);
        assert!(self.server.ask(Command::Reload).text.contains("armed"));
    }

    /// The witness is served, and so many bugs are known.
    fn is_well(&mut self, bugs: u32) {
        self.witness.say("<iq type='get' id='w'><ping xmlns='urn:xmpp:ping'/></iq>");
        assert!(self.witness.hear("id='w'").contains("<iq"), "the witness is not served");
        self.witness.hear("/>");
        let status = self.server.ask(Command::Status).text;
        assert!(status.contains(&format!("\npanics: {bugs} ")), "{status}");
    }
}

/// The end of a connection, however it comes.
fn is_cut<S: Read + Write>(mut client: Client<S>) -> bool {
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    !String::from_utf8_lossy(&rest).contains("id='v'")
}

const PING: &str = "<iq type='get' id='v'><ping xmlns='urn:xmpp:ping'/></iq>";

#[test]
fn a_bug_ends_the_connection_that_it_meets_and_no_other() {
    let mut buggy = Buggy::start("bugs");
    let mut bugs = 0;
    for fault in [Fault::PanicBytes, Fault::PanicFlush, Fault::PanicRead] {
        let mut victim = log_in(&buggy.server, "romeo");
        buggy.plant(fault);
        victim.say(PING);
        assert!(is_cut(victim), "{fault:?}");
        bugs += 1;
        buggy.is_well(bugs);
    }
    // In the handshake, and at the deadline of a login.
    for fault in [Fault::PanicTls, Fault::PanicTimer] {
        buggy.plant(fault);
        let mut victim = under_tls(plain(buggy.server.direct));
        let _ = victim.stream.write_all(OPEN.as_bytes());
        assert!(is_cut(victim), "{fault:?}");
        bugs += 1;
        buggy.is_well(bugs);
    }
    // A new connection is as good as ever.
    drop(log_in(&buggy.server, "romeo"));
    buggy.server.stop();
}

#[test]
fn a_bug_in_a_command_or_a_look_up_is_an_error() {
    let mut buggy = Buggy::start("bugs-beside");
    buggy.plant(Fault::PanicCommand);
    let reply = buggy.server.ask(Command::Status);
    assert_eq!((reply.code, reply.text.as_str()), (1, "failed by a bug of ours; the log has it"));
    buggy.is_well(1);
    buggy.plant(Fault::PanicDial);
    buggy.witness.say("<message to='somebody@elsewhere.invalid' id='d'><body>x</body></message>");
    assert!(buggy.witness.hear("</message>").contains("type='error'"));
    buggy.is_well(1);
    buggy.server.stop();
}

#[test]
fn a_bug_in_the_word_of_the_store_ends_the_process() {
    let buggy = Buggy::start("bugs-store");
    buggy.plant(Fault::PanicCommit);
    let (reply, _answer) = smol::channel::bounded(1);
    let command = Command::UserAdd { jid: "nurse@localhost".to_owned(), password: "secret".to_owned().into() };
    buggy.server.handle.report(Report::Admin(command, reply));
    let Server { thread, folder, .. } = buggy.server;
    let error = thread.join().unwrap().unwrap_err();
    assert!(error.contains("too many bugs in a minute"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}
