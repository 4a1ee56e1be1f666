//! What options and modules of Prosody are called here.

use super::config::{Scope, Settings, not_run};
use super::convert::{Out, plain};
use crate::jid::Jid;
use crate::modules::KNOWN;
use crate::moving::lua::{Table, Value};
use crate::setting;

/// What becomes of an option.
#[derive(Clone, Copy)]
pub enum Rule {
    /// A key with the same value.
    Same(&'static str, &'static str),
    /// Nothing, and why.
    Nothing(&'static str),
    /// Nothing, which nobody needs to hear of: it is so in any case, or was looked at elsewhere.
    Silent,
    /// Something else.
    By(fn(&mut Out, &str, &Value)),
}

use Rule::{By, Nothing, Same, Silent};

const ONE_FILE: &str = "everything is kept in one file; see [storage], and `couplet import prosody` for what is there";
const COMPRESSION: &str = "off: compression under encryption can leak secrets; CSI saves the bytes; see [compression]";
const NO_GC: &str = "nothing is needed: there is no garbage collector";
const ALWAYS: &str = "nothing is needed: it is always so";
const BY_SYSTEM: &str = "the service manager does that";
const NOT_YET: &str = "this build has nothing of that";
const FIREWALL: &str = "scripts of its rules are not read; write [[rules]]";
const TLS: &str = "TLS 1.2 and 1.3 with ciphers that are safe, and certificates from tls.certificates";

/// The rule of an option; none when its name says nothing.
pub fn rule(name: &str) -> Option<Rule> {
    let found = OPTIONS.iter().find(|(names, _)| names.contains(&name)).map(|(_, rule)| *rule);
    found.or_else(|| FAMILIES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, why)| Nothing(why)))
}

/// Options by the start of their names.
const FAMILIES: &[(&str, &str)] = &[
    ("sql", ONE_FILE),
    ("storage", ONE_FILE),
    ("ldap", "accounts are kept here alone"),
    ("lua_gc", NO_GC),
    ("http", NOT_YET),
    ("https", NOT_YET),
    ("bosh", NOT_YET),
    ("websocket", NOT_YET),
    ("upload", NOT_YET),
    ("archive", NOT_YET),
    ("mam", NOT_YET),
    ("muc_log", NOT_YET),
    ("push", NOT_YET),
    ("proxy65", "there is no proxy for files"),
    ("statistics", "`couplet status` shows what the server does"),
    ("openmetrics", NOT_YET),
    ("firewall", FIREWALL),
    ("component_", "see [components]"),
    ("invites_", "invitations are made by `couplet invite`"),
    ("dns", "see [dns]"),
    ("unbound", "see [dns]"),
    ("use_", BY_SYSTEM),
    ("tls_", TLS),
];

