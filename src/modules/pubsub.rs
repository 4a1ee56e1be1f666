//! Publish-subscribe at domains of its own (XEP-0060): news, sensors, blogs, whatever concerns no single account.
//!
//! The nodes are [`core::pubsub`](crate::core::pubsub), as for accounts; here is where they are, who may make them, and
//! what is said to the domain itself. Nodes are in the store alone.

use super::{Module, Xep};
use crate::core::disco::{Disco, Service};
use crate::core::flight::InFlight;
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Taken, Terms};
use crate::core::pubsub::{Creators, Policy};
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request, pubsub};
use crate::jid::Jid;
use crate::setting::section;
use crate::stanza::{Condition, IqType, Kind, MessageType, PresenceType, Stanza, StanzaError};
use crate::xml::ns;

/// Name of the services, for people.
const NAME: &str = "Publish-Subscribe";

section! {
    /// Publish-subscribe services (XEP-0060).
    pub struct Config in "modules.pubsub" {
        /// Domains of the service, such as "news.example.org"; without any, "pubsub." before each host.
        pub hosts: Vec<String> = Vec::new() => |hosts: &Vec<String>| domains(hosts),
        /// Who may make nodes: "local" are all accounts of this server. Administrators own every node.
        pub creators: Creators = Creators::Local,
        /// Whoever may make nodes makes them by publishing, too.
        pub auto_create: bool = false,
    }
}

fn domains(hosts: &[String]) -> Result<(), String> {
    match hosts.iter().find(|h| !Jid::parse(h).is_ok_and(|jid| jid.is_host())) {
        None => Ok(()),
        Some(host) => Err(format!("\"{host}\" is no domain; write for example \"pubsub.example.org\"")),
    }
}

/// The module.
pub struct PubSub {
    policy: Policy,
    /// Prepared.
    hosts: Vec<String>,
}

impl Module for PubSub {
    const XEPS: &'static [Xep] = &[Xep { number: 60, version: "1.30.0" }];
    type Config = Config;

    fn new(config: Config) -> Self {
        let prepared = |host: &String| Jid::parse(host).ok().map(|jid| jid.domain().to_string());
        let hosts = config.hosts.iter().filter_map(prepared).collect();
        Self { policy: Policy::Domain { creators: config.creators, auto_create: config.auto_create }, hosts }
    }

    fn disco(&self, _: &Settings, host: &str, disco: &mut Disco) {
        let domains = match self.hosts.as_slice() {
            [] => vec![format!("pubsub.{host}")],
            hosts => hosts.to_vec(),
        };
        disco.services.extend(domains.into_iter().map(|domain| Service { domain, name: NAME }));
    }

    fn owns(&self, core: &Core, domain: &str) -> bool {
        match self.hosts.as_slice() {
            [] => domain.strip_prefix("pubsub.").is_some_and(|host| core.serves(host)),
            hosts => hosts.iter().any(|h| h == domain),
        }
    }

    fn service(&mut self, core: &mut Core, flight: &InFlight, to: &Jid) -> Result<(), StanzaError> {
        let stanza = &flight.stanza;
        let Some(from) = &stanza.from else { return Ok(()) };
        match stanza.kind {
            Kind::Iq(IqType::Result | IqType::Error) => Ok(()),
            Kind::Iq(kind) if to.is_host() => {
                let answer = self.answer(core, stanza, to, kind == IqType::Set)?;
                core.answer(stanza, answer);
                Ok(())
            }
            Kind::Message(MessageType::Error) if to.is_host() => self.bounced(core, stanza, from, to),
            Kind::Message(_) if to.is_host() => {
                core.may_write()?;
                self.nodes(core, to).answered(stanza)
            }
            Kind::Presence(PresenceType::Available) if to.is_host() => self.nodes(core, to).came_online(from),
            Kind::Presence(_) | Kind::Message(MessageType::Error) => Ok(()),
            Kind::Iq(_) | Kind::Message(_) => Err(Condition::ServiceUnavailable.into()),
        }
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        if !owner.is_host() || !self.owns(core, owner.domain()) {
            return Ok(Taken::NotMine);
        }
        match piece {
            Piece::Node(node) => self.nodes(core, owner).take_node(node, terms),
            Piece::NodeItem(item) => self.nodes(core, owner).take_item(item, terms),
            _ => Ok(Taken::NotMine),
        }
    }

    /// Nodes that nobody else owns go with the account that has made them.
    fn account_deleted(&mut self, core: &mut Core, account: &Jid) -> Result<(), StanzaError> {
        for domain in core.disco.services().to_vec() {
            if self.owns(core, &domain)
                && let Ok(domain) = Jid::parse(&domain)
            {
                self.nodes(core, &domain).account_gone(account)?;
            }
        }
        Ok(())
    }
}

impl PubSub {
    fn nodes<'a>(&self, core: &'a mut Core, domain: &Jid) -> pubsub::Service<'a> {
        core.pubsub_domain(domain, self.policy)
    }

    /// Answers a request to a domain.
    fn answer(&self, core: &mut Core, stanza: &Stanza, to: &Jid, is_set: bool) -> Result<Answer, StanzaError> {
        let (Some(child), Some(from)) = (stanza.request(), &stanza.from) else { return Ok(Answer::NotMine) };
        if is_set {
            core.may_write()?;
        }
        let node = child.attr("node").filter(|node| !node.is_empty());
        match (child.ns(), child.name(), is_set) {
            (ns::PUBSUB | ns::PUBSUB_OWNER, "pubsub", _) => {
                self.nodes(core, to).request(&Request { stanza, child, owner: to, session: None, is_set })
            }
            (ns::DISCO_INFO, "query", false) => match node {
                Some(name) => self.nodes(core, to).node_info(name, Some(from)),
                None => Ok(self.nodes(core, to).domain_info(NAME)),
            },
            (ns::DISCO_ITEMS, "query", false) => match node {
                Some(name) => self.nodes(core, to).node_items(name, Some(from)),
                None => self.nodes(core, to).domain_items(child, from),
            },
            (ns::COMMANDS, "command", true) => self.nodes(core, to).command(child, from),
            (ns::PING, "ping", false) => Ok(Answer::Empty),
            _ => Err(Condition::ServiceUnavailable.into()),
        }
    }

    /// Section 13.4: an address that there is not, or that takes nothing from here, gets nothing any more. That its
    /// server cannot be reached may be over tomorrow.
    fn bounced(&self, core: &mut Core, error: &Stanza, from: &Jid, to: &Jid) -> Result<(), StanzaError> {
        let Some(error) = error.child(ns::CLIENT, "error") else { return Ok(()) };
        let is = |names: &[&str]| error.children().any(|c| c.ns() == ns::STANZA_ERROR && names.contains(&c.name()));
        let is_gone = is(&["gone", "item-not-found"]);
        if is_gone || is(&["service-unavailable", "not-allowed"]) {
            self.nodes(core, to).bounced(from, is_gone)?;
        }
        Ok(())
    }
}
