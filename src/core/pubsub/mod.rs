//! Publish-subscribe (XEP-0060): nodes, their items, and who may do what with them.
//!
//! One engine for every service. A service is the owner of rows in the store: the bare address of an account
//! (XEP-0163), or a domain. What differs between the two is a [`Policy`].
//!
//! Everything that is refused is refused before anything is written.

mod access;
mod approval;
mod config;
mod disco;
mod ledger;
#[cfg(feature = "import")]
mod moving;
mod notify;
mod owner;
mod pending;
mod policy;
mod request;
mod subscribers;
mod tables;

pub use access::Affiliation;
pub use config::{AccessModel, Config, MAX, PublishModel, SendLast};
pub use disco::FEATURES;
pub use policy::{Creators, Policy};

use super::Core;
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef, ns};
use notify::Event;
use tables::{Affiliated, Asked, Nodes, Place, Places, Tie};

pub use tables::{Affiliations, Item, Items, Node, Origin, Origins, Requests, Subscriptions, Ties};

/// The nodes of one owner, and what there is to do with them.
pub struct Service<'a> {
    core: &'a mut Core,
    owner: Jid,
    policy: Policy,
}

impl Core {
    /// The nodes of an account.
    pub fn pubsub(&mut self, owner: &Jid) -> Service<'_> {
        Service { core: self, owner: owner.bare(), policy: Policy::Account }
    }

    /// The nodes of a domain.
    pub fn pubsub_domain(&mut self, domain: &Jid, policy: Policy) -> Service<'_> {
        Service { core: self, owner: domain.bare(), policy }
    }
}