const OPTIONS: &[(&[&str], Rule)] = &[
    (&["admins"], By(admins)),
    (&["modules_enabled"], By(modules_enabled)),
    (&["modules_disabled"], By(modules_disabled)),
    (&["enabled", "defined", "component_module", "component_secret", "load_global_modules"], Silent),
    // Read together with each other, at the end.
    (
        &[
            "c2s_ports",
            "s2s_ports",
            "c2s_direct_tls_ports",
            "legacy_ssl_ports",
            "s2s_direct_tls_ports",
            "component_ports",
            "interfaces",
            "c2s_interfaces",
            "s2s_interfaces",
            "component_interfaces",
            "component_interface",
            "c2s_direct_tls_interfaces",
            "legacy_ssl_interfaces",
            "s2s_direct_tls_interfaces",
            "interface",
        ],
        Silent,
    ),
    (&["c2s_require_encryption", "require_encryption"], Same("c2s", "encryption_required")),
    (&["s2s_require_encryption", "s2s_encryption"], Nothing(ALWAYS)),
    (&["allow_unencrypted_plain_auth"], Nothing("passwords go through TLS alone")),
    (&["s2s_secure_auth"], Same("s2s", "secure_auth")),
    (&["s2s_insecure_domains"], Same("s2s", "insecure_domains")),
    (&["s2s_secure_domains"], By(secure_domains)),
    (&["s2s_blacklist", "s2s_blocked_domains"], Same("s2s", "blocked_domains")),
    (&["s2s_whitelist", "s2s_allowed_domains"], Same("s2s", "allowed_domains")),
    (&["certificates"], By(certificates)),
    (&["certificate", "ssl"], By(tls)),
    (&["authentication"], By(authentication)),
    (&["default_iteration_count", "iteration_count"], Same("sasl", "iterations")),
    (&["sasl_mechanisms", "disable_sasl_mechanisms"], By(mechanisms)),
    (&["storage", "default_storage", "data_path", "cache_storage"], Nothing(ONE_FILE)),
    (&["redis", "cache", "cache_policies"], Nothing(ONE_FILE)),
    (&["log"], By(log)),
    (&["limits"], By(limits)),
    (&["limits_resolution"], Nothing(ALWAYS)),
    (&["connection_limits"], By(connection_limits)),
    (&["c2s_stanza_size_limit"], Same("limits", "stanza_bytes_max")),
    (&["s2s_stanza_size_limit"], Same("limits", "s2s_stanza_bytes_max")),
    (&["c2s_timeout"], Same("limits", "auth_timeout_s")),
    (&["s2s_timeout"], Same("limits", "s2s_auth_timeout_s")),
    (&["s2s_idle_timeout"], Same("limits", "s2s_idle_timeout_s")),
    (&["max_connections"], Same("limits", "connections_max")),
    (&["max_resources"], Same("limits", "resources_max")),
    (&["pep_max_items", "pubsub_max_items"], Same("limits", "pubsub_items_max")),
    (&["autocreate_on_publish"], Same("modules.pubsub", "auto_create")),
    (&["smacks_hibernation_time"], Same("limits", "sm_resume_timeout_s")),
    (&["smacks_max_queue_size"], Same("limits", "sm_unacked_max")),
    (&["smacks_max_hibernated_sessions"], Same("limits", "sm_parked_max")),
    (&["smacks_max_unacked_stanzas", "smacks_max_ack_delay", "smacks_max_inactive_unacked_stanzas"], Nothing(ALWAYS)),
    (&["csi_queue_size"], Same("limits", "csi_held_max")),
    (&["memory_limit"], Same("memory", "max")),
    (&["memory_warning_threshold"], By(percent)),
    (&["module_memory_limits"], By(quotas)),
    (&["send_buffer_size"], Same("limits", "out_window_bytes")),
    (&["receive_buffer_size", "connection_pool"], Nothing("nothing is needed: what is read is handled at once")),
    (&["gc_settings", "gc"], Nothing(NO_GC)),
    (&["network"], By(network)),
    (&["compression"], Nothing(COMPRESSION)),
    (&["message_optimization"], Nothing("nothing is needed: writes are gathered, and CSI holds presence back")),
    (&["allow_registration"], Same("modules.register", "open")),
    (&["registration_watchers"], Same("modules.register", "notify")),
    (&["registration_notification"], Nothing("the message has its own text")),
    (&["welcome_message"], Same("modules.register", "welcome")),
    (&["min_seconds_between_registrations"], By(registrations)),
    (&["registration_whitelist", "registration_blacklist"], Nothing("modules.register.per_address is for all")),
    (&["motd_text"], Same("modules.motd", "text")),
    (&["muc_rtbls"], Same("modules.rtbl", "lists")),
    (&["allow_user_invites"], Same("modules.invites", "users")),
    (&["contact_info"], By(contact_info)),
    (&["disco_items"], By(disco_items)),
    (&["turn_external_host", "turn_external_port", "turn_external_tls_port"], By(turn)),
    (&["turn_external_secret"], Same("modules.external_services", "secret")),
    (&["turn_external_ttl"], Same("modules.external_services", "lifetime")),
    (&["external_service_secret"], Same("modules.external_services", "secret")),
    (&["external_service_ttl"], Same("modules.external_services", "lifetime")),
    (&["external_services"], By(external_services)),
    (&["restrict_room_creation"], By(room_creation)),
    (&["muc_room_default_persistent"], Same("modules.muc", "persistent")),
    (&["muc_room_default_public"], Same("modules.muc", "public")),
    (&["muc_room_default_history_length"], Same("modules.muc", "history")),
    (&["max_history_messages"], Same("limits", "muc_history_max")),
    (&["prosody_user", "user"], Same("process", "user")),
    (&["prosody_group", "group"], Same("process", "group")),
    (&["daemonize", "pidfile", "umask", "run_as_root", "network_backend", "network_settings"], Nothing(BY_SYSTEM)),
    (&["plugin_paths", "plugin_server", "installer_plugin_path", "community_plugins"], Nothing("there are no plugins")),
    (&["statistics"], Nothing("figures are always taken; [statistics] says how often, and who gets them")),
    (&["statistics_interval"], Same("statistics", "interval")),
    (&["statistics_config"], By(statistics)),
    (&["performance_thresholds"], Nothing("Prometheus watches: cross/deploy/prometheus/couplet.rules.yml")),
    (&["measure_extra_unregistered", "apm"], Nothing(NOT_YET)),
    (&["resource_scaling"], Nothing("nothing is needed: it takes what it needs, up to memory.max")),
    (&["cluster", "s2s_settings"], Nothing(NOT_YET)),
    (&["trusted_proxies"], Same("http", "trusted_proxies")),
    (&["http_external_url"], Same("http", "external_url")),
    (&["http_file_share_size_limit", "http_upload_file_size_limit"], Same("modules.upload", "size_max")),
    (&["http_file_share_daily_quota", "http_upload_quota"], Same("modules.upload", "daily_quota")),
    (&["http_file_share_global_quota"], Same("modules.upload", "total_quota")),
    (&["http_file_share_expires_after", "http_upload_expire_after"], Same("modules.upload", "expires")),
    (&["unified_push_registration_ttl"], Same("modules.unified_push", "expires")),
    (&["push_notification_with_sender"], Same("modules.push", "with_sender")),
    (&["push_notification_with_body"], Same("modules.push", "with_body")),
    (&["push_notification_important_body"], Same("modules.push", "important_body")),
    (&["openmetrics_allow_ips"], Same("http", "metrics_from")),
    (&["cross_domain_websocket", "cross_domain_bosh"], By(origins)),
    (&["consider_bosh_secure", "consider_websocket_secure"], Nothing("http.trusted_proxies say it themselves")),
    (&["http_ports", "https_ports", "http_interfaces", "https_interfaces"], Silent),
    (&["name"], Nothing("a host has no name of its own")),
    (&["groups_file"], Nothing(NOT_YET)),
];

