//! What nobody may learn: nothing secret is in the log, however much is logged; and who has no account looks like who
//! types a wrong password.

use super::*;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use couplet::core::admin::NewInvite;
use couplet::net::admin::call;

/// Everything that any server of these tests has logged.
static LINES: Mutex<String> = Mutex::new(String::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
        LINES.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}

const SASL2: &str = "urn:xmpp:sasl:2";

/// A login by SASL2 that asks for a token. Returns what the server says.
fn sasl2(server: &Server, message: &str) -> String {
    let mut client = under_tls(plain(server.direct));
    client.open();
    client.say(&format!(
        "<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>{message}</initial-response>\
         <user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>\
         <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/></authenticate>"
    ));
    client.hear("</stream:features>")
}

#[test]
fn nothing_secret_is_logged() {
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let server = Server::start_with("secrets", Limits::default(), |options| {
        options.settings.modules.register.change_password = true;
    });
    let (right, wrong, next) = ("Zaubertrank-7", "Falschtrank-8", "Neutrank-9");
    let plain_of = |password: &str| BASE64_STANDARD.encode(format!("\0romeo\0{password}"));
    let ask = |command| call(&server.folder.join("admin"), &command).unwrap();
    let add = Command::UserAdd { jid: "romeo@localhost".to_owned(), password: right.to_owned().into() };
    assert_eq!(ask(add).code, 0);
    let invited = ask(Command::InviteCreate(NewInvite { uses: 1, expires_s: 600, ..NewInvite::default() }));
    let invite =
        invited.text.split("preauth=").nth(1).unwrap_or_default().split([';', '\n']).next().unwrap().to_owned();
    assert!(invite.len() > 8, "{}", invited.text);
    let reset = ask(Command::UserReset { jid: "romeo@localhost".to_owned(), expires_s: 600 });
    let reset = reset.text.split("preauth=").nth(1).unwrap_or_default().split([';', '\n']).next().unwrap().to_owned();
    assert_eq!(ask(Command::InviteRevoke { token: reset.clone() }).code, 0);

    let said = sasl2(&server, &plain_of(right));
    let token = said.split("token='").nth(1).unwrap_or_default().split('\'').next().unwrap().to_owned();
    assert!(said.contains("<success") && token.len() > 30, "{said}");
    let mut client = under_tls(plain(server.direct));
    client.open();
    for password in [wrong, right] {
        let message = plain_of(password);
        client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>"));
        client.hear("xmpp-sasl'");
        client.hear(">");
    }
    client.got.clear();
    client.open();
    client.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    client.hear("</iq>");
    client.say(&format!(
        "<iq type='set' id='p'><query xmlns='jabber:iq:register'><username>romeo</username><password>{next}</password>\
         </query></iq>"
    ));
    client.hear("id='p'");
    client.say("not XML: <a password='Neutrank-9'");
    client.say("<<");
    client.hear("</stream:stream>");
    assert!(sasl2(&server, &plain_of(next)).contains("<success"));
    server.stop();

    let lines = LINES.lock().unwrap();
    assert!(lines.contains("logged in") && lines.contains("another password") && lines.contains("DEBUG"), "{lines}");
    let mut secrets = vec![token, invite, reset];
    for password in [right, wrong, next] {
        secrets.extend([password.to_owned(), plain_of(password), BASE64_STANDARD.encode(password)]);
    }
    for secret in secrets {
        assert!(!secret.is_empty() && !lines.contains(&secret), "{secret} is in the log");
    }
}

#[test]
fn who_has_no_account_looks_like_who_types_a_wrong_password() {
    let server = Server::start_with("unknown", Limits::default(), |options| options.settings.core.iterations = 5000);
    server.add_user("romeo");
    // New accounts get another number now, and romeo keeps his.
    assert_eq!(server.ask(Command::Reload).code, 0);
    // The text of a SCRAM challenge without what is random, and the failure.
    let scram = |user: &str, hash: &str| {
        let mut client = under_tls(plain(server.direct));
        client.open();
        let first = BASE64_STANDARD.encode(format!("n,,n={user},r=clientnonce"));
        client.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{hash}'>{first}</auth>"));
        client.hear("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>");
        let challenge = client.hear("<").trim_end_matches('<').to_owned();
        let challenge = String::from_utf8(BASE64_STANDARD.decode(challenge).unwrap()).unwrap();
        client.hear("/challenge>");
        let part = |name: &str| challenge.split(',').find_map(|p| p.strip_prefix(name)).unwrap_or_default().to_owned();
        let proof = BASE64_STANDARD.encode(vec![7; if hash.ends_with("256") { 32 } else { 20 }]);
        let last = BASE64_STANDARD.encode(format!("c=biws,r={},p={proof}", part("r=")));
        client.say(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>"));
        let failure = client.hear("</failure>");
        (part("s="), part("i="), challenge.split(',').count(), part("r=").len(), failure)
    };
    for hash in ["SCRAM-SHA-1", "SCRAM-SHA-256"] {
        let (known, unknown) = (scram("romeo", hash), scram("nobody", hash));
        assert_eq!(known.0.len(), unknown.0.len(), "the salt");
        assert_ne!(known.0, unknown.0);
        assert_eq!(known.1, "5000");
        assert_eq!((known.1, known.2, known.3, known.4), (unknown.1, unknown.2, unknown.3, unknown.4.clone()));
        let again = scram("nobody", hash);
        assert_eq!((again.0, again.4), (unknown.0, unknown.4), "it stays the same");
        assert_ne!(scram("nobodyelse", hash).0, scram("nobody", hash).0);
    }
    server.stop();
}