impl Service<'_> {
    /// The node of that name.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn node(&mut self, name: &str) -> Result<Option<Node>, StoreError> {
        self.core.view.get::<Nodes>(self.owner.bare_str(), name.as_bytes())
    }

    /// All nodes with their names.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn nodes(&mut self) -> Result<Vec<(String, Node)>, StoreError> {
        let rows = self.core.view.list::<Nodes>(self.owner.bare_str(), usize::MAX)?;
        Ok(rows.into_iter().filter_map(|(sub, node)| Some((String::from_utf8(sub).ok()?, node))).collect())
    }

    /// Makes a node, as the service itself.
    ///
    /// # Errors
    /// As [`Service::create_for`].
    pub fn create(&mut self, name: &str, config: Config) -> Result<Node, StanzaError> {
        self.create_for(name, config, &self.owner.clone())
    }

    /// Makes a node. At a domain, `maker` owns it.
    ///
    /// # Errors
    /// `conflict` when there is one of that name; `not-acceptable` for a name that is too long; `conflict` with
    /// `max-nodes-exceeded`.
    pub fn create_for(&mut self, name: &str, config: Config, maker: &Jid) -> Result<Node, StanzaError> {
        if self.node(name)?.is_some() {
            return Err(Condition::Conflict.because("There is a node of that name."));
        }
        self.check_name(name)?;
        let mut ledger = self.ledger_of(maker.bare_str())?;
        ledger.add_node()?;
        let node = Node { config, next: 0, items: 0 };
        self.put_ledger(&ledger);
        self.put(name, &node);
        if self.policy.is_domain() {
            let origin = Origin { maker: maker.bare_str().to_string(), made_ms: self.core.wall_ms() };
            self.core.view.put::<Origins>(self.owner.bare_str(), name.as_bytes(), &origin);
            // What the service makes by itself is its administrators'.
            if *maker != self.owner {
                self.put_affiliation(name, maker, Some(Affiliation::Owner))?;
            }
        }
        Ok(node)
    }

    /// Publishes an item (section 7.1) and tells everybody who is to know. Gives its id. Whether somebody may publish
    /// is for the caller to decide.
    ///
    /// # Errors
    /// `not-acceptable` with `payload-too-big`, `resource-constraint` when the owner's nodes take too much.
    pub fn publish(
        &mut self,
        name: &str,
        node: &Node,
        id: Option<&str>,
        payload: Option<ElementRef<'_>>,
        publisher: &Jid,
    ) -> Result<String, StanzaError> {
        let limits = self.core.settings.clone();
        let payload = payload.map(ElementRef::to_element);
        let item = Item {
            id: id.map_or_else(|| self.core.token(), str::to_string),
            publisher: publisher.bare_str().to_string(),
            payload: payload.as_ref().map(|p| p.root().to_xml()).unwrap_or_default(),
            at_ms: self.core.wall_ms(),
        };
        if item.id.len() > limits.limits.pubsub_name_bytes_max as usize {
            return Err(Condition::NotAcceptable.because("The id of the item is too long."));
        }
        if item.payload.len() > limits.limits.pubsub_item_bytes_max as usize {
            return Err(refusal(Condition::NotAcceptable, "payload-too-big"));
        }
        if node.config.persist {
            self.keep(name, node, &item)?;
        }
        self.notify(name, &node.config, &Event::Published(&item, payload.as_ref()))?;
        Ok(item.id)
    }

    /// Tells that something has happened of which there is no item, at a node that has none (section 4.3).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub(super) fn signal(&mut self, name: &str, node: &Node) -> Result<(), StoreError> {
        self.notify(name, &node.config, &Event::Signalled)
    }

    /// Publishes on behalf of the account itself; the node is made when there is none.
    ///
    /// # Errors
    /// As [`Service::create`] and [`Service::publish`].
    pub fn publish_own(
        &mut self,
        name: &str,
        config: &Config,
        id: &str,
        payload: ElementRef<'_>,
    ) -> Result<(), StanzaError> {
        let node = match self.node(name)? {
            Some(node) => node,
            None => self.create(name, config.clone())?,
        };
        let owner = self.owner.clone();
        self.publish(name, &node, Some(id), Some(payload), &owner)?;
        Ok(())
    }

    /// Tells whoever wants it of an item that is not kept here, as the account's own.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn announce(&mut self, name: &str, config: &Config, id: &str, payload: &Element) -> Result<(), StoreError> {
        let publisher = self.owner.bare_str().to_string();
        let item = Item { id: id.to_string(), publisher, payload: String::new(), at_ms: 0 };
        self.notify(name, config, &Event::Published(&item, Some(payload)))
    }

    /// Stores an item, in the place of one of the same id, and lets the oldest go when there are too many.
    fn keep(&mut self, name: &str, node: &Node, item: &Item) -> Result<(), StanzaError> {
        let owner = self.owner.bare_str().to_string();
        let mut gone: Vec<(u64, Item)> = Vec::new();
        if let Some(place) = self.core.view.get::<Places>(&owner, &sub(name, item.id.as_bytes()))?
            && let Some(old) = self.core.view.get::<Items>(&owner, &sub(name, &place.number.to_be_bytes()))?
        {
            gone.push((place.number, old));
        }
        let rest = node.items as usize - gone.len().min(node.items as usize);
        let max = self.items_max(&node.config);
        let surplus = (rest + 1).saturating_sub(max);
        if surplus > 0 {
            let replaced = gone.first().map(|(number, _)| *number);
            let oldest = self.core.view.list_from::<Items>(&owner, &sub(name, b""), surplus + gone.len())?;
            let oldest = oldest.into_iter().filter_map(|(key, item)| Some((number(name, &key)?, item)));
            gone.extend(oldest.filter(|(number, _)| Some(*number) != replaced).take(surplus).collect::<Vec<_>>());
        }
        let mut ledger = self.ledger(name)?;
        ledger.free(gone.iter().map(|(_, item)| bytes(item)).sum());
        ledger.charge(bytes(item))?;
        for (number, old) in &gone {
            self.core.view.delete::<Items>(&owner, &sub(name, &number.to_be_bytes()));
            self.core.view.delete::<Places>(&owner, &sub(name, old.id.as_bytes()));
        }
        self.core.view.put::<Items>(&owner, &sub(name, &node.next.to_be_bytes()), item);
        self.core.view.put::<Places>(&owner, &sub(name, item.id.as_bytes()), &Place { number: node.next });
        let items = (node.items + 1).saturating_sub(u32::try_from(gone.len()).unwrap_or(u32::MAX));
        self.put_ledger(&ledger);
        self.put(name, &Node { items, next: node.next + 1, config: node.config.clone() });
        Ok(())
    }

    /// The newest `max` items, oldest of them first.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn items(&mut self, name: &str, max: usize) -> Result<Vec<Item>, StoreError> {
        let mut rows = self.core.view.last_from::<Items>(self.owner.bare_str(), &sub(name, b""), max)?;
        rows.reverse();
        Ok(rows.into_iter().map(|(_, item)| item).collect())
    }

    /// The item of an id.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn item(&mut self, name: &str, id: &str) -> Result<Option<Item>, StoreError> {
        let owner = self.owner.bare_str();
        match self.core.view.get::<Places>(owner, &sub(name, id.as_bytes()))? {
            Some(place) => self.core.view.get::<Items>(owner, &sub(name, &place.number.to_be_bytes())),
            None => Ok(None),
        }
    }

    /// Deletes an item (section 7.2).
    ///
    /// # Errors
    /// `item-not-found`.
    pub fn retract(&mut self, name: &str, node: &Node, id: &str, notify: bool) -> Result<(), StanzaError> {
        let owner = self.owner.bare_str().to_string();
        let place = self.core.view.get::<Places>(&owner, &sub(name, id.as_bytes()))?;
        let (Some(place), Some(item)) = (place, self.item(name, id)?) else {
            return Err(Condition::ItemNotFound.into());
        };
        let mut ledger = self.ledger(name)?;
        ledger.free(bytes(&item));
        self.core.view.delete::<Items>(&owner, &sub(name, &place.number.to_be_bytes()));
        self.core.view.delete::<Places>(&owner, &sub(name, id.as_bytes()));
        self.put_ledger(&ledger);
        self.put(name, &Node { items: node.items.saturating_sub(1), ..node.clone() });
        if notify || node.config.notify_retract {
            self.notify(name, &node.config, &Event::Retracted(id))?;
        }
        Ok(())
    }

    /// Deletes all items (section 8.5).
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn purge(&mut self, name: &str, node: &Node) -> Result<(), StoreError> {
        self.drop_items(name, node, 0)?;
        if node.config.notify_retract {
            self.notify(name, &node.config, &Event::Purged)?;
        }
        Ok(())
    }

    /// Deletes a node and all that belongs to it (section 8.4). `instead` is the URI of what comes in its place, which
    /// subscribers are told.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn delete(&mut self, name: &str, node: &Node, instead: Option<&str>) -> Result<(), StoreError> {
        if node.config.notify_delete {
            self.notify(name, &node.config, &Event::Deleted(instead))?;
        }
        self.drop_items(name, node, 0)?;
        self.forget_entities(name)?;
        let mut ledger = self.ledger(name)?;
        ledger.remove_node();
        self.put_ledger(&ledger);
        self.core.view.delete::<Nodes>(self.owner.bare_str(), name.as_bytes());
        if self.policy.is_domain() {
            self.core.view.delete::<Origins>(self.owner.bare_str(), name.as_bytes());
        }
        Ok(())
    }

    /// Changes the configuration (section 8.2.5). Items beyond the new maximum go.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn configure(&mut self, name: &str, node: &Node, config: Config) -> Result<(), StoreError> {
        let node = Node { config, ..node.clone() };
        let max = if node.config.persist { self.items_max(&node.config) } else { 0 };
        self.drop_items(name, &node, max)?;
        if node.config.notify_config {
            self.notify(name, &node.config, &Event::Configured)?;
        }
        Ok(())
    }

    /// Stores a node with its newest `max` items.
    fn drop_items(&mut self, name: &str, node: &Node, max: usize) -> Result<(), StoreError> {
        let owner = self.owner.bare_str().to_string();
        let surplus = (node.items as usize).saturating_sub(max);
        let mut ledger = self.ledger(name)?;
        for (key, item) in self.core.view.list_from::<Items>(&owner, &sub(name, b""), surplus)? {
            ledger.free(bytes(&item));
            self.core.view.delete::<Items>(&owner, &key);
            self.core.view.delete::<Places>(&owner, &sub(name, item.id.as_bytes()));
        }
        self.put_ledger(&ledger);
        self.put(name, &Node { items: node.items - surplus as u32, ..node.clone() });
        Ok(())
    }

    /// Items that a node keeps.
    fn items_max(&self, config: &Config) -> usize {
        config.max_items.min(self.core.settings.limits.pubsub_items_max).max(1) as usize
    }

    fn put(&mut self, name: &str, node: &Node) {
        self.core.view.put::<Nodes>(self.owner.bare_str(), name.as_bytes(), node);
    }
}

