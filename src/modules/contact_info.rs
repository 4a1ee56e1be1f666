//! Contact addresses of the people behind a server (XEP-0157), in its service discovery (XEP-0128).

use super::{Module, Xep};
use crate::core::disco::{Disco, Form};
use crate::core::settings::Settings;
use crate::setting::section;
use crate::xml::ns;

section! {
    /// Whom to write to (XEP-0157): lists of addresses such as "mailto:abuse@example.org", "xmpp:romeo@example.org",
    /// "https://example.org/status".
    pub struct Config in "modules.contact_info" {
        /// About abuse.
        pub abuse: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// The administrators. Without any, those of `admins`.
        pub admin: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// With praise and blame.
        pub feedback: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// About an account that costs something.
        pub sales: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// About security.
        pub security: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// Where to look when the server is gone.
        pub status: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
        /// For help.
        pub support: Vec<String> = Vec::new() => |list: &Vec<String>| are_uris(list),
    }
}

fn are_uris(list: &[String]) -> Result<(), String> {
    let is_uri = |text: &str| {
        text.split_once(':').is_some_and(|(scheme, rest)| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(fits) && !rest.is_empty()
        })
    };
    match list.iter().find(|text| !is_uri(text)) {
        Some(text) => Err(format!("\"{text}\" is no URI; write for example \"mailto:{text}\" or \"xmpp:{text}\"")),
        None => Ok(()),
    }
}

/// The module.
pub struct ContactInfo {
    config: Config,
}

impl Module for ContactInfo {
    const XEPS: &'static [Xep] = &[Xep { number: 157, version: "1.1.1" }, Xep { number: 128, version: "1.0.1" }];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    fn disco(&self, settings: &Settings, _: &str, disco: &mut Disco) {
        let Config { abuse, admin, feedback, sales, security, status, support } = self.config.clone();
        let admins = || settings.admins.iter().map(|jid| format!("xmpp:{jid}")).collect();
        let admin = if admin.is_empty() { admins() } else { admin };
        let mut fields = vec![
            ("abuse-addresses", abuse),
            ("admin-addresses", admin),
            ("feedback-addresses", feedback),
            ("sales-addresses", sales),
            ("security-addresses", security),
            ("status-addresses", status),
            ("support-addresses", support),
        ];
        fields.retain(|(_, addresses)| !addresses.is_empty());
        if !fields.is_empty() {
            disco.host.forms.push(Form { form_type: ns::SERVER_INFO, fields });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_uris() {
        let right = ["mailto:abuse@example.org", "xmpp:romeo@example.org", "https://example.org/status"];
        assert_eq!(are_uris(&right.map(str::to_string)), Ok(()));
        for wrong in ["romeo@example.org", "", "xmpp:", ":x", "1a:x", "not a:uri"] {
            assert!(are_uris(&[wrong.to_string()]).is_err(), "{wrong}");
        }
    }
}
