//! Nodes and items of another server.

use super::subscribers::State;
use super::tables::{Asked, Subscribed};
use super::{AccessModel, Affiliation, Affiliations, Config, Item, MAX, Requests, Service, Subscriptions, sub};
use crate::core::moving::{ItemPiece, NodePiece, Outcome, Piece, Refusal, Taken, Terms, verdict};
use crate::jid::Jid;
use crate::stanza::form;
use crate::storage::StoreError;
use crate::xml::{Builder, ns};

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
                let is_owner = |(_, affiliation): &&(Jid, String)| affiliation == Affiliation::Owner.as_str();
                let owner = piece.affiliations.iter().find(is_owner).filter(|_| self.policy.is_domain());
                let maker = owner.map_or_else(|| self.owner.clone(), |(jid, _)| jid.clone());
                self.create_for(&piece.name, config, &maker)?;
                terms.fresh.insert(piece.name.clone());
                Taken::New
            }
        };
        let (name, mut is_whole) = (&piece.name, true);
        let mut room = self.entities_max().saturating_sub(self.rows_of::<Affiliations>(name)?.len());
        for (jid, affiliation) in &piece.affiliations {
            let Some(Some(affiliation)) = Affiliation::parse(affiliation) else { continue };
            let key = sub(name, jid.bare_str().as_bytes());
            let one = match self.core.view.get::<Affiliations>(self.owner.bare_str(), &key)? {
                Some(old) if old.affiliation == affiliation => Taken::Same,
                Some(_) => verdict(replace),
                None if room == 0 => {
                    is_whole = false;
                    continue;
                }
                None => Taken::New,
            };
            room -= usize::from(one == Taken::New);
            if matches!(one, Taken::New | Taken::Replaced) {
                self.put_affiliation(name, jid, Some(affiliation))?;
            }
            taken = with(taken, one);
        }
        let asked: &[Jid] = if self.policy.is_domain() { &piece.asked } else { &[] };
        let requests = if self.policy.is_domain() { self.rows_of::<Requests>(name)?.len() } else { 0 };
        let mut room = self.entities_max().saturating_sub(self.rows_of::<Subscriptions>(name)?.len() + requests);
        let subscribers = piece.subscribers.iter().map(|jid| (jid, State::Subscribed));
        for (jid, wanted) in subscribers.chain(asked.iter().map(|jid| (jid, State::Pending))) {
            let one = match self.state(name, jid)? {
                state if state == wanted => Taken::Same,
                State::None if room == 0 => {
                    is_whole = false;
                    continue;
                }
                State::None => Taken::New,
                State::Pending | State::Subscribed => verdict(replace),
            };
            room -= usize::from(one == Taken::New);
            if matches!(one, Taken::New | Taken::Replaced) {
                self.put_state(name, jid, wanted);
            }
            taken = with(taken, one);
        }
        let limit = if self.policy.is_domain() { "service_subscriptions" } else { "subscriptions" };
        let why =
            || Refusal::because(format!("more have to do with it than limits.pubsub_{limit}_max; they are left out"));
        if is_whole { Ok(taken) } else { Err(why()) }
    }

    fn put_state(&mut self, name: &str, jid: &Jid, state: State) {
        let (owner, key) = (self.owner.bare_str().to_string(), sub(name, jid.as_str().as_bytes()));
        if state == State::Pending {
            self.core.view.put::<Requests>(&owner, &key, &Asked {});
            self.core.view.delete::<Subscriptions>(&owner, &key);
        } else {
            self.core.view.put::<Subscriptions>(&owner, &key, &Subscribed {});
            if self.policy.is_domain() {
                self.core.view.delete::<Requests>(&owner, &key);
            }
        }
        self.tie(name, jid);
    }

    /// The configuration, field by field: what there is none of here leaves the default. Nobody reads more than before.
    fn config_of(&self, piece: &NodePiece) -> Config {
        let mut config = self.policy.defaults();
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

    /// Takes in an item. An account's node is made when there is none.
    ///
    /// # Errors
    /// Why not.
    pub fn take_item(&mut self, piece: &ItemPiece, terms: &mut Terms) -> Outcome {
        let (name, id) = (&piece.node, &piece.id);
        let is_fresh = terms.fresh.contains(name);
        let limits = self.core.settings.clone();
        let item = Item {
            id: id.clone(),
            publisher: piece.publisher.as_ref().unwrap_or(&self.owner).bare_str().to_string(),
            payload: piece.payload.as_ref().map(|payload| payload.root().to_xml()).unwrap_or_default(),
            at_ms: piece.at_ms,
        };
        if item.id.len() > limits.limits.pubsub_name_bytes_max as usize {
            return Err(Refusal::because("its id is longer than limits.pubsub_name_bytes_max"));
        }
        if item.payload.len() > limits.limits.pubsub_item_bytes_max as usize {
            return Err(Refusal::because("it is longer than limits.pubsub_item_bytes_max"));
        }
        let node = match self.node(name)? {
            Some(node) => node,
            None if self.policy.is_domain() => return Err(Refusal::because("its node is not here")),
            None => {
                terms.fresh.insert(name.clone());
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
            to(Piece::Node(Box::new(NodePiece {
                name: name.clone(),
                fields,
                affiliations,
                subscribers,
                asked: Vec::new(),
            })));
            for item in self.items(&name, usize::MAX)? {
                let (payload, publisher) = (item.read(), Jid::parse(&item.publisher).ok());
                let Item { id, at_ms, .. } = item;
                to(Piece::NodeItem(Box::new(ItemPiece { node: name.clone(), id, publisher, payload, at_ms })));
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