/// Of a module: nothing to say, or why there is none; `None` when its name says nothing.
pub fn module(name: &str) -> Option<Option<&'static str>> {
    if SAME.contains(&name) {
        return Some(None);
    }
    if let Some((_, ours)) = OURS.iter().find(|(theirs, _)| *theirs == name) {
        let is_built = KNOWN.iter().any(|(known, built)| known == ours && *built);
        return Some((!is_built).then_some(NOT_YET));
    }
    OTHER.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| Some(*why))
}

/// Modules of Prosody that are part of every build.
const SAME: &[&str] = &[
    "roster",
    "saslauth",
    "tls",
    "dialback",
    "disco",
    "smacks",
    "limits",
    "posix",
    "c2s",
    "s2s",
    "s2s_auth_certs",
    "s2s_auth_dane_in",
    "presence",
    "message",
    "iq",
    "stanza_debug",
    "uptime",
    "component",
    "s2s_bidi",
    "sasl2",
    "bosh",
    "websocket",
    "http",
    "http_errors",
    "http_host_status_check",
    "http_openmetrics",
    "prometheus",
    "sasl2_bind2",
    "sasl2_sm",
    "sasl2_fast",
    "bind2",
    "isolate_host",
    "certificates_reload",
    "host_guard",
];

/// Modules that have a name of their own here.
const OURS: &[(&str, &str)] = &[
    ("carbons", "carbons"),
    ("pep", "pep"),
    ("pep_simple", "pep"),
    ("private", "private"),
    ("blocklist", "blocking"),
    ("blocking", "blocking"),
    ("vcard", "vcard"),
    ("vcard4", "pep"),
    ("vcard_legacy", "avatars"),
    ("vcard_muc", "muc"),
    ("muc", "muc"),
    ("muc_unique", "muc"),
    ("muc_occupant_id", "muc"),
    ("pubsub", "pubsub"),
    ("version", "version"),
    ("time", "time"),
    ("ping", "ping"),
    ("lastactivity", "last"),
    ("register", "register"),
    ("register_ibr", "register"),
    ("register_limits", "register"),
    ("user_account_management", "register"),
    ("watchregistrations", "register"),
    ("welcome", "register"),
    ("invites", "invites"),
    ("invites_register", "invites"),
    ("invites_adhoc", "invites"),
    ("adhoc", "commands"),
    ("admin_adhoc", "commands"),
    ("announce", "commands"),
    ("csi", "csi"),
    ("csi_simple", "csi"),
    ("csi_battery_saver", "csi"),
    ("bookmarks", "bookmarks"),
    ("bookmarks2", "bookmarks"),
    ("offline", "offline"),
    ("motd", "motd"),
    ("server_contact_info", "contact_info"),
    ("turn_external", "external_services"),
    ("external_services", "external_services"),
    ("caps", "caps"),
    ("reports", "blocking"),
    ("spam_reporting", "blocking"),
    ("muc_rtbl", "rtbl"),
    ("mam", "mam"),
    ("mam_muc", "mam"),
    ("muc_mam", "mam"),
    ("cloud_notify", "push"),
    ("unified_push", "unified_push"),
    ("http_upload_external", "upload"),
    ("http_upload_external", "upload"),
    ("http_file_share", "upload"),
    ("http_upload", "upload"),
];