impl Item {
    /// Adds `<item/>` in a namespace; `payload` is what it holds, already read.
    fn build(&self, b: &mut Builder, ns: &str, config: &Config, payload: Option<&Element>) {
        b.open(ns, "item").attr("id", &self.id);
        if config.show_publisher {
            b.attr("publisher", &self.publisher);
        }
        if let Some(payload) = payload {
            b.copy(payload.root());
        }
        b.close();
    }

    /// The payload; none when there is none.
    pub fn read(&self) -> Option<Element> {
        if self.payload.is_empty() { None } else { crate::xml::parse(&self.payload).ok() }
    }
}

/// Bytes that an item is charged.
fn bytes(item: &Item) -> u64 {
    (item.id.len() + item.publisher.len() + item.payload.len()) as u64
}

/// Sub key of what belongs to a node. No name holds a zero byte: XML has none.
fn sub(name: &str, rest: &[u8]) -> Vec<u8> {
    [name.as_bytes(), &[0], rest].concat()
}

/// Number of an item in its sub key.
fn number(name: &str, key: &[u8]) -> Option<u64> {
    key.get(name.len() + 1..)?.try_into().ok().map(u64::from_be_bytes)
}

/// An error with a condition of XEP-0060.
fn refusal(condition: Condition, specific: &str) -> StanzaError {
    StanzaError::from(condition).with_application(ns::PUBSUB_ERRORS, specific)
}

/// What this service does not do (section 3, for example 6.3.6.5).
fn unsupported(feature: &str) -> StanzaError {
    let mut b = Builder::new(ns::PUBSUB_ERRORS, "unsupported");
    b.attr("feature", feature);
    StanzaError { application: Some(Box::new(b.finish())), ..Condition::FeatureNotImplemented.into() }
}
