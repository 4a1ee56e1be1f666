//! Subscriptions that an owner has to allow (sections 6.1.4 and 8.6), and what subscribers hear of theirs (section
//! 13.14).

use super::subscribers::State;
use super::{Affiliation, Node, SendLast, Service};
use crate::core::flight::InFlight;
use crate::jid::Jid;
use crate::stanza::form::{self, Values};
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::ns;

/// Owners of one node that are asked; the first answer counts.
const OWNERS_ASKED_MAX: usize = 20;

impl Service<'_> {
    /// Asks the owners of a node whether somebody may subscribe.
    pub(super) fn ask_owners(&mut self, name: &str, jid: &Jid) -> Result<(), StoreError> {
        let request = self.request_for(name, jid);
        let tail = request.tail();
        for owner in self.owners(name)?.into_iter().take(OWNERS_ASKED_MAX) {
            let flight = InFlight::promising(Stanza { to: Some(owner), ..request.clone() });
            self.core.send(InFlight { tail: Some(tail.clone()), ..flight });
        }
        Ok(())
    }

    /// Reads an owner's answer. A form that is cancelled leaves everything as it is.
    ///
    /// # Errors
    /// `bad-request`, `item-not-found`, `forbidden`; `service-unavailable` for a message that is none.
    pub fn answered(&mut self, message: &Stanza) -> Result<(), StanzaError> {
        let (Some(x), Some(who)) = (message.child(ns::DATA, "x"), &message.from) else {
            return Err(Condition::ServiceUnavailable.into());
        };
        if form::is_cancelled(x) {
            return Ok(());
        }
        let fields = form::read(x, ns::PUBSUB_SUBSCRIBE_AUTHORIZATION)?;
        let values = |var: &str| fields.iter().find(|(name, _): &&Values| name == var).map(|(_, values)| values);
        let text = |var: &str| values(var).and_then(|values| values.first()).ok_or(Condition::BadRequest);
        let (name, jid) = (text("pubsub#node")?, Jid::parse(text("pubsub#subscriber_jid")?));
        let jid = jid.map_err(|_| Condition::JidMalformed)?;
        let allow = values("pubsub#allow").and_then(|values| form::boolean(values)).ok_or(Condition::BadRequest)?;
        let node = self.node(name)?.ok_or(Condition::ItemNotFound)?;
        if self.affiliation(name, who)? != Some(Affiliation::Owner) {
            return Err(Condition::Forbidden.into());
        }
        match self.state(name, &jid)? {
            State::Pending => self.decide(name, &node, &jid, allow),
            // Another owner was quicker.
            State::None | State::Subscribed => Ok(()),
        }
    }

    /// Lets somebody subscribe, or not.
    pub(super) fn decide(&mut self, name: &str, node: &Node, jid: &Jid, allow: bool) -> Result<(), StanzaError> {
        if allow {
            self.subscribe(name, jid)?;
        } else {
            self.unsubscribe(name, jid)?;
        }
        self.tell_state(name, node, jid, if allow { State::Subscribed } else { State::None });
        if allow && node.config.send_last != SendLast::Never && node.config.deliver_notifications {
            self.tell_last(name, &node.config, jid)?;
        }
        Ok(())
    }

    /// What follows when somebody's affiliation has changed: requests are granted to those who belong to the node
    /// (section 8.7.4), and an outcast is no subscriber.
    pub(super) fn settle(&mut self, name: &str, node: &Node, who: &Jid) -> Result<(), StanzaError> {
        let affiliation = self.affiliation(name, who)?;
        for (jid, state) in self.of_entity(name, who)? {
            match (affiliation, state) {
                (Some(Affiliation::Owner | Affiliation::Publisher | Affiliation::Member), State::Pending) => {
                    self.decide(name, node, &jid, true)?;
                }
                (Some(Affiliation::Outcast), _) => {
                    self.unsubscribe(name, &jid)?;
                    self.tell_state(name, node, &jid, State::None);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells a subscriber what his subscription is now. An account does so only when it is asked.
    pub(super) fn tell_state(&mut self, name: &str, node: &Node, jid: &Jid, state: State) {
        if !self.policy.is_domain() {
            return;
        }
        let kind = if node.config.headline { MessageType::Headline } else { MessageType::Normal };
        let id = self.core.token();
        let message = Stanza::build(Kind::Message(kind), |b| {
            b.open(ns::PUBSUB_EVENT, "event");
            super::request::build_subscription(b, ns::PUBSUB_EVENT, Some(name), jid.as_str(), state);
            b.close();
        });
        let message = message.addressed(Some(self.owner.clone()), Some(jid.clone())).with_id(&id);
        self.core.send(InFlight::promising(message));
    }
}
