//! A megabyte of what costs most to look at, sent by a client with a session.
//!
//! Some of it is one input, or a few; some is a pile of thousands, each of which is routed, answered and written like
//! any other. What is promised of a pile is what one of it costs, for nobody can say a thousand things for the price of
//! one: the rate of clients spreads it over time.

use std::time::Duration;

/// What a megabyte may cost that is not a pile.
const CPU_MAX: Duration = Duration::from_millis(100);

/// What each of a pile may cost where that is more.
const EACH_MAX: Duration = Duration::from_micros(50);

/// So many at least are a pile.
const PILE: u32 = 2000;

/// What a megabyte of so many stanzas may cost.
pub fn cpu_max(stanzas: u32) -> Duration {
    if stanzas < PILE { CPU_MAX } else { CPU_MAX.max(EACH_MAX * stanzas) }
}

/// Name, the number of stanzas, and what is sent. Whatever comes of it, it must not cost much.
pub const HEAVY: &[(&str, u32, &str)] = &[
    ("one stanza that never ends", 1, "<message><body>{1000000 * a}"),
    ("tags in tags", 1, "{333333 * <a>}"),
    (
        "tags in tags, as deep as may be",
        2700,
        "{2700 * <message to='nobody@localhost'>{62 * <a>}{62 * </a>}</message>}",
    ),
    ("attributes", 1300, "{1300 * <message {62 * a%='12345' }/>}"),
    ("prefixes", 900, "{900 * <message {60 * xmlns:p%='u' }/>}"),
    ("default namespaces", 60, "{60 * <message to='nobody@localhost'>{600 * <a xmlns='n%'/>}</message>}"),
    ("elements", 16, "{16 * <message to='nobody@localhost'>{15000 * <a/>}</message>}"),
    ("references", 4, "{4 * <message to='nobody@localhost'><body>{60000 * &lt;}</body></message>}"),
    ("sections", 4, "{4 * <message to='nobody@localhost'><body>{8000 * <![CDATA[x]]>}</body></message>}"),
    (
        "ends of sections that are none",
        4,
        "{4 * <message to='nobody@localhost'><body><![CDATA[{240000 * ]}]]></body></message>}",
    ),
    ("blanks between stanzas", 1, "{1000000 *  }"),
    ("blanks in tags", 4, "{4 * <message {240000 *  }/>}"),
    (
        "messages to a box that is full",
        9000,
        "{9000 * <message to='nurse@localhost' type='chat'><body>{30 * x}</body></message>}",
    ),
    ("long addresses", 900, "{900 * <message to='{1000 * a}@localhost/x'/>}"),
    ("addresses that must be prepared", 400, "{400 * <message to='{600 * {x EF BC A1}}@localhost/x'/>}"),
    ("languages", 900, "{900 * <message xml:lang='{1000 * l}' to='localhost'/>}"),
    ("ids", 4, "{4 * <iq type='get' id='{240000 * i}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>}"),
    ("requests that nobody knows", 12000, "{12000 * <iq type='get' id='%' to='localhost'><a xmlns='unknown'/></iq>}"),
    (
        "carbons in carbons",
        700,
        "{700 * <message to='nobody@localhost'>{14 * <forwarded xmlns='urn:xmpp:forward:0'><message>}{14 * </\
         message></forwarded>}</message>}",
    ),
    ("presence", 60000, "{60000 * <presence type='x'/>}"),
    ("requests for counts", 36000, "<enable xmlns='urn:xmpp:sm:3'/>{36000 * <r xmlns='urn:xmpp:sm:3'/>}"),
    ("states", 28000, "{28000 * <active xmlns='urn:xmpp:csi:0'/>}"),
    (
        "forms",
        30,
        "{30 * <iq type='set' id='%' to='localhost'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data\
         ' type='submit'>{500 * <field var='f'><value>x</value></field>}</x></query></iq>}",
    ),
    (
        "nodes of capabilities",
        9000,
        "{9000 * <presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='%'/></presen\
         ce>}",
    ),
    (
        "contacts",
        7000,
        "{7000 * <iq type='set' id='%'><query xmlns='jabber:iq:roster'><item jid='@@' name='n'>{1 * <group>g<\
         /group>}</item></query></iq>}",
    ),
];