const OTHER: &[(&[&str], &str)] = &[
    (
        &["admin_shell", "admin_telnet", "admin_socket", "admin_web"],
        "`couplet status` and other commands ask the server",
    ),
    (&["http_files"], NOT_YET),
    (&["statistics", "measure_cpu", "measure_memory", "measure_message_e2e"], "http.metrics_from may read /metrics"),
    (&["proxy65"], "there is no proxy for files"),
    (&["pubsub_hub", "groups", "mimicking", "tombstones"], NOT_YET),
    (&["firewall"], FIREWALL),
    (&["anti_spam", "block_strangers"], "see [modules.strangers], [modules.rtbl] and [[rules]]"),
    (&["legacyauth", "auth_legacy"], "not offered: it is not safe"),
    (&["compression"], COMPRESSION),
    (&["storage_sql", "storage_internal", "storage_memory", "storage_xmlarchive"], ONE_FILE),
];

/// The texts of a list; of what would have to be run a line is left.
fn names(out: &mut Out, option: &str, value: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let list = match value {
        Value::Table(table) => table.0.iter().map(|(_, value)| value).collect(),
        one => vec![one],
    };
    for item in list {
        match item {
            Value::Unread(unread) => out.note(format!("{option}: {}", not_run(unread))),
            item => match item.text() {
                Some(text) => names.push(text.to_string()),
                None => out.note(format!("{option}: something in it is no text")),
            },
        }
    }
    names
}

fn admins(out: &mut Out, option: &str, value: &Value) {
    for admin in names(out, option, value) {
        let jid = Jid::parse(&admin).ok().filter(|jid| jid.node().is_some() && jid.is_bare());
        match jid {
            Some(jid) => out.add("", "admins", option, jid.as_str().to_string()),
            None => out.note(format!("{option}: {admin:?} is no address")),
        }
    }
}

fn modules_enabled(out: &mut Out, option: &str, value: &Value) {
    for name in names(out, option, value) {
        match module(&name) {
            Some(None) => {}
            Some(Some(why)) => out.note(format!("{option}: {name:?}: {why}")),
            None => out.note(format!("{option}: {name:?}: there is no equal here")),
        }
        if name == "dialback" && !out.has("s2s", "dialback") {
            out.set("s2s", "dialback", setting::Value::Bool(true));
        }
    }
}

