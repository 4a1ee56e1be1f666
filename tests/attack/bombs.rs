//! Compressed bytes out of which much more comes (XEP-0138): they end their stream and are never in memory.

use std::io;

use crate::process::Peak;
use crate::stages::Stage;
use crate::target::Target;
use crate::wire::PATIENCE;
use couplet::limits::Limits;
use couplet::stream::compression::Codec;

const ASK: &str = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>";

/// What comes out of each, and how many there are.
const BOMB_BYTES: usize = 8 << 20;
const BOMBS: usize = 8;

/// What the server may take for them: its own window for each, and what a client may have in memory in any case.
const PEAK_BYTES: u64 = 4 << 20;

/// Drops them; what is wrong with what comes of it.
pub fn drop_all(target: &Target) -> Vec<String> {
    let pid = target.server.pid().unwrap_or_default();
    let peak = Peak::watch(pid);
    // What a login costs is there before.
    let mut wrong: Vec<String> =
        bomb(target, b"<presence/>").err().map(|error| error.to_string()).into_iter().collect();
    let before = crate::process::rss_bytes(pid).unwrap_or_default();
    peak.take();
    let long = [&b"<message><body>"[..], &vec![b'a'; BOMB_BYTES]].concat();
    for text in [vec![b' '; BOMB_BYTES], long, b"<a>".repeat(BOMB_BYTES / 3)].iter().cycle().take(BOMBS) {
        match bomb(target, text) {
            Ok(end) if end.contains("<policy-violation") => {}
            Ok(end) => wrong.push(format!("a bomb is answered with {end}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    let took = peak.take().saturating_sub(before);
    println!("{BOMBS} bombs of {BOMB_BYTES} bytes: {took} bytes of memory");
    if took > PEAK_BYTES {
        wrong.push(format!("bombs take {took} bytes of memory"));
    }
    wrong
}

/// What the server says to these bytes on a stream that is compressed, until it ends it.
fn bomb(target: &Target, text: &[u8]) -> io::Result<String> {
    let mut stream = Stage::Authenticated("romeo").open(target)?;
    stream.wire.say(ASK);
    stream.wire.hear("<compressed xmlns='http://jabber.org/protocol/compress'/>")?;
    let mut codec = Codec::new();
    let opening = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                   xmlns:stream='http://etherx.jabber.org/streams'>";
    let opened = codec.deflate(opening.as_bytes());
    stream.wire.say(opened);
    stream.wire.say(codec.deflate(text));
    stream.wire.say(codec.deflate(b"</stream:stream>"));
    while stream.wire.wait(PATIENCE) {}
    codec.feed(&stream.wire.got);
    let (mut end, limits) = (Vec::new(), Limits::default());
    while let Ok(Some(piece)) = codec.next(&limits) {
        end.extend_from_slice(piece);
    }
    Ok(String::from_utf8_lossy(&end).into_owned())
}
