//! What the server says of itself and of its accounts (XEP-0030), collected once at start and at reload.

use crate::xml::{Builder, ns};
use std::collections::BTreeSet;

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
    /// Who it is.
    pub identities: BTreeSet<Identity>,
    /// What it can do.
    pub features: BTreeSet<&'static str>,
}

impl Info {
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
    }
}

/// What is said of each kind of address.
#[derive(Clone, Debug, Default)]
pub struct Disco {
    /// Of a host of ours.
    pub host: Info,
    /// Of the bare address of an account.
    pub account: Info,
}

impl Disco {
    /// The two identities that RFC 6121 and XEP-0030 give a server and an account.
    pub fn new(server_name: &str) -> Self {
        let mut disco = Self::default();
        disco.host.identities.insert(Identity { category: "server", kind: "im", name: server_name.to_string() });
        disco.account.identities.insert(Identity { category: "account", kind: "registered", name: String::new() });
        disco
    }
}
