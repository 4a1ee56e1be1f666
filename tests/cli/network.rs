//! Commands that look at the network.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use super::Folder;

/// A name server that knows no name; its port.
fn ignorant_name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The question comes back as an answer: NXDOMAIN, without the record of EDNS that stands behind it.
            let answer = &mut buffer[..length - 11];
            answer[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
            socket.send_to(answer, from).unwrap();
        }
    });
    port
}

#[test]
fn records_are_printed_for_a_zone_file_and_compared() {
    let folder = Folder::new();
    let port = ignorant_name_server();
    let servers = format!("[dns]\nservers = [\"127.0.0.1:{port}\"]\n");
    folder.write("couplet.toml", &format!("hosts = [\"example.org\"]\n[s2s]\ndirect_tls_listen = []\n{servers}"));
    let printed = folder.run(&["check", "dns"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    for record in [
        "_xmpp-client._tcp.example.org.               3600 IN SRV 0 5 5222  example.org.  ; missing",
        "_xmpps-client._tcp.example.org.              3600 IN SRV 0 5 5223  example.org.  ; missing",
        "_xmpp-server._tcp.example.org.               3600 IN SRV 0 5 5269  example.org.  ; missing",
        "_xmpp-server._tcp.conference.example.org.    3600 IN SRV 0 5 5269  conference.example.org.  ; missing",
        "; example.org. A: there is no such name",
    ] {
        assert!(printed.out.lines().any(|line| line == record), "{record}\n{}", printed.out);
    }
    assert!(!printed.out.contains("_xmpps-server") && !printed.out.contains("_xmpp-client._tcp.conference"));
    let everything_else = printed.out.lines().filter(|line| !line.is_empty() && !line.starts_with(['_', ';']));
    assert_eq!(everything_else.count(), 0, "all else is a comment");
}

#[test]
fn a_look_at_another_server_says_where_it_ends() {
    let folder = Folder::new();
    let port = ignorant_name_server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let said = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                    id='1' from='plain.example' version='1.0'><stream:features/>";
        socket.write_all(said.as_bytes()).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let keys = format!("[s2s]\nroutes = [\"plain.example={route}\"]\n[dns]\nservers = [\"127.0.0.1:{port}\"]\n");
    folder.write("couplet.toml", &keys);
    let unknown = folder.run(&["s2s", "check", "unknown.example"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.out.contains("SRV _xmpps-server._tcp.unknown.example: there is no such name"), "{unknown:?}");
    assert_eq!(unknown.err, "FAIL  unknown.example: there is no such server\n");
    let plain = folder.run(&["s2s", "check", "plain.example"]);
    assert_eq!(plain.code, 1, "{plain:?}");
    assert!(plain.out.contains(&format!("connected to {route}")), "{plain:?}");
    assert_eq!(plain.err, "FAIL  plain.example: it does not offer STARTTLS, and nothing is said in plain\n");
    assert_eq!(folder.run(&["s2s", "check", "a b"]).code, 1);
}
