//! Files of users.

use super::*;

fn start_with_files(name: &str, total_max: u64, expires_s: u32) -> Server {
    start_with(name, Limits::default(), move |options| {
        let folder = options.certificates.parent().unwrap().join("uploads");
        options.tuning.site.files = Some(couplet::http::upload::FilesOptions { folder, expires_s, total_max });
    })
}

/// Path and token of a slot.
fn slot(client: &mut TlsClient, name: &str, size: usize) -> (String, String) {
    client.say(&format!(
        "<iq type='get' id='u' to='localhost'><request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{size}' \
         content-type='image/png'/></iq>"
    ));
    let answer = client.hear("</iq>");
    let between = |from: &str, to: &str| answer.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned();
    assert_eq!(between("<put url='", "'"), between("<get url='", "'"));
    (between("<put url='https://localhost:5281", "'"), between("Bearer ", "<"))
}

fn put(client: &mut Client<TcpStream>, path: &str, token: &str, content: &[u8]) -> (String, String) {
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\
         Content-Type: image/png\r\nOrigin: https://x.example\r\n\r\n",
        content.len()
    ));
    // A server that refuses may close before it has read all.
    let _ = client.stream.write_all(content);
    answer(client)
}

#[test]
fn a_file_is_brought_and_fetched() {
    let server = start_with_files("upload", 0, 3600);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251 % 64) as u8 + 32).collect();
    let (path, token) = slot(&mut romeo, "tr\u{e8}s cool.png", content.len());
    assert!(path.ends_with("/tr%C3%A8s%20cool.png"), "{path}");
    let mut client = web(&server);
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(status(&answer(&mut client).0), 404);
    let (head, _) = put(&mut client, &path, &token, &content);
    assert_eq!(status(&head), 201, "{head}");
    assert!(head.contains("Access-Control-Allow-Origin: *"), "{head}");
    // On the same connection, whole.
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let (head, text) = answer(&mut client);
    assert!(text.as_bytes() == content, "{} bytes", text.len());
    for field in [
        "Content-Type: image/png\r\n",
        "Content-Disposition: inline; filename*=UTF-8''tr%C3%A8s%20cool.png\r\n",
        "X-Content-Type-Options: nosniff\r\n",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n",
        "Accept-Ranges: bytes\r\n",
    ] {
        assert!(head.contains(field), "{field}{head}");
    }
    client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nRange: bytes=100000-199999\r\n\r\n"));
    let (head, text) = answer(&mut client);
    assert_eq!((status(&head), text.as_bytes() == &content[100_000..200_000]), (206, true));
    client.say(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(client.hear("\r\n\r\n").contains("Content-Length: 300000\r\n"));
    // Not twice, not another, not without a slot.
    assert_eq!(status(&put(&mut web(&server), &path, &token, &content).0), 409);
    assert_eq!(status(&put(&mut web(&server), &path, &token, &content[1..]).0), 400);
    assert_eq!(status(&put(&mut web(&server), &path, &format!("{token}x"), &content).0), 403);
    assert_eq!(status(&put(&mut web(&server), &path.replace(".png", ".exe"), &token, &content).0), 403);
    client.say(&format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path.replace(".png", ".exe")));
    assert_eq!(status(&answer(&mut client).0), 404);
    client.say(&format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: https://x.example\r\n\r\n"));
    let (head, _) = answer(&mut client);
    assert!(head.contains("Access-Control-Allow-Methods: GET, HEAD, PUT, OPTIONS\r\n"), "{head}");
    // In chunks with a word before: there is no length to hold it against.
    let (path, token) = slot(&mut romeo, "b.png", 5);
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert_eq!(status(&answer(&mut client).0), 411);
    let mut client = web(&server);
    client.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.hear("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("12345");
    assert_eq!(status(&answer(&mut client).0), 201);
    // One that is cut off leaves nothing, and its slot can still be used.
    let (path, token) = slot(&mut romeo, "c.png", 100_000);
    let mut cut = web(&server);
    cut.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\n1234"
    ));
    drop(cut);
    let whole = loop {
        let (head, _) = put(&mut web(&server), &path, &token, &content[..100_000]);
        if status(&head) != 409 {
            break status(&head);
        }
    };
    assert_eq!(whole, 201);
    let folder = server.folder.join("uploads");
    assert!(
        std::fs::read_dir(folder).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains('.'))
    );
    server.stop();
}

#[test]
fn so_many_files_are_under_way() {
    let limits = Limits { http_files_max: 1, ..Limits::default() };
    let server = start_with("upload-many", limits, move |options| {
        let folder = options.certificates.parent().unwrap().join("uploads");
        let files = couplet::http::upload::FilesOptions { folder, expires_s: 3600, total_max: 0 };
        options.tuning.site.files = Some(files);
    });
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let (path, token) = slot(&mut romeo, "a.png", 5);
    let mut one = web(&server);
    one.say(&format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    one.hear("100 Continue\r\n\r\n");
    let mut two = web(&server);
    two.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(status(&answer(&mut two).0), 503);
    one.say("12345");
    assert_eq!(status(&answer(&mut one).0), 201);
    two.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(answer(&mut two).1, "12345");
    server.stop();
}

#[test]
fn files_have_their_room_and_their_time() {
    let server = start_with_files("upload-quota", 100_100, 3600);
    server.add_user("romeo");
    let mut romeo = log_in(&server, "romeo");
    let (path, token) = slot(&mut romeo, "a.png", 100_000);
    let (other, token_of_other) = slot(&mut romeo, "b.png", 1000);
    assert_eq!(status(&put(&mut web(&server), &path, &token, &[b'x'; 100_000]).0), 201);
    assert_eq!(status(&put(&mut web(&server), &other, &token_of_other, &[b'x'; 1000]).0), 507);
    // Nobody gets what is too old, whether it was deleted or not.
    let mut client = web(&server);
    let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.say(&get);
    assert_eq!(status(&answer(&mut client).0), 200);
    let file = server.folder.join("uploads").join(path.split('/').nth(2).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3700)).unwrap();
    client.say(&get);
    assert_eq!(status(&answer(&mut client).0), 404);
    server.stop();
}