fn modules_disabled(out: &mut Out, option: &str, value: &Value) {
    for name in names(out, option, value) {
        let ours = OURS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
        let host = if let Scope::Host(host) = &out.scope { Jid::parse(host).ok() } else { None };
        let host = host.map(|host| format!("@{}", host.domain())).unwrap_or_default();
        match ours {
            _ if name == "s2s" => out.set("s2s", "enabled", setting::Value::Bool(false)),
            Some(ours) => out.add("modules", "disabled", option, format!("{ours}{host}")),
            None => out.note(format!("{option}: {name:?}: it cannot be switched off")),
        }
    }
}

fn secure_domains(out: &mut Out, option: &str, value: &Value) {
    let domains = names(out, option, value);
    if !domains.is_empty() && out.has("s2s", "secure_auth") {
        out.note(format!("{option}: with s2s.secure_auth it is so for all but s2s.insecure_domains"));
    }
}

fn certificates(out: &mut Out, option: &str, value: &Value) {
    let Some(path) = value.text() else { return out.note(format!("{option}: a path in quotes is needed")) };
    let path = if path.starts_with('/') { path.to_string() } else { format!("{}{path}", out.folder) };
    out.try_set("tls", "certificates", option, setting::Value::Str(path));
}

fn tls(out: &mut Out, option: &str, _: &Value) {
    out.note(format!("{option}: {TLS}"));
}

fn authentication(out: &mut Out, option: &str, value: &Value) {
    match value.text() {
        Some("internal_hashed" | "internal_plain") => {}
        Some(other) => out.note(format!("{option}: {other:?}: accounts are kept here alone")),
        None => out.note(format!("{option}: accounts are kept here alone")),
    }
}

fn mechanisms(out: &mut Out, option: &str, value: &Value) {
    let listed = names(out, option, value);
    let has_plain = listed.iter().any(|name| name == "PLAIN");
    if has_plain == (option == "disable_sasl_mechanisms") {
        out.set("sasl", "plain", setting::Value::Bool(false));
    }
    out.note(format!("{option}: beside PLAIN nothing can be chosen; see [sasl]"));
}

fn log(out: &mut Out, option: &str, value: &Value) {
    const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];
    let level = |name: &str| LEVELS.iter().position(|l| *l == name);
    // Where each level goes.
    let mut sinks: Vec<(usize, String)> = Vec::new();
    match value {
        Value::Text(_) => sinks.extend(value.text().map(|path| (2, path.to_string()))),
        Value::Table(table) => {
            sinks.extend(table.named().filter_map(|(name, to)| Some((level(name)?, to.text()?.to_string()))));
            for sink in table.list().into_iter().filter_map(Value::table) {
                let to = sink.get("filename").or(sink.get("to")).and_then(Value::text).unwrap_or_default();
                let levels = sink.get("levels").and_then(Value::table);
                let min = sink.get("levels").and_then(|l| l.table()?.get("min")?.text()).and_then(level);
                let listed = levels.into_iter().flat_map(|l| l.list()).filter_map(|l| level(l.text()?)).max();
                let to = if to == "file" { "" } else { to };
                sinks.push((min.or(listed).unwrap_or(2), to.to_string()));
            }
        }
        _ => {}
    }
    // The one that takes most.
    let Some((most, to)) = sinks.iter().max_by_key(|(level, _)| *level).cloned() else {
        return out.note(format!("{option}: a value of this form is not understood"));
    };
    let word = |text: &str| setting::Value::Str(text.to_string());
    out.set("log", "level", word(LEVELS.get(most).copied().unwrap_or("info")));
    match to.as_str() {
        "*console" | "console" | "" => out.set("log", "output", word("stderr")),
        "*syslog" | "syslog" => out.set("log", "output", word("syslog")),
        path => {
            let path = path.replace("prosody", "couplet");
            let path = if path.starts_with('/') { path } else { format!("{}{path}", out.folder) };
            out.set("log", "output", word("file"));
            out.set("log", "file", word(&path));
        }
    }
    if sinks.len() > 1 {
        out.note(format!("{option}: there is one log; of {} the one was taken that says most", sinks.len()));
    }
}

