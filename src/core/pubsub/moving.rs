//! Nodes and items of another server.

use super::tables::Subscribed;
use super::{AccessModel, Affiliated, Affiliation, Affiliations, Config, Item, MAX, Service, Subscriptions, sub};
use crate::core::moving::{NodePiece, Outcome, Piece, Refusal, Taken, Terms, verdict};
use crate::jid::Jid;
use crate::stanza::form;
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ns};

impl Service<'_> {
    /// Takes in a node with those who have to do with it.
    ///
    /// # Errors
    /// Why not.
    pub fn take_node(&mut self, piece: &NodePiece, terms: &mut Terms) -> Outcome {
        let replace = terms.replace;
        let config = self.config_of(piece);
        let mut taken = match self.node(&piece.name)? {
            Some(old) if old.config == config => Taken::Same,
            Some(old) if replace => {
                self.configure(&piece.name, &old, config)?;
                Taken::Replaced
            }
            Some(_) => Taken::Stays,
            None => {
                self.create(&piece.name, config)?;
                terms.fresh.insert(piece.name.clone());
                Taken::New
            }
        };
        let owner = self.owner.bare_str().to_string();
        let max = self.core.settings.limits.pubsub_subscriptions_max as usize;
        for (jid, affiliation) in &piece.affiliations {
            let Some(Some(affiliation)) = Affiliation::parse(affiliation) else { continue };
            let key = sub(&piece.name, jid.bare_str().as_bytes());
            if self.core.view.list_from::<Affiliations>(&owner, &sub(&piece.name, b""), max)?.len() < max {
                taken = with(
                    taken,
                    self.core.take_row::<Affiliations>(&owner, &key, &Affiliated { affiliation }, replace)?,
                );
            }
        }
        for jid in &piece.subscribers {
            let key = sub(&piece.name, jid.as_str().as_bytes());
            if self.core.view.list_from::<Subscriptions>(&owner, &sub(&piece.name, b""), max)?.len() < max {
                taken = with(taken, self.core.take_row::<Subscriptions>(&owner, &key, &Subscribed {}, replace)?);
            }
        }
        Ok(taken)
    }

    /// The configuration, field by field: what there is none of here leaves the default. Nobody reads more than before.
    fn config_of(&self, piece: &NodePiece) -> Config {
        let mut config = Config::default();
        for field in &piece.fields {
            match self.configured(&config, std::slice::from_ref(field)) {
                Ok(new) => config = new,
                Err(_) if field.0 == "pubsub#access_model" => config.access = AccessModel::Whitelist,
                Err(_) if field.0 == "pubsub#max_items" => config.max_items = MAX,
                Err(_) => {}
            }
        }
        config
    }

    /// Takes in an item. The node is made when there is none.
    ///
    /// # Errors
    /// Why not.
    pub fn take_item(
        &mut self,
        name: &str,
        id: &str,
        publisher: Option<&Jid>,
        payload: Option<&Element>,
        terms: &mut Terms,
    ) -> Outcome {
        let is_fresh = terms.fresh.contains(name);
        let limits = self.core.settings.clone();
        let item = Item {
            id: id.to_string(),
            publisher: publisher.unwrap_or(&self.owner).bare_str().to_string(),
            payload: payload.map(|payload| payload.root().to_xml()).unwrap_or_default(),
            at_ms: 0,
        };
        if item.id.len() > limits.limits.pubsub_name_bytes_max as usize {
            return Err(Refusal::because("its id is longer than limits.pubsub_name_bytes_max"));
        }
        if item.payload.len() > limits.limits.pubsub_item_bytes_max as usize {
            return Err(Refusal::because("it is longer than limits.pubsub_item_bytes_max"));
        }
        let node = match self.node(name)? {
            Some(node) => node,
            None => {
                terms.fresh.insert(name.to_string());
                self.create(name, Config::default())?
            }
        };
        let taken = match self.item(name, id)? {
            Some(old) if old.payload == item.payload => return Ok(Taken::Same),
            Some(_) => verdict(terms.replace),
            // A newer one that has come here meanwhile does not go for an older one.
            None if node.items as usize >= self.items_max(&node.config) => verdict(terms.replace || is_fresh),
            None => Taken::New,
        };
        if taken != Taken::Stays {
            self.keep(name, &node, &item)?;
        }
        Ok(taken)
    }

    /// Gives out all nodes with their items, older ones first.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn give_nodes(&mut self, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let owner = self.owner.bare_str().to_string();
        for (name, node) in self.nodes()? {
            let mut form = Builder::new(ns::PUBSUB_OWNER, "configure");
            node.config.build(&mut form, "submit", false);
            let form = form.finish();
            let mut fields = form.root().child(ns::DATA, "x").and_then(|x| form::fields(x).ok()).unwrap_or_default();
            fields.retain(|(var, _)| var != "FORM_TYPE");
            let address = |key: &[u8]| {
                let text = std::str::from_utf8(key.get(name.len() + 1..)?).ok()?;
                Jid::parse(text).ok()
            };
            let affiliations = self.core.view.list_from::<Affiliations>(&owner, &sub(&name, b""), usize::MAX)?;
            let affiliations = affiliations.into_iter();
            let affiliations =
                affiliations.filter_map(|(key, row)| Some((address(&key)?, row.affiliation.as_str().to_string())));
            let affiliations = affiliations.collect();
            let subscribers = self.core.view.list_from::<Subscriptions>(&owner, &sub(&name, b""), usize::MAX)?;
            let subscribers = subscribers.into_iter().filter_map(|(key, _)| address(&key)).collect();
            to(Piece::Node(Box::new(NodePiece { name: name.clone(), fields, affiliations, subscribers })));
            for item in self.items(&name, usize::MAX)? {
                let payload = item.read();
                let publisher = Jid::parse(&item.publisher).ok();
                to(Piece::NodeItem { node: name.clone(), id: item.id, publisher, payload });
            }
        }
        Ok(())
    }
}

/// Of two things that were taken in together.
fn with(one: Taken, other: Taken) -> Taken {
    match (one, other) {
        (Taken::Same, other) => other,
        (one, _) => one,
    }
}
