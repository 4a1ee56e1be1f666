//! Who may know whom.

use crate::source::{File, UsedPath, paths, tokens};

/// A floor may use those before it, never those behind it.
const FLOORS: [&[&str]; 10] = [
    &["limits", "budget", "clock", "encoding", "json", "metrics", "setting", "fault"],
    &["xml", "jid"],
    &["stanza", "storage"],
    &["stream"],
    &["dns"],
    &["core"],
    &["modules"],
    &["engine", "pipeline", "config"],
    &["moving"],
    &["net", "http", "cli"],
];

/// The floors that know the world.
const OUTER: &[&str] = FLOORS[FLOORS.len() - 1];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|names| names.contains(&module))
}

/// The names of a path from the root of the crate; none when it ends within the file's own ancestors.
fn from_root(file: &File, path: &UsedPath) -> Option<Vec<String>> {
    let Some(supers) = path.supers else { return Some(path.names.clone()) };
    let module = file.module();
    let kept = module.len().checked_sub(supers)?;
    Some(module[..kept].iter().chain(&path.names).cloned().collect())
}

/// No floor names one below it.
pub fn upward(file: &File) -> Vec<String> {
    let module = file.module();
    let Some(own) = module.first().filter(|m| !["lib", "main", ""].contains(&m.as_str())) else { return Vec::new() };
    let Some(own_floor) = floor(own) else {
        return vec![format!("{}: {own} is on no floor; say in tests/tidy/floors.rs on which", file.path)];
    };
    let is_below = |path: &UsedPath| {
        let first = from_root(file, path)?.into_iter().next()?;
        (floor(&first)? > own_floor).then_some(first)
    };
    paths(&file.product)
        .iter()
        .filter_map(|p| Some((p.line, is_below(p)?)))
        .map(|(line, other)| format!("{}:{line}: {own} must not know {other}, which is a floor below", file.path))
        .collect()
}

/// No module of `modules` names another.
pub fn strangers(file: &File) -> Vec<String> {
    let module = file.module();
    let [floor, own, ..] = module.as_slice() else { return Vec::new() };
    if floor != "modules" {
        return Vec::new();
    }
    let known: Vec<&str> = couplet::modules::KNOWN.iter().map(|(name, _)| *name).collect();
    let other = |path: &UsedPath| {
        let names = from_root(file, path)?;
        (names.first()? == "modules").then(|| names.into_iter().nth(1)).flatten()
    };
    paths(&file.code)
        .iter()
        .filter_map(|p| Some((p.line, other(p)?)))
        .filter(|(_, other)| other != own && known.contains(&other.as_str()))
        .map(|(line, other)| format!("{}:{line}: the module {own} names the module {other}", file.path))
        .collect()
}

/// Names that no floor but the last may use: sockets, threads, real time, randomness, and maps whose order is random.
const WORLD: [&str; 10] =
    ["smol", "async_io", "async_signal", "rustls", "rand", "getrandom", "Instant", "SystemTime", "HashMap", "HashSet"];

/// Members of `std::net` that are values and no sockets.
const ADDRESSES: [&str; 4] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"];

/// Only the last floor knows the world.
pub fn pure(file: &File) -> Vec<String> {
    if file.in_src().is_none() || OUTER.contains(&file.module().first().map_or("", String::as_str)) {
        return Vec::new();
    }
    let tokens = tokens(&file.product);
    let word = |i: usize| tokens.get(i).map_or("", |t| t.0.as_str());
    let is_std = |i: usize, name: &str| word(i) == "std" && word(i + 1) == "::" && word(i + 2) == name;
    let mut out = Vec::new();
    for (i, (name, line)) in tokens.iter().enumerate() {
        let listed = if word(i + 4) == "{" {
            (i + 5..tokens.len()).take_while(|&n| word(n) != "}").collect()
        } else {
            vec![i + 4]
        };
        let is_address = |n: usize| word(n) == "," || ADDRESSES.contains(&word(n));
        let is_socket = is_std(i, "net") && word(i + 3) == "::" && !listed.into_iter().all(is_address);
        if WORLD.contains(&name.as_str()) || is_socket || is_std(i, "thread") {
            let what = if name == "std" { format!("std::{}", word(i + 2)) } else { name.clone() };
            out.push(format!("{}:{line}: {what} belongs to net or cli", file.path));
        }
    }
    out
}

#[test]
fn a_look_below_is_seen() {
    let complain = |path: &str, text: &str| upward(&File::new(path, text)).len();
    assert_eq!(complain("src/core/route.rs", "use crate::modules::Modules;"), 1);
    assert_eq!(complain("src/core/route.rs", "use crate::{xml, engine::Engine};"), 1);
    assert_eq!(complain("src/core/route.rs", "fn f() { super::super::net::serve() }"), 1);
    assert_eq!(complain("src/jid.rs", "use crate::stanza::Stanza;"), 1);
    assert_eq!(complain("src/attic/mod.rs", "fn f() {}"), 1);
    assert_eq!(complain("src/core/route.rs", "use crate::xml; use super::session; // crate::engine"), 0);
    assert_eq!(complain("src/core/route.rs", "#[cfg(test)]\nmod tests { use crate::engine::Engine; }"), 0);
}

#[test]
fn a_module_that_names_another_is_seen() {
    let complain = |text: &str| strangers(&File::new("src/modules/offline.rs", text)).len();
    assert_eq!(complain("use super::carbons::Carbons;"), 1);
    assert_eq!(complain("use super::{Module, blocking};"), 1);
    assert_eq!(complain("fn f() { crate::modules::ping::f() }"), 1);
    assert_eq!(complain("use super::{Module, Xep}; use crate::modules::offline::Spool;"), 0);
}

#[test]
fn the_world_is_seen() {
    let complain = |path: &str, text: &str| pure(&File::new(path, text)).len();
    for text in [
        "use smol::Timer;",
        "use std::net::TcpStream;",
        "use std::net::{IpAddr, TcpStream};",
        "std::thread::spawn(f)",
        "let t = std::time::Instant::now();",
        "use std::collections::HashMap;",
        "ring::rand::SystemRandom::new()",
    ] {
        assert_eq!(complain("src/engine/client.rs", text), 1, "{text}");
        assert_eq!(complain("src/net/conn.rs", text), 0, "{text}");
    }
    assert_eq!(
        complain("src/engine.rs", "use std::net::{IpAddr, SocketAddr}; use std::collections::BTreeMap; // HashMap"),
        0
    );
}