/// Sets keys of a table one by one; of fields without a key a line is left.
fn fields(out: &mut Out, option: &str, value: &Value, keys: &[(&str, Rule)]) {
    let Some(table) = value.table() else { return out.note(format!("{option}: a table is needed")) };
    for (name, value) in table.named() {
        let full = format!("{option}.{name}");
        if let Value::Unread(unread) = value {
            out.note(format!("{full}: {}", not_run(unread)));
            continue;
        }
        match keys.iter().find(|(key, _)| *key == name).map(|(_, rule)| *rule) {
            Some(Same(section, key)) => out.same(section, key, &full, value),
            Some(By(by)) => by(out, &full, value),
            Some(Nothing(why)) => out.note(format!("{full}: {why}")),
            Some(Silent) => {}
            None => out.note(format!("{full}: there is no equal here")),
        }
    }
}

fn limits(out: &mut Out, option: &str, value: &Value) {
    const C2S: &[(&str, Rule)] = &[
        ("rate", Same("limits.c2s", "rate")),
        ("burst", Same("limits.c2s", "burst")),
        ("adaptive", Same("limits.rates", "adaptive")),
        ("good_user_bonus", Same("limits.rates", "good_user_bonus")),
        ("bad_user_penalty", Same("limits.rates", "bad_user_penalty")),
        ("whitelist", Same("limits.rates", "exempt")),
    ];
    const S2S: &[(&str, Rule)] = &[
        ("rate", Same("limits.s2s", "rate")),
        ("burst", Same("limits.s2s", "burst")),
        ("per_server", Nothing(ALWAYS)),
        ("adaptive", Same("limits.rates", "adaptive")),
        ("whitelist", Same("limits.rates", "exempt")),
    ];
    const KINDS: &[(&str, Rule)] = &[
        ("c2s", By(|out, option, value| fields(out, option, value, C2S))),
        ("s2sin", By(|out, option, value| fields(out, option, value, S2S))),
        ("s2s", By(|out, option, value| fields(out, option, value, S2S))),
        ("s2sout", Nothing("limits.s2s is for both directions; that of s2sin was taken")),
    ];
    fields(out, option, value, KINDS);
}

fn connection_limits(out: &mut Out, option: &str, value: &Value) {
    const KEYS: &[(&str, Rule)] = &[
        ("max_per_ip", Same("limits", "connections_per_address_max")),
        ("max_per_user", Same("limits", "resources_max")),
        ("max_total", Same("limits", "connections_max")),
        ("new_connection_rate", By(a_second)),
        ("new_connection_burst", Same("limits", "new_connection_burst")),
    ];
    fields(out, option, value, KEYS);
}

/// `"1/s"`, or a number.
fn a_second(out: &mut Out, option: &str, value: &Value) {
    let number = value.text().and_then(|text| text.trim().trim_end_matches("/s").trim().parse().ok()).or(value.int());
    match number {
        Some(number) => out.try_set("limits", "new_connection_rate", option, setting::Value::Int(number)),
        None => out.note(format!("{option}: a number of connections a second is needed")),
    }
}

fn percent(out: &mut Out, option: &str, value: &Value) {
    match value.number() {
        Some(part) => out.try_set("memory", "warning", option, setting::Value::Int((part * 100.0).round() as i64)),
        None => out.note(format!("{option}: a number is needed")),
    }
}

fn quotas(out: &mut Out, option: &str, value: &Value) {
    for (name, bytes) in value.table().into_iter().flat_map(Table::named) {
        let ours = OURS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
        match (ours.filter(|ours| KNOWN.iter().any(|(known, built)| known == ours && *built)), bytes.int()) {
            (Some(ours), Some(bytes)) => out.add("memory", "modules", option, format!("{ours}={bytes} B")),
            _ => out.note(format!("{option}.{name}: {NOT_YET}")),
        }
    }
}

