//! Every bound of the server in one table: name, default, unit, reason.
//!
//! A bound that is not in this table does not exist. `[limits]` of the configuration sets each by its name.

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things of the kind that the name says.
    Count,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// One row of the table, as `couplet about` prints it.
#[derive(Clone, Copy, Debug)]
pub struct LimitInfo {
    /// Name of the field and of the configuration key.
    pub name: &'static str,
    /// Value where the configuration says nothing.
    pub default: u32,
    /// What it counts.
    pub unit: Unit,
    /// Why there is a bound and why this one.
    pub reason: &'static str,
}

macro_rules! limits {
    ($( $(#[$built:meta])* $name:ident = $default:literal $unit:ident $reason:literal; )*) => {
        /// The limits in force.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $( $(#[$built])* #[doc = $reason] pub $name: u32, )* }

        impl Default for Limits {
            fn default() -> Self { Self { $( $(#[$built])* $name: $default, )* } }
        }

        /// The whole table in the order of this file.
        pub const TABLE: &[LimitInfo] = &[ $( $(#[$built])* LimitInfo {
            name: stringify!($name), default: $default, unit: Unit::$unit, reason: $reason,
        }, )* ];

        impl Limits {
            /// The field of that name, for reading and setting by configuration.
            pub fn by_name(&mut self, name: &str) -> Option<&mut u32> {
                match name { $( $(#[$built])* stringify!($name) => Some(&mut self.$name), )* _ => None }
            }
        }
    };
}

limits! {
    stanza_bytes_max = 262144 Bytes "one stanza of an authenticated client, as Prosody's c2s_stanza_size_limit";
    stanza_bytes_max_before_auth = 10000 Bytes "one element or stream header of a stranger";
    #[cfg(feature = "compression")]
    compression_ratio_max = 100 Count "bytes out of a compressed one, behind 64 KiB; stanzas make 3 to 30, bombs 1000";
    depth_max = 64 Count "nested elements in a stanza; the XML reader's cost grows with the square of it";
    attributes_max = 64 Count "attributes of one element, namespace declarations among them";
    namespaces_max = 64 Count "namespace prefixes declared in one stanza; the XML reader copies them for each element";
    namespace_bytes_max = 256 Bytes "one namespace; an element of three bytes may repeat it";
    nodes_max = 16384 Count "elements, attributes and texts of one stanza; each costs 32 bytes in memory";
    prefixes_max = 8 Count "namespace prefixes that a stream header may declare";
    templates_max = 64 Count "cached XML reader templates, one for each set of stream prefixes";
    connections_max = 10000 Count "open client connections";
    connections_per_address_max = 250 Count "client connections of one address (of IPv6: one /64); 0 is any number";
    s2s_connections_per_address_max = 100 Count "the same of servers, and of components";
    new_connection_rate = 10 Count "new connections a second from one address; 0 is any number";
    new_connection_burst = 100 Count "new connections from one address at once, as when a network comes back";
    addresses_max = 4096 Count "addresses without a connection whose failed logins and new connections are remembered; \
        and as many accounts, and pairs of address and account that have logged in";
    login_failures_free = 5 Count "failed logins of an address that cost it nothing, twice as many of an account; one \
        is forgotten each minute";
    login_delay_max_s = 8 Seconds "the most that a login waits for the one before it when others from its address have \
        failed; the first such wait is a quarter of a second, each doubles it; 0 never waits";
    login_account_delay_max_s = 2 Seconds "the same of an account for those who have not logged in from their address \
        before; nobody waits for others there";
    s2s_stanza_bytes_max = 524288 Bytes "one stanza of another server, as Prosody's s2s_stanza_size_limit";
    s2s_connections_max = 2000 Count "connections to and from other servers";
    s2s_incoming_per_host_max = 4 Count "connections that one other domain has with one of ours, by its own opening; \
        another closes the oldest; we open one at most, which keeps stanzas in order";
    s2s_peers_max = 4000 Count "pairs of a domain of ours and another for which something waits or goes on";
    s2s_pairs_max = 50 Count "pairs of domains that another server may prove, or try to, on one stream";
    s2s_auth_timeout_s = 60 Seconds "from connecting to another server, or being connected to, until it is proved who \
        it is";
    s2s_idle_timeout_s = 600 Seconds "how long a stream with another server may carry nothing before it is closed";
    s2s_keepalive_s = 300 Seconds "how long nothing may be sent on a stream with another server before white space \
        is, or a request for an acknowledgement (XEP-0198), so that networks do not forget the connection, and its \
        loss shows; 0s: never";
    s2s_ack_timeout_s = 60 Seconds "how long another server may owe an acknowledgement (XEP-0198) or take nothing of \
        what waits for it, before its connection counts as lost";
    s2s_queue_max = 1000 Count "stanzas that wait for one other domain while no connection takes them; more are \
        returned with resource-constraint";
    s2s_queue_bytes_max = 1048576 Bytes "all stanzas that wait for one other domain, or that it has not acknowledged";
    s2s_pause_max_s = 5 Seconds "how long a client is not read that has filled an eighth of what may wait for another \
        server (s2s_queue_bytes_max), while half of that is full and the server takes it; then what is too much is \
        returned";
    s2s_queue_timeout_s = 300 Seconds "how long a stanza waits for a server that cannot be reached before it is \
        returned with remote-server-timeout";
    s2s_retry_min_s = 2 Seconds "time after a failed attempt to reach another server before the next; each time it \
        doubles";
    s2s_retry_max_s = 120 Seconds "the most that it grows to";
    resources_max = 10 Count "sessions of one account at a time, as Prosody's max_resources; and as many connections \
        that have logged in and have no session yet";
    roster_items_max = 2000 Count "contacts of one account";
    roster_groups_max = 32 Count "groups of one contact";
    subscription_requests_max = 200 Count "subscription requests stored for one account until it answers";
    directed_presence_max = 500 Count "addresses that one session has sent presence to and must take back";
    offline_messages_max = 100 Count "messages kept for one offline account (XEP-0160); 0 keeps none";
    offline_bytes_max = 1048576 Bytes "all messages kept for one offline account";
    private_bytes_max = 65536 Bytes "one element of private XML storage (XEP-0049)";
    private_elements_max = 64 Count "elements of private XML storage of one account";
    vcard_bytes_max = 131072 Bytes "one vcard-temp, avatar included";
    pubsub_nodes_max = 256 Count "nodes of one account (XEP-0060), and as many that it has made at a service";
    pubsub_items_max = 1000 Count "items of one node, and what max_items=max means";
    pubsub_item_bytes_max = 131072 Bytes "the payload of one item; an avatar must fit";
    pubsub_bytes_max = 8388608 Bytes "items of all nodes of one account, and as much of those that it has made at a \
        service";
    pubsub_service_nodes_max = 10000 Count "nodes of one publish-subscribe service";
    pubsub_service_bytes_max = 268435456 Bytes "items of all nodes of one publish-subscribe service";
    pubsub_service_subscriptions_max = 2000 Count "subscriptions to one node of a publish-subscribe service, and \
        affiliations with it";
    pubsub_subscriptions_per_entity_max = 20 Count "subscriptions of one bare address, its resources counted, to one \
        node";
    pubsub_answer_bytes_max = 524288 Bytes "items in one answer; older ones are left out";
    pubsub_catch_up_bytes_max = 524288 Bytes "last items that a client gets when it comes online, a sixteenth of it of \
        one account; it can ask for more";
    pubsub_name_bytes_max = 1024 Bytes "the name of a node, or the id of an item";
    mam_page_bytes_max = 131072 Bytes "messages of one page of an archive (XEP-0313), unless the first alone has more; \
        a client whose queue holds as much gets its next page later";
    mam_queries_max = 10 Count "queries of archives that one client may have under way; they are answered one by one";
    mam_queries_all_max = 500 Count "queries of archives that all clients may have under way; more are refused";
    mam_reads_max = 4 Count "pages of archives that are read at a time";
    mam_rules_max = 1000 Count "addresses for which one account wants always, or never, to have messages archived";
    pubsub_subscriptions_max = 500 Count "subscriptions that were asked for, and affiliations, of one node";
    caps_cache_max = 256 Count "hashes of client capabilities whose meaning is remembered (XEP-0115)";
    caps_remote_max = 5000 Count "clients of contacts on other servers whose capabilities are remembered, once for \
        each account that they see";
    caps_bytes_max = 4096 Bytes "names of nodes that one client wants notifications of";
    blocklist_max = 1000 Count "blocked addresses of one account";
    report_text_bytes_max = 4096 Bytes "what a user says in a report of spam or abuse (XEP-0377); more is cut";
    report_ids_max = 50 Count "messages that one report names; more are left out";
    #[cfg(feature = "mam")]
    report_messages_bytes_max = 65536 Bytes "messages of the archive that go with one report; more are left out";
    reports_per_hour_max = 20 Count "reports of one account in an hour that are passed on";
    reports_recent_max = 1000 Count "reports of an hour of which the server remembers who made them";
    #[cfg(feature = "rules")]
    rules_remembered_max = 4096 Count "senders, and others whose stanzas are counted together, of which each of the \
        [[rates]] knows how much they have used up; and as many marks";
    #[cfg(feature = "rules")]
    rules_list_bytes_max = 1048576 Bytes "the file of one of the [[lists]]";
    #[cfg(feature = "strangers")]
    strangers_spoken_max = 100 Count "addresses that are in no roster, that one session has written to, and whose \
        answers are let in";
    #[cfg(feature = "strangers")]
    strangers_asked_max = 1000 Count "accounts of which the server remembers how many subscription requests they get";
    #[cfg(feature = "rtbl")]
    rtbl_hashes_max = 20000 Count "addresses and domains on one block list";
    #[cfg(feature = "rtbl")]
    rtbl_answer_timeout_s = 120 Seconds "how long the service of a block list may take to answer";
    #[cfg(feature = "rtbl")]
    rtbl_retry_min_s = 60 Seconds "time after a failed attempt to read a block list before the next; it doubles";
    #[cfg(feature = "rtbl")]
    rtbl_retry_max_s = 3600 Seconds "the most that it grows to";
    muc_rooms_max = 10000 Count "rooms of one group chat service";
    muc_rooms_per_account_max = 100 Count "rooms that one account has created and that are still there";
    muc_occupants_max = 1000 Count "nicknames in one room at a time";
    muc_affiliations_max = 5000 Count "owners, admins, members and outcasts of one room";
    muc_nick_bytes_max = 256 Bytes "one nickname in a room";
    muc_subject_bytes_max = 4096 Bytes "the subject of a room, and any text of its configuration";
    muc_hats_max = 50 Count "hats of one room, and of one account in it";
    muc_hat_bytes_max = 256 Bytes "URI or title of a hat in a room";
    muc_presence_bytes_max = 8192 Bytes "presence of one session in a room, kept for those who join";
    muc_history_max = 100 Count "messages that the history of a room can be configured to keep";
    muc_history_bytes_max = 262144 Bytes "all messages in the history of one room";
    muc_parked_bytes_max = 65536 Bytes "what is stored of the rooms of one session that waits to be resumed \
        (XEP-0198); it leaves the others when the server restarts";
    user_agent_bytes_max = 256 Bytes "id, software and device of a client that logs in (XEP-0388), and its tag \
        (XEP-0386)";
    fast_clients_max = 16 Count "clients of one account that have a token to log in with (XEP-0484); another takes the \
        place of the one that was here the longest time ago";
    sasl_tries_max = 3 Count "failed logins on one stream before it is closed";
    register_questions_max = 20 Count "requests about registration on one stream before its login (XEP-0077)";
    register_timeout_s = 300 Seconds "how long somebody may take who fills in the form of registration, instead of \
        auth_timeout_s; as Prosody's c2s_timeout";
    register_recent_max = 1000 Count "accounts of which the server remembers from where they were made, for \
        modules.register.per_address";
    invites_max = 1000 Count "invitations of one host that are neither used up nor expired";
    commands_max = 10 Count "forms of commands (XEP-0050) that one client has before it, or has done in the last \
        command_timeout_s; another takes the place of the oldest";
    command_timeout_s = 600 Seconds "how long a client may take to fill in the form of a command";
    command_text_bytes_max = 4096 Bytes "one field in the form of a command";
    command_addresses_max = 100 Count "addresses in one field of it";
    command_items_max = 1000 Count "users in the answer to a command that lists them";
    invites_per_account_max = 10 Count "open invitations to become the contact of one account that its owner may have \
        made (XEP-0401)";
    tls_timeout_s = 10 Seconds "from the start of a TLS handshake to its end";
    auth_timeout_s = 30 Seconds "from accepting a connection to the end of authentication";
    close_timeout_s = 5 Seconds "how long a closed stream may take to be written and answered";
    hash_queue_max = 64 Count "password checks waiting for the hashing thread; more are refused \
        with temporary-auth-failure";
    out_bytes_max = 1572864 Bytes "bytes waiting in the queue of one connection, but for those that the disk has, such \
        as offline messages; a peer that lets more wait is closed";
    out_window_bytes = 65536 Bytes "bytes handed to one socket before it has taken them";
    fair_bytes = 16384 Bytes "what a connection or a session may hold when memory is short; whoever holds more is \
        closed first";
    account_bytes_max = 4194304 Bytes "what all connections and waiting sessions of one account hold together; then \
        the one that holds most is closed";
    tick_bytes_max = 1048576 Bytes "what is read, answered and passed on in one tick before all of it is flushed; a \
        quarter of the memory that is left, if that is less";
    tick_inputs_max = 512 Count "reads handled in one tick before everything is flushed";
    turn_stanzas_max = 128 Count "stanzas of one connection handled before it is the turn of others; what more it has \
        sent waits for the next tick";
    tick_handshakes_max = 8 Count "TLS handshake steps in one tick, so that strangers cannot starve clients";
    store_pending_bytes_max = 4194304 Bytes "writes on their way to the disk; more are refused \
        with resource-constraint";
    sm_unacked_max = 500 Count "stanzas that a client with stream management (XEP-0198) may leave unacknowledged: more \
        wait until it acknowledges some, and end a session without connection, whose messages then go elsewhere";
    sm_resume_timeout_s = 600 Seconds "how long a session whose connection is lost waits to be resumed";
    sm_parked_max = 5 Count "sessions of one account that wait to be resumed; another ends the oldest";
    sm_ended_max = 1000 Count "sessions that are over and of which the server can still say how much it has received, \
        also after a restart; a sixteenth more until they are counted";
    sm_spool_delay_ms = 100 Milliseconds "how long the recipient of a message has to acknowledge it, before it is \
        written to the disk so that its sender can be told that it is safe";
    sm_ack_delay_s = 30 Seconds "how long a client may owe an acknowledgement (XEP-0198) before its push service \
        hears of what it has not seen (XEP-0357), as Prosody's smacks_max_ack_delay; 0s: as long as its connection \
        stands";
    sm_wait_max_s = 604800 Seconds "how long a session without connection waits to be resumed at most, whatever a \
        module asks for";
    push_services_max = 5 Count "push registrations of an account (XEP-0357), as Prosody's push_max_devices; another \
        ends the oldest";
    push_bytes_max = 4096 Bytes "node and options of one of them";
    push_errors_max = 16 Count "errors in a row after which a push service is told of nothing for an account any more, \
        as Prosody's push_max_errors";
    csi_held_max = 256 Count "stanzas held back from a client that nobody looks at (XEP-0352), as Prosody's \
        csi_queue_size; one more and all of them leave";
    s2s_dials_max = 32 Count "attempts to connect to other servers at a time; others wait";
    s2s_dial_timeout_s = 30 Seconds "one attempt to find and connect to another server, all its hosts and addresses";
    s2s_connect_timeout_s = 10 Seconds "one host of another server, all its addresses";
    dns_answers_max = 256 Count "answers of name servers that are remembered until their time is up";
    #[cfg(feature = "http")]
    http_head_timeout_s = 10 Seconds "how long a client may take for the head of a request (HTTP), from its connection \
        or the first byte on";
    #[cfg(feature = "http")]
    http_idle_timeout_s = 60 Seconds "how long a connection of HTTP may wait for another request";
    #[cfg(feature = "http")]
    http_content_timeout_s = 30 Seconds "how long a client may take for each 16 kB that it sends or takes by HTTP";
    #[cfg(feature = "http")]
    http_files_max = 64 Count "files that are brought or fetched by HTTP at a time";
    #[cfg(feature = "http")]
    http_delivery_wait_s = 20 Seconds "how long what an application server brings (UnifiedPush) waits for the client's \
        word that it has it";
    #[cfg(feature = "http")]
    bosh_wait_s = 120 Seconds "how long a request of BOSH (XEP-0124) waits for an answer, as Prosody's bosh_max_wait";
    #[cfg(feature = "http")]
    bosh_inactivity_s = 60 Seconds "how long a client of BOSH may have no request here, as Prosody's \
        bosh_max_inactivity";
    #[cfg(feature = "http")]
    bosh_pause_s = 120 Seconds "how long it may say beforehand that it will have none";
    #[cfg(feature = "upload")]
    upload_slots_max = 500 Count "files that one account may upload in 24 hours (XEP-0363)";
    #[cfg(feature = "unified_push")]
    unified_push_per_minute_max = 60 Count "what an application server may bring to one endpoint in a minute";
    #[cfg(feature = "unified_push")]
    unified_push_asked_max = 256 Count "what application servers have brought and clients have not acknowledged; more \
        is refused for now";
    panics_per_minute_max = 10 Count "caught bugs in a minute before the process exits for its supervisor";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_field_and_its_default() {
        let mut limits = Limits::default();
        for row in TABLE {
            assert_eq!(limits.by_name(row.name).map(|v| *v), Some(row.default), "{}", row.name);
            assert!(!row.reason.is_empty(), "{}", row.name);
        }
        assert!(limits.by_name("no_such_limit").is_none());
    }
}
