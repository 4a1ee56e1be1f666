//! The page of an invitation, as a browser sees it, and the account that it makes.

use super::web::{answer, status};
use super::*;
use couplet::core::admin::NewInvite;

fn start(name: &str) -> Server {
    Server::start_with(name, Limits::default(), |options| {
        options.listen.extend([(ANY, Role::Web, Transport::StartTls), (ANY, Role::Web, Transport::DirectTls)]);
        options.settings.core.url = "https://{host}:5281/".to_owned();
    })
}

fn browser(server: &Server) -> TlsClient {
    under_tls_for(plain(server.addresses[3]), b"http/1.1")
}

/// The token of a new invitation.
fn invite(server: &Server, new: NewInvite) -> String {
    let reply = server.ask(Command::InviteCreate(NewInvite { uses: 1, expires_s: 3600, ..new }));
    assert_eq!(reply.code, 0, "{}", reply.text);
    let page = reply.text.lines().nth(1).unwrap();
    page.strip_prefix("https://localhost:5281/invite?").unwrap().to_owned()
}

fn get(client: &mut TlsClient, target: &str) -> (String, String) {
    client.say(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    answer(client)
}

fn post(client: &mut TlsClient, fields: &str, form: &str) -> (String, String) {
    let length = form.len();
    client.say(&format!(
        "POST /invite HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
    ));
    answer(client)
}

#[test]
fn an_account_is_made_by_a_page_with_an_invitation_alone() {
    let server = start("page");
    let token = invite(&server, NewInvite::default());
    let mut client = browser(&server);
    let (head, content) = get(&mut client, "/invite?nothing");
    assert!(status(&head) == 410 && content.contains("too old"), "{head}{content}");
    let (head, content) = get(&mut client, "/invite");
    assert!(status(&head) == 403 && content.contains("by invitation"), "{head}{content}");
    let (head, content) = get(&mut client, &format!("/invite?{token}"));
    assert!(status(&head) == 200 && head.contains("Cache-Control: no-store\r\n"), "{head}");
    assert!(head.contains("form-action 'self'") && head.contains("Referrer-Policy: no-referrer"), "{head}");
    assert!(content.contains(&format!("xmpp:localhost?register;preauth={token}")), "{content}");
    assert!(content.contains("<svg") && content.contains("name=\"user\""), "{content}");
    let form = |user: &str, again: &str| format!("token={token}&user={user}&password=secret&again={again}");
    let (head, content) = post(&mut client, "", &form("romeo", "other"));
    assert!(status(&head) == 400 && content.contains("not the same") && content.contains(&token), "{content}");
    let (head, content) = post(&mut client, "", &form("admin", "secret"));
    assert!(status(&head) == 400 && content.contains("reserved") && content.contains(&token), "{content}");
    let (head, _) = post(&mut client, "Origin: https://evil.example\r\n", &form("romeo", "secret"));
    assert_eq!(status(&head), 403);
    // The form was not read, and nothing behind it is.
    let mut client = browser(&server);
    let (head, content) = post(&mut client, "Origin: https://localhost:5281\r\n", &form("romeo", "secret"));
    assert!(status(&head) == 200 && content.contains("<strong>romeo@localhost</strong>"), "{content}");
    log_in(&server, "romeo").say("</stream:stream>");
    let (head, content) = post(&mut client, "", &form("juliet", "secret"));
    assert!(status(&head) == 410 && content.contains("used up"), "{content}");
    server.stop();
}

#[test]
fn a_page_gives_an_account_another_password() {
    let server = start("page-reset");
    let jid = "romeo@localhost".to_owned();
    server.ask(Command::UserAdd { jid: jid.clone(), password: "forgotten".to_owned().into() });
    let reply = server.ask(Command::UserReset { jid, expires_s: 3600 });
    let token = reply.text.lines().nth(1).unwrap().rsplit('?').next().unwrap().to_owned();
    let mut client = browser(&server);
    let (head, content) = get(&mut client, &format!("/invite?{token}"));
    assert!(status(&head) == 200 && content.contains("Choose a password for romeo@localhost"), "{content}");
    assert!(!content.contains("name=\"user\""), "{content}");
    // A name that is sent along is nobody's.
    let (head, content) = post(&mut client, "", &format!("token={token}&user=juliet&password=secret&again=secret"));
    assert!(status(&head) == 200 && content.contains("romeo@localhost"), "{content}");
    log_in(&server, "romeo").say("</stream:stream>");
    server.stop();
}

#[test]
fn what_is_no_visit_is_refused() {
    let server = start("page-refused");
    // In the open.
    let mut client = plain(server.addresses[2]);
    client.say("GET /invite HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let all = client.hear_all();
    assert!(status(&all) == 403 && all.contains("https"), "{all}");
    for (request, code) in [
        ("PUT /invite HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
        ("POST /invite HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4097\r\n\r\n", 413),
        ("POST /invite HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 415),
    ] {
        let mut client = browser(&server);
        client.say(request);
        let (head, content) = answer(&mut client);
        assert_eq!(status(&head), code, "{request}: {content}");
    }
    // Who goes away in the middle takes nothing along.
    let token = invite(&server, NewInvite::default());
    let mut client = browser(&server);
    client.say(&format!("GET /invite?{token} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    drop(client);
    let mut client = browser(&server);
    assert_eq!(status(&get(&mut client, &format!("/invite?{token}")).0), 200);
    // The operator takes it back by its link.
    let link = format!("https://localhost:5281/invite?{token}");
    assert_eq!(server.ask(Command::InviteRevoke { token: link }).code, 0);
    assert_eq!(status(&get(&mut client, &format!("/invite?{token}")).0), 410);
    server.stop();
}