fn network(out: &mut Out, option: &str, value: &Value) {
    const KEYS: &[(&str, Rule)] = &[
        ("tcp_nodelay", Same("tcp", "nodelay")),
        ("tcp_keepalive", By(keepalive)),
        ("tcp_keepalive_idle", Same("tcp", "keepalive_idle")),
        ("tcp_keepalive_interval", Same("tcp", "keepalive_interval")),
        ("tcp_keepalive_count", Same("tcp", "keepalive_count")),
        ("send_buffer_size", Same("limits", "out_window_bytes")),
        ("receive_buffer_size", Nothing("nothing is needed: what is read is handled at once")),
        ("max_connections_per_ip", Same("limits", "connections_per_address_max")),
        ("max_connections_total", Same("limits", "connections_max")),
    ];
    fields(out, option, value, KEYS);
}

fn keepalive(out: &mut Out, _: &str, value: &Value) {
    if value.bool() == Some(false) {
        out.set("tcp", "keepalive_idle", setting::Value::Int(0));
    }
}

fn registrations(out: &mut Out, option: &str, value: &Value) {
    if let Some(value) = plain(value) {
        out.try_set("modules.register", "period", option, value);
        out.set("modules.register", "per_address", setting::Value::Int(1));
    }
}

fn statistics(out: &mut Out, option: &str, value: &Value) {
    const KEYS: &[(&str, Rule)] = &[
        ("interval", Same("statistics", "interval")),
        ("retain_for", Same("statistics", "retention")),
        ("prefix", Same("statistics", "prefix")),
        ("graphite_server", Silent),
        ("graphite_port", Silent),
        ("statsd_server", Silent),
        ("statsd_port", Silent),
    ];
    fields(out, option, value, KEYS);
    for (key, server, port, usual) in
        [("graphite", "graphite_server", "graphite_port", 2003), ("statsd", "statsd_server", "statsd_port", 8125)]
    {
        let get = |key: &str| value.table().and_then(|table| table.get(key));
        if let Some(host) = get(server).and_then(Value::text) {
            let port = get(port).and_then(Value::int).unwrap_or(usual);
            out.try_set("statistics", key, option, setting::Value::Str(format!("{host}:{port}")));
        }
    }
}

fn contact_info(out: &mut Out, option: &str, value: &Value) {
    const KEYS: &[(&str, Rule)] = &[
        ("abuse", Same("modules.contact_info", "abuse")),
        ("admin", Same("modules.contact_info", "admin")),
        ("feedback", Same("modules.contact_info", "feedback")),
        ("sales", Same("modules.contact_info", "sales")),
        ("security", Same("modules.contact_info", "security")),
        ("status", Same("modules.contact_info", "status")),
        ("support", Same("modules.contact_info", "support")),
    ];
    fields(out, option, value, KEYS);
}

fn disco_items(out: &mut Out, option: &str, value: &Value) {
    for item in value.table().into_iter().flat_map(Table::list) {
        let address = item.text().or_else(|| item.table()?.0.first()?.1.text());
        match address {
            Some(address) => out.add("modules.disco", "items", option, address.to_string()),
            None => out.note(format!("{option}: an item has no address")),
        }
    }
}

fn turn(out: &mut Out, option: &str, value: &Value) {
    match (option, value.text(), value.int()) {
        ("turn_external_host", Some(host), _) => {
            for service in [
                format!("stun:{host}:3478"),
                format!("turn:{host}:3478?transport=udp"),
                format!("turn:{host}:3478?transport=tcp"),
            ] {
                out.add("modules.external_services", "services", option, service);
            }
        }
        ("turn_external_port", _, Some(3478)) => {}
        _ => out.note(format!("{option}: write the port into modules.external_services.services")),
    }
}

