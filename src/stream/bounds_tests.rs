//! Tests of what strangers and idle streams may take, on the plays of client streams.

use super::*;

#[test]
fn strangers_have_smaller_limits() {
    let big = format!("<message><body>{}</body></message>", "a".repeat(20_000));
    let mut p = play(DIRECT);
    p.says(OPEN);
    let log = p.says(&big);
    assert!(log.contains("policy-violation") && p.c2s.is_closed(), "{log}");
    assert_eq!(bound().says(&big), "[Element(message)]");
    let log = bound().says(&format!("<message>{}</message>", "<a/>".repeat(20_000)));
    assert!(log.contains("policy-violation"), "{log}");
    let log = bound().says(&format!("<message>{}", "a".repeat(262_144)));
    assert!(log.contains("policy-violation"), "{log}");
}

#[test]
fn an_idle_stream_is_small() {
    assert!(size_of::<C2s>() <= 200, "{} bytes", size_of::<C2s>());
    let mut p = bound();
    assert_eq!(p.says(" \n "), "");
    assert_eq!(p.c2s.heap_bytes(), 0);
    p.says("<message>");
    assert!((9..100).contains(&p.c2s.heap_bytes()), "{}", p.c2s.heap_bytes());
    p.says(&"a".repeat(5000));
    assert_eq!(p.says("</message>"), "[Element(message)]");
    assert_eq!(p.c2s.heap_bytes(), 0);
    p.says(&format!("<message>{}</message><m", "a".repeat(5000)));
    assert!(p.c2s.heap_bytes() < 600, "what is done with is given back: {}", p.c2s.heap_bytes());
    assert!(play(OPTIONS).c2s.heap_bytes() < 700);
}
