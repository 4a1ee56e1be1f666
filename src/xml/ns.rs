//! Every namespace once, with the specification that defines it.

/// RFC 6120: content namespace of client streams, and of every stanza inside the server.
pub const CLIENT: &str = "jabber:client";
/// RFC 6120: content namespace of server streams.
pub const SERVER: &str = "jabber:server";
/// Streams of external components (XEP-0114).
pub const COMPONENT: &str = "jabber:component:accept";
/// XEP-0220.
pub const DIALBACK: &str = "jabber:server:dialback";
/// XEP-0220 section 2.4.1: the stream feature.
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// XEP-0288.
pub const BIDI: &str = "urn:xmpp:bidi";
/// XEP-0288: the stream feature.
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// RFC 6120: the stream element, its features and its errors.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// RFC 6120 section 5.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// RFC 6120 section 6.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// XEP-0388.
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// XEP-0386.
pub const BIND2: &str = "urn:xmpp:bind:0";
/// XEP-0484.
pub const FAST: &str = "urn:xmpp:fast:0";
/// XEP-0480 section 2.
pub const SASL_UPGRADE: &str = "urn:xmpp:sasl:upgrade:0";
/// XEP-0480 section 3.
pub const SCRAM_UPGRADE: &str = "urn:xmpp:scram-upgrade:0";
/// RFC 6120 section 7.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// RFC 3921 section 3, kept as a no-op for old clients.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// RFC 6120 section 4.9: conditions of stream errors.
pub const STREAM_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// RFC 6120 section 8.3: conditions of stanza errors.
pub const STANZA_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Namespaces in XML: the prefix `xml`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Namespaces in XML: declarations.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// RFC 6121 section 2.
pub const ROSTER: &str = "jabber:iq:roster";
/// RFC 6121 section 2.6.
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// RFC 6121 section 3.4.
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// XEP-0030.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0004.
pub const DATA: &str = "jabber:x:data";
/// Endpoints of applications (UnifiedPush).
#[cfg(feature = "unified_push")]
pub const UNIFIED_PUSH: &str = "http://gultsch.de/xmpp/drafts/unified-push";
/// XEP-0363.
#[cfg(any(feature = "upload", feature = "import"))]
pub const UPLOAD: &str = "urn:xmpp:http:upload:0";
/// XEP-0363: what a file is for.
#[cfg(feature = "upload")]
pub const UPLOAD_PURPOSE: &str = "urn:xmpp:http:upload:purpose:0";
/// XEP-0363: files for messages, which is what all are for.
#[cfg(feature = "upload")]
pub const UPLOAD_FOR_MESSAGES: &str = "urn:xmpp:http:upload:purpose:0#message";
/// XEP-0012.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0049.
pub const PRIVATE: &str = "jabber:iq:private";
/// XEP-0054.
pub const VCARD: &str = "vcard-temp";
/// XEP-0092.
pub const VERSION: &str = "jabber:iq:version";
/// XEP-0115.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// XEP-0160: the disco feature of a server that stores messages for offline users.
pub const OFFLINE: &str = "msgoffline";
/// XEP-0191.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191 section 3.3.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0377.
pub const REPORTING: &str = "urn:xmpp:reporting:1";
/// XEP-0033.
pub const ADDRESS: &str = "http://jabber.org/protocol/address";
/// XEP-0268: an address in what is reported.
pub const JID: &str = "urn:xmpp:jid:0";
/// XEP-0198.
pub const SM: &str = "urn:xmpp:sm:3";
/// XEP-0138: the elements of the negotiation.
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// XEP-0138: the feature.
pub const COMPRESS_FEATURE: &str = "http://jabber.org/features/compress";
/// XEP-0352.
pub const CSI: &str = "urn:xmpp:csi:0";
/// XEP-0380.
pub const EME: &str = "urn:xmpp:eme:0";
/// XEP-0353.
pub const JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:0";
/// XEP-0199.
pub const PING: &str = "urn:xmpp:ping";
/// Application-specific conditions of stanza errors (XEP-0182).
pub const ERRORS: &str = "urn:xmpp:errors";
/// XEP-0202.
pub const TIME: &str = "urn:xmpp:time";
/// XEP-0203.
pub const DELAY: &str = "urn:xmpp:delay";
/// Delayed delivery as it was before XEP-0203 (XEP-0091).
pub const OLD_DELAY: &str = "jabber:x:delay";
/// XEP-0045: joining a room, and the feature.
pub const MUC: &str = "http://jabber.org/protocol/muc";
/// XEP-0045: what moderators and admins ask of a room.
pub const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// XEP-0045: what owners ask of a room.
pub const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// XEP-0307.
pub const MUC_UNIQUE: &str = "http://jabber.org/protocol/muc#unique";
/// XEP-0077.
pub const REGISTER: &str = "jabber:iq:register";
/// Ad-hoc commands (XEP-0050).
pub const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// XEP-0133.
pub const ADMIN: &str = "http://jabber.org/protocol/admin";
/// XEP-0077 section 8: the stream feature.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// XEP-0379: the token of an invitation, in a request to register or to subscribe.
pub const PRE_AUTHENTICATION: &str = "urn:xmpp:pars:0";
/// XEP-0445 section 3: the stream feature.
pub const REGISTER_TOKEN: &str = "urn:xmpp:ibr-token:0";
/// The stream feature of XEP-0401 before version 0.5, which clients look for.
pub const INVITE: &str = "urn:xmpp:invite";
/// External service discovery (XEP-0215).
pub const EXTDISCO: &str = "urn:xmpp:extdisco:2";
/// XEP-0317.
pub const HATS: &str = "urn:xmpp:hats:0";
/// XEP-0421.
pub const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// XEP-0045: what a room adds for its users.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0085.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0184.
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// XEP-0249.
pub const CONFERENCE: &str = "jabber:x:conference";
/// XEP-0280.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280 section 6.2.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0297.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0333.
pub const CHAT_MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0334.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0359.
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// XEP-0440.
pub const CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// XEP-0478.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// XEP-0157: FORM_TYPE of contact addresses.
pub const SERVER_INFO: &str = "http://jabber.org/network/serverinfo";
/// XEP-0059.
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// XEP-0060: requests of everybody.
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// XEP-0060 section 8: requests of owners.
pub const PUBSUB_OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
/// XEP-0060: notifications.
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// XEP-0060: conditions beside those of stanza errors.
pub const PUBSUB_ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// XEP-0060 section 17.4.4: FORM_TYPE of a node's configuration.
pub const PUBSUB_NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// XEP-0060 section 7.1.5: FORM_TYPE of publish options.
pub const PUBSUB_PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
/// XEP-0060 section 5.4: FORM_TYPE of what is said of a node.
pub const PUBSUB_META_DATA: &str = "http://jabber.org/protocol/pubsub#meta-data";
/// Forms by which owners allow subscriptions (XEP-0060 section 8.6).
pub const PUBSUB_SUBSCRIBE_AUTHORIZATION: &str = "http://jabber.org/protocol/pubsub#subscribe_authorization";
/// XEP-0357.
pub const PUSH: &str = "urn:xmpp:push:0";
/// XEP-0357 section 7: FORM_TYPE of what a service is told.
pub const PUSH_SUMMARY: &str = "urn:xmpp:push:summary";
/// XEP-0084 section 4.
pub const AVATAR_DATA: &str = "urn:xmpp:avatar:data";
/// XEP-0084 section 4.
pub const AVATAR_METADATA: &str = "urn:xmpp:avatar:metadata";
/// XEP-0153.
pub const VCARD_UPDATE: &str = "vcard-temp:x:update";
/// XEP-0398 section 2.
pub const AVATAR_CONVERSION: &str = "urn:xmpp:pep-vcard-conversion:0";
/// XEP-0048.
pub const BOOKMARKS_OLD: &str = "storage:bookmarks";
/// XEP-0402.
pub const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";
/// XEP-0402 section 6: private XML storage shows the same bookmarks.
pub const BOOKMARKS_COMPAT: &str = "urn:xmpp:bookmarks:1#compat";
/// XEP-0402 section 6: the node of XEP-0048 shows the same bookmarks.
pub const BOOKMARKS_COMPAT_PEP: &str = "urn:xmpp:bookmarks:1#compat-pep";
/// XEP-0411 section 2.
pub const BOOKMARKS_CONVERSION: &str = "urn:xmpp:bookmarks-conversion:0";
/// XEP-0313.
pub const MAM: &str = "urn:xmpp:mam:2";
/// XEP-0313 section 6: queries by id, flipped pages, metadata.
pub const MAM_EXTENDED: &str = "urn:xmpp:mam:2#extended";
/// XEP-0313 section 6: the field `include-groupchat` is understood.
pub const MAM_GROUPCHAT_FIELD: &str = "urn:xmpp:mam:2#groupchat-field";
/// XEP-0122.
pub const VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";
/// XEP-0380.
pub const ENCRYPTION: &str = "urn:xmpp:eme:0";
/// XEP-0424.
pub const RETRACT: &str = "urn:xmpp:message-retract:1";
/// XEP-0424 section 4: what is taken back leaves a tombstone in archives.
pub const TOMBSTONE: &str = "urn:xmpp:message-retract:1#tombstone";
/// XEP-0425.
pub const MODERATE: &str = "urn:xmpp:message-moderate:1";
/// XEP-0353 before version 0.4.
pub const JINGLE_MESSAGE_1: &str = "urn:xmpp:jingle-message:1";
