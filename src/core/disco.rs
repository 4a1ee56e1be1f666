//! What the server says of itself and of its accounts (XEP-0030), collected once at start and at reload.

use crate::stanza::form;
use crate::xml::{Builder, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Names the software in entity capabilities, as XEP-0115 section 4 asks.
pub const NODE: &str = "https://couplet.im/";

/// `<identity/>` (XEP-0030 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Registered category.
    pub category: &'static str,
    /// Registered type.
    pub kind: &'static str,
    /// For people; may be empty.
    pub name: String,
}

/// The answer to a disco#info request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Who it is; in order once [`Info::sort`] was called.
    pub identities: Vec<Identity>,
    /// What it can do; in order and each once after [`Info::sort`].
    pub features: Vec<&'static str>,
    /// What else there is to say (XEP-0128); in order after [`Info::sort`].
    pub forms: Vec<Form>,
}

/// A form of extended information.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// Its `FORM_TYPE`.
    pub form_type: &'static str,
    /// Fields with their values; in order after [`Info::sort`].
    pub fields: Vec<(&'static str, Vec<String>)>,
}

impl Info {
    /// Puts everything in the order of `i;octet`, identities and features each once.
    pub fn sort(&mut self) {
        self.identities.sort_unstable();
        self.identities.dedup();
        self.features.sort_unstable();
        self.features.dedup();
        for form in &mut self.forms {
            form.fields.iter_mut().for_each(|(_, values)| values.sort_unstable());
            form.fields.sort_unstable();
        }
        self.forms.sort_unstable();
    }

    /// XEP-0115 section 5.1: the hash over sorted identities, features and forms.
    pub fn verification(&self) -> String {
        let mut s = String::new();
        for i in &self.identities {
            s.push_str(&format!("{}/{}//{}<", i.category, i.kind, i.name));
        }
        for feature in &self.features {
            s.push_str(feature);
            s.push('<');
        }
        for form in &self.forms {
            s.push_str(&format!("{}<", form.form_type));
            for (var, values) in &form.fields {
                s.push_str(&format!("{var}<{}<", values.join("<")));
            }
        }
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, s.as_bytes()))
    }

    /// Adds the content of `<query/>`.
    pub fn build(&self, b: &mut Builder) {
        for i in &self.identities {
            b.open(ns::DISCO_INFO, "identity").attr("category", i.category).attr("type", i.kind);
            if !i.name.is_empty() {
                b.attr("name", &i.name);
            }
            b.close();
        }
        for feature in &self.features {
            b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
        }
        for form in &self.forms {
            form::open(b, "result", form.form_type);
            for (var, values) in &form.fields {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                form::field(b, var, "list-multi", "", &[], &values);
            }
            b.close();
        }
    }
}

/// A service that a module runs under a domain beside the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Prepared domain.
    pub domain: String,
    /// For people.
    pub name: &'static str,
}

/// What is said of each kind of address.
#[derive(Clone, Debug, Default)]
pub struct Disco {
    /// Of a host of ours.
    pub host: Info,
    /// Of the bare address of an account.
    pub account: Info,
    /// Services of modules, each with a domain of its own.
    pub services: Vec<Service>,
    /// Commands of modules (XEP-0050), in the order of the list of modules.
    #[cfg(feature = "commands")]
    pub commands: Vec<super::commands::Offer>,
    /// Hash of `host` for entity capabilities, once everything is collected.
    pub ver: String,
}

impl Disco {
    /// The two identities that RFC 6121 and XEP-0030 give a server and an account.
    pub fn new(server_name: &str) -> Self {
        let mut disco = Self::default();
        disco.host.identities.push(Identity { category: "server", kind: "im", name: server_name.to_string() });
        disco.account.identities.push(Identity { category: "account", kind: "registered", name: String::new() });
        disco
    }
}

/// What is said at each host: the same, but where a module is off for one of them.
#[derive(Clone, Debug, Default)]
pub struct Discos {
    hosts: Vec<(String, Disco)>,
    /// Of all, each once.
    services: Vec<String>,
}

impl Discos {
    /// Puts together what is said of prepared hosts.
    pub fn new(hosts: Vec<(String, Disco)>) -> Self {
        let mut services: Vec<String> =
            hosts.iter().flat_map(|(_, disco)| &disco.services).map(|s| s.domain.clone()).collect();
        services.sort_unstable();
        services.dedup();
        Self { hosts, services }
    }

    /// What is said at a host; none where it is not one of ours.
    pub fn at(&self, host: &str) -> Option<&Disco> {
        self.hosts.iter().find(|(name, _)| name == host).map(|(_, disco)| disco)
    }

    /// Prepared domains of all services.
    pub fn services(&self) -> &[String] {
        &self.services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_xep_0115_section_5_2_has_its_hash() {
        let mut info = Info::default();
        info.identities.push(Identity { category: "client", kind: "pc", name: "Exodus 0.9.1".to_string() });
        info.features.extend([ns::CAPS, ns::DISCO_INFO, ns::DISCO_ITEMS, "http://jabber.org/protocol/muc"]);
        info.sort();
        assert_eq!(info.verification(), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }

    #[test]
    fn forms_are_part_of_the_hash_as_section_5_1_wants() {
        let mut info = Info::default();
        let fields =
            vec![("os", vec!["Mac".to_string()]), ("ip_version", vec!["ipv6".to_string(), "ipv4".to_string()])];
        info.forms.push(Form { form_type: "urn:xmpp:dataforms:softwareinfo", fields });
        info.sort();
        let text = "urn:xmpp:dataforms:softwareinfo<ip_version<ipv4<ipv6<os<Mac<";
        let hash = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
        assert_eq!(info.verification(), hash);
    }
}