fn external_services(out: &mut Out, option: &str, value: &Value) {
    for service in value.table().into_iter().flat_map(Table::list).filter_map(Value::table) {
        let text = |key: &str| service.get(key).and_then(Value::text);
        let (Some(kind), Some(host)) = (text("type"), text("host")) else {
            out.note(format!("{option}: a service has no type or no host"));
            continue;
        };
        let port = service.get("port").and_then(Value::int).map(|p| format!(":{p}")).unwrap_or_default();
        let transport = text("transport").map(|t| format!("?transport={t}")).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        out.add("modules.external_services", "services", option, format!("{kind}:{host}{port}{transport}"));
        if let Some(secret) = service.get("secret").and_then(plain).filter(|s| s.text().is_some()) {
            out.try_set("modules.external_services", "secret", option, secret);
        }
    }
}

fn origins(out: &mut Out, option: &str, value: &Value) {
    match value.bool() {
        Some(true) => out.add("http", "origins", option, "*".to_string()),
        Some(false) => out.set("http", "origins", setting::Value::List(Vec::new())),
        None => {
            for origin in names(out, option, value) {
                out.add("http", "origins", option, origin);
            }
        }
    }
}

fn room_creation(out: &mut Out, option: &str, value: &Value) {
    match (value.bool(), value.text()) {
        (Some(is), _) => out.set("modules.muc", "restrict_creation", setting::Value::Bool(is)),
        (_, Some("admin")) => out.set("modules.muc", "restrict_creation", setting::Value::Bool(true)),
        _ => out.note(format!("{option}: only admins may create rooms, or everybody: modules.muc.restrict_creation")),
    }
}

/// Ports and addresses, which stand in options of their own.
pub fn listeners(out: &mut Out, settings: &Settings) {
    let lists: [(&'static str, &'static str, &[&str], &[&str]); 7] = [
        ("http", "listen", &["http_ports"], &["http_interfaces"]),
        ("http", "tls_listen", &["https_ports"], &["https_interfaces"]),
        ("c2s", "listen", &["c2s_ports"], &["c2s_interfaces"]),
        (
            "c2s",
            "direct_tls_listen",
            &["c2s_direct_tls_ports", "legacy_ssl_ports"],
            &["c2s_direct_tls_interfaces", "legacy_ssl_interfaces"],
        ),
        ("s2s", "listen", &["s2s_ports"], &["s2s_interfaces"]),
        ("s2s", "direct_tls_listen", &["s2s_direct_tls_ports"], &["s2s_direct_tls_interfaces"]),
        ("components", "listen", &["component_ports"], &["component_interfaces", "component_interface"]),
    ];
    for (section, key, ports, interfaces) in lists {
        let global = |names: &[&str]| names.iter().find_map(|name| settings.global(name)).cloned();
        let (port, own) = (global(ports), global(interfaces));
        // Programs connect to this machine alone unless something else was written for them.
        let is_local = section == "components" || (section == "http" && key == "listen");
        let shared = if is_local { None } else { global(&["interfaces", "interface"]) };
        let Some(interface) = own.or(shared).map(Some).or(port.is_some().then_some(None)) else { continue };
        let defaults: &[i64] = match (section, key) {
            ("c2s", "listen") => &[5222],
            ("c2s", _) => &[5223],
            ("s2s", "listen") => &[5269],
            ("s2s", _) => &[5270],
            ("http", "listen") => &[5280],
            ("http", _) => &[5281],
            _ => &[5347],
        };
        let numbers: Vec<i64> = match &port {
            None => defaults.to_vec(),
            Some(Value::Table(table)) => table.0.iter().filter_map(|(_, port)| port.int()).collect(),
            Some(port) => port.int().into_iter().collect(),
        };
        let any = if is_local { "127.0.0.1" } else { "::" };
        let addresses = interface.map_or_else(|| vec![any.to_string()], |value| names(out, key, &value));
        // Of both kinds means one socket here.
        let all = addresses.iter().any(|a| a == "::" || a == "*");
        let addresses = addresses.into_iter().filter(|a| !(all && a == "0.0.0.0"));
        let mut list = Vec::new();
        for address in addresses {
            let address = if address == "*" { "::".to_string() } else { address };
            let shown = if address.contains(':') { format!("[{address}]") } else { address };
            list.extend(numbers.iter().map(|port| setting::Value::Str(format!("{shown}:{port}"))));
        }
        out.try_set(section, key, key, setting::Value::List(list));
    }
}
