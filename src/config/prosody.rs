//! Variables of Prosody's official container image, for those who bring their settings along.

/// What a variable becomes here.
#[derive(Debug, PartialEq, Eq)]
pub enum Translation {
    /// Variables of ours with their texts.
    Is(Vec<(String, String)>),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// The name and text of a variable that starts with `PROSODY_`; the other variables are for what is read together.
pub fn translate(name: &str, value: &str, other: impl Fn(&str) -> Option<String>) -> Translation {
    let is = |key: &str, text: &str| Translation::Is(vec![(format!("COUPLET_{key}"), text.to_string())]);
    // There 0 is off, and anything else on.
    let switch = |key: &str| is(key, if value == "0" { "false" } else { "true" });
    match name {
        "PROSODY_VIRTUAL_HOSTS" => is("HOSTS", value),
        "PROSODY_ADMINS" => is("ADMINS", value),
        "PROSODY_LOGLEVEL" => is("LOG__LEVEL", value),
        "PROSODY_CERTIFICATES" => is("TLS__CERTIFICATES", value),
        "PROSODY_S2S_SECURE_AUTH" => switch("S2S__SECURE_AUTH"),
        "PROSODY_C2S_RATE_LIMIT" => is("LIMITS__C2S__RATE", value),
        "PROSODY_S2S_RATE_LIMIT" => is("LIMITS__S2S__RATE", value),
        "PROSODY_COMPONENTS" => {
            let of = |wanted| pairs(value).filter(move |(_, kind)| *kind == wanted).map(|(name, _)| name);
            let (rooms, nodes): (Vec<&str>, Vec<&str>) = (of("muc").collect(), of("pubsub").collect());
            let mut ours = vec![("COUPLET_MODULES__MUC__HOSTS".to_string(), rooms.join(","))];
            if cfg!(feature = "pubsub") && !nodes.is_empty() {
                ours.push(("COUPLET_MODULES__PUBSUB__HOSTS".to_string(), nodes.join(",")));
            }
            Translation::Is(ours)
        }
        "PROSODY_EXTERNAL_COMPONENTS" => {
            let shared = other("PROSODY_COMPONENT_SECRET").unwrap_or_default();
            let secret = |(name, own): (&str, &str)| format!("{name}={}", if own.is_empty() { &shared } else { own });
            is("COMPONENTS__SECRETS", &pairs(value).map(secret).collect::<Vec<_>>().join(","))
        }
        "PROSODY_TURN_SECRET" => is("MODULES__EXTERNAL_SERVICES__SECRET", value),
        "PROSODY_TURN_HOST" => {
            let port = other("PROSODY_TURN_PORT").unwrap_or_else(|| "3478".to_string());
            let mut services = vec![
                format!("stun:{value}:{port}"),
                format!("turn:{value}:{port}?transport=udp"),
                format!("turn:{value}:{port}?transport=tcp"),
            ];
            services.extend(other("PROSODY_TURN_TLS_PORT").map(|port| format!("turns:{value}:{port}?transport=tcp")));
            is("MODULES__EXTERNAL_SERVICES__SERVICES", &services.join(","))
        }
        "PROSODY_TURN_PORT" | "PROSODY_TURN_TLS_PORT" | "PROSODY_COMPONENT_SECRET" => Translation::Is(Vec::new()),
        "PROSODY_ENABLE_MODULES" => Translation::Nothing("all modules that are built in are on"),
        "PROSODY_DISABLE_MODULES" => {
            Translation::Nothing("modules have other names here; COUPLET_MODULES__DISABLED switches them off")
        }
        "PROSODY_RETENTION_DAYS"
        | "PROSODY_ARCHIVE_EXPIRY_DAYS"
        | "PROSODY_UPLOAD_EXPIRY_DAYS"
        | "PROSODY_UPLOAD_LIMIT_MB"
        | "PROSODY_UPLOAD_STORAGE_GB" => Translation::Nothing("there is no archive and no upload of files yet"),
        _ if name.starts_with("PROSODY_SQL_") || name == "PROSODY_STORAGE" => {
            Translation::Nothing("everything is kept in one file of its own format; see [storage]")
        }
        _ => Translation::Nothing("there is no equal here; `couplet config example` lists all keys"),
    }
}

/// The parts of `name:rest,name:rest`.
fn pairs(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once(':').unwrap_or((part, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Vec<(String, String)> {
        let other = |name: &str| (name == "PROSODY_COMPONENT_SECRET").then(|| "all".to_string());
        match translate(name, value, other) {
            Translation::Is(ours) => ours,
            Translation::Nothing(why) => panic!("{name}: {why}"),
        }
    }

    #[test]
    fn what_has_an_equal_is_translated() {
        assert_eq!(of("PROSODY_VIRTUAL_HOSTS", "a.lit,b.lit"), [("COUPLET_HOSTS".into(), "a.lit,b.lit".into())]);
        assert_eq!(of("PROSODY_S2S_SECURE_AUTH", "0"), [("COUPLET_S2S__SECURE_AUTH".into(), "false".into())]);
        let rooms = of("PROSODY_COMPONENTS", "rooms.a.lit:muc,share.a.lit:http_file_share");
        assert_eq!(rooms, [("COUPLET_MODULES__MUC__HOSTS".into(), "rooms.a.lit".into())]);
        #[cfg(feature = "pubsub")]
        assert_eq!(
            of("PROSODY_COMPONENTS", "rooms.a.lit:muc,news.a.lit:pubsub")[1],
            ("COUPLET_MODULES__PUBSUB__HOSTS".into(), "news.a.lit".into())
        );
        let secrets = of("PROSODY_EXTERNAL_COMPONENTS", "irc.a.lit:own, sms.a.lit");
        assert_eq!(secrets, [("COUPLET_COMPONENTS__SECRETS".into(), "irc.a.lit=own,sms.a.lit=all".into())]);
        let services = &of("PROSODY_TURN_HOST", "turn.a.lit")[0].1;
        assert_eq!(services.split(',').count(), 3);
    }

    #[test]
    fn what_has_none_says_so() {
        assert!(matches!(translate("PROSODY_SQL_HOST", "db", |_| None), Translation::Nothing(_)));
        assert!(matches!(translate("PROSODY_NO_SUCH", "1", |_| None), Translation::Nothing(_)));
    }
}