/// Waits for a file to go.
fn goes(path: &std::path::Path) {
    let late = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while path.exists() {
        assert!(std::time::Instant::now() < late, "{} is still there", path.display());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn files_go_with_the_account_of_their_owner() {
    let server = start_with_files("upload-deleted", 0, 3600);
    for user in ["romeo", "juliet"] {
        server.add_user(user);
    }
    let (mut romeo, mut juliet) = (log_in(&server, "romeo"), log_in(&server, "juliet"));
    let (path, token) = slot(&mut romeo, "a.png", 5);
    let (unused, token_of_unused) = slot(&mut romeo, "b.png", 5);
    let (other, token_of_other) = slot(&mut juliet, "c.png", 5);
    assert_eq!(status(&put(&mut web(&server), &path, &token, b"12345").0), 201);
    assert_eq!(status(&put(&mut web(&server), &other, &token_of_other, b"12345").0), 201);
    let file = |path: &str| server.folder.join("uploads").join(path.split('/').nth(2).unwrap());
    assert!(file(&path).exists() && file(&other).exists());
    let kept = std::fs::read(file(&path)).unwrap();
    let delete = |user: &str| server.ask(Command::UserDel { jids: vec![format!("{user}@localhost")] }).code;
    assert_eq!(delete("romeo"), 0);
    goes(&file(&path));
    assert!(file(&other).exists());
    // What he was allowed to bring, he is not any more.
    assert_eq!(status(&put(&mut web(&server), &unused, &token_of_unused, b"12345").0), 403);
    // What a process has left that died before it could delete it is not inherited by who gets the name later.
    std::fs::write(file(&path), kept).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    server.add_user("romeo");
    assert_eq!(status(&put(&mut web(&server), &unused, &token_of_unused, b"12345").0), 403);
    server.add_user("mercutio");
    assert_eq!(delete("mercutio"), 0);
    goes(&file(&path));
    assert!(file(&other).exists());
    server.stop();
}

#[test]
fn a_start_deletes_what_is_nobodys() {
    let id = "abcdefghijklmnopqrstuv-_";
    let slot = couplet::core::slots::Slot {
        id: id.to_owned(),
        name: "a.png".to_owned(),
        size: 5,
        media_type: String::new(),
        owner: "mercutio@localhost".to_owned(),
        expires_s: 2_000_000_000,
    };
    let server = start_with("upload-nobodys", Limits::default(), move |options| {
        let folder = options.certificates.parent().unwrap().join("uploads");
        std::fs::create_dir(&folder).unwrap();
        let content = [couplet::http::upload::label(&slot), b"12345".to_vec()].concat();
        std::fs::write(folder.join(id), content).unwrap();
        std::fs::write(folder.join("notes.txt"), "mine").unwrap();
        options.tuning.site.files = Some(couplet::http::upload::FilesOptions { folder, expires_s: 3600, total_max: 0 });
    });
    goes(&server.folder.join("uploads").join(id));
    assert!(server.folder.join("uploads/notes.txt").exists());
    server.stop();
}

/// What Prosody has had keeps its URL, and goes if it is nobody's; nothing is brought there.
#[test]
fn a_file_that_has_moved_in_is_fetched() {
    use couplet::core::slots::{Slot, moved_id};
    let server = start_with_files("moved", 0, 3600);
    server.add_user("romeo");
    let (id, name) = (moved_id("0197c4b5-9d10"), "a b.txt".to_owned());
    let (media_type, owner) = ("text/plain".to_owned(), "romeo@localhost".to_owned());
    let slot = Slot { id, name, size: 5, media_type, owner, expires_s: 2_000_000_000 };
    let folder = server.folder.join("uploads");
    std::fs::create_dir_all(&folder).unwrap();
    let nobodys = Slot { id: moved_id("0197c4b5-9d12"), owner: "mercutio@localhost".to_owned(), ..slot.clone() };
    for slot in [&slot, &nobodys] {
        std::fs::write(folder.join(&slot.id), [&couplet::http::upload::label(slot)[..], b"12345"].concat()).unwrap();
    }
    let mut client = web(&server);
    let mut get = |path: &str| {
        client.say(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        answer(&mut client)
    };
    let (head, text) = get("/file_share/0197c4b5-9d10/a%20b.txt");
    assert_eq!((status(&head), text.as_str()), (200, "12345"), "{head}");
    assert!(head.contains("Content-Type: text/plain\r\n"), "{head}");
    for wrong in ["0197c4b5-9d11/a%20b.txt", "0197c4b5-9d10/a.exe", "0197c4b5-9d10", "0197c4b5-9d10/..", ""] {
        assert_eq!(status(&get(&format!("/file_share/{wrong}")).0), 404, "{wrong}");
    }
    goes(&folder.join(&nobodys.id));
    assert!(folder.join(&slot.id).exists());
    let (head, _) = put(&mut web(&server), "/file_share/0197c4b5-9d10/a%20b.txt", "x", b"12345");
    assert_eq!(status(&head), 404, "{head}");
    server.stop();
}
