//! Addresses: preparing one twice changes nothing, and what is printed is read. `tests/properties.rs` uses what is
//! here, too.

use couplet::jid::{self, Jid};

/// What holds of every address.
pub fn stable(jid: &Jid) {
    assert_eq!(Jid::parse(jid.as_str()).as_ref(), Ok(jid));
    assert_eq!(Jid::from_parts(jid.node(), jid.domain(), jid.resource()).as_ref(), Ok(jid));
    assert_eq!(Jid::parse(jid.bare_str()), Ok(jid.bare()));
    if let Some(resource) = jid.resource() {
        assert_eq!(jid.bare().with_resource(resource).as_ref(), Ok(jid));
    }
    let parts = [jid.node(), Some(jid.domain()), jid.resource()];
    assert!(parts.into_iter().flatten().all(|part| (1..=1023).contains(&part.len())));
    let mut joined = String::new();
    joined.extend(jid.node().into_iter().flat_map(|node| [node, "@"]));
    joined.push_str(jid.domain());
    joined.extend(jid.resource().into_iter().flat_map(|resource| ["/", resource]));
    assert_eq!(jid.as_str(), joined);
    assert!(jid.is_bare() == jid.resource().is_none());
}

/// Any text as an address, and as each part of one.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(jid) = Jid::parse(text) {
        stable(&jid);
    }
    for prepare in [jid::prepare_node, jid::prepare_domain, jid::prepare_resource] {
        if let Ok(prepared) = prepare(text) {
            assert_eq!(prepare(&prepared).as_ref(), Ok(&prepared), "prepared from {text:?}");
        }
    }
    if let Ok(domain) = jid::prepare_domain(text)
        && let Some(ascii) = jid::idna::to_ascii(&domain)
    {
        assert!(ascii.is_ascii() && !ascii.is_empty(), "{ascii:?}");
        assert_eq!(jid::idna::to_ascii(&ascii).as_ref(), Some(&ascii));
    }
}
