//! An owner asks which subscriptions wait for him (section 8.7): a command (XEP-0050) of a domain.

use super::{Affiliation, Requests, Service};
use crate::core::Answer;
use crate::core::flight::InFlight;
use crate::jid::Jid;
use crate::stanza::command::{self, Action};
use crate::stanza::{Condition, Kind, MessageType, Stanza, StanzaError, form};
use crate::xml::{Builder, ElementRef, ns};

/// The command.
pub(super) const GET_PENDING: &str = "http://jabber.org/protocol/pubsub#get-pending";
const LABEL: &str = "Subscriptions that wait for you";

impl Service<'_> {
    /// Answers a command. Nothing is remembered between its two stages.
    ///
    /// # Errors
    /// `item-not-found` for another command and for a node that is not there, `forbidden` for who owns none,
    /// `bad-request`.
    pub fn command(&mut self, asked: ElementRef<'_>, who: &Jid) -> Result<Answer, StanzaError> {
        if asked.attr("node") != Some(GET_PENDING) {
            return Err(Condition::ItemNotFound.because("There is no such command."));
        }
        let own = asked.attr("sessionid").filter(|id| !id.is_empty()).map(str::to_string);
        let session = own.unwrap_or_else(|| self.core.token());
        let x = match command::read(asked)? {
            Action::Cancel => return Ok(Answer::Result(command::answer(GET_PENDING, &session, "canceled", |_| {}))),
            Action::Ask => {
                let names = self.owned(who)?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                return Ok(Answer::Result(command::answer(GET_PENDING, &session, "executing", |b| {
                    form::open(b, "form", ns::PUBSUB_SUBSCRIBE_AUTHORIZATION);
                    form::field(b, "pubsub#node", "list-single", "Node", &names, &[]);
                    b.close();
                })));
            }
            Action::Do(x) => x,
        };
        let fields = form::fields(x)?;
        let name = fields.iter().find(|(var, _)| var == "pubsub#node").and_then(|(_, values)| values.first());
        let name = name.ok_or(Condition::BadRequest.because("The form names no node."))?;
        if self.node(name)?.is_none() {
            return Err(Condition::ItemNotFound.into());
        }
        if self.affiliation(name, who)? != Some(Affiliation::Owner) {
            return Err(Condition::Forbidden.into());
        }
        for (jid, _) in self.rows_of::<Requests>(name)? {
            let request = self.request_for(name, &jid);
            self.core.send(InFlight::promising(Stanza { to: Some(who.clone()), ..request }));
        }
        Ok(Answer::Result(command::answer(GET_PENDING, &session, "completed", |_| {})))
    }

    /// Nodes that somebody owns by his affiliation.
    fn owned(&mut self, who: &Jid) -> Result<Vec<String>, StanzaError> {
        let mut owned = Vec::new();
        for name in self.nodes_of(who)? {
            if self.owners(&name)?.iter().any(|owner| owner.same_bare(who)) {
                owned.push(name);
            }
        }
        if owned.is_empty() && !self.is_master(who)? {
            return Err(Condition::Forbidden.because("You own no nodes."));
        }
        Ok(owned)
    }

    /// Answers disco#items for the commands of a domain (XEP-0050 section 2.2).
    pub(super) fn commands(&self) -> Answer {
        let mut b = Builder::new(ns::DISCO_ITEMS, "query");
        b.attr("node", ns::COMMANDS).open(ns::DISCO_ITEMS, "item");
        b.attr("jid", self.owner.as_str()).attr("node", GET_PENDING).attr("name", LABEL).close();
        Answer::Result(b.finish())
    }

    /// Answers disco#info for the node of the command (XEP-0050 section 2.3).
    pub(super) fn command_info(&self) -> Answer {
        Answer::Result(command::info(GET_PENDING, "command-node", LABEL))
    }

    /// The message that asks whether somebody may subscribe, without addressee.
    pub(super) fn request_for(&mut self, name: &str, jid: &Jid) -> Stanza {
        let text = format!("{jid} wants to subscribe to {name} at {}.", self.owner);
        let id = self.core.token();
        let request = Stanza::build(Kind::Message(MessageType::Normal), |b| {
            b.leaf(ns::CLIENT, "body", &text);
            form::open(b, "form", ns::PUBSUB_SUBSCRIBE_AUTHORIZATION);
            form::field(b, "pubsub#node", "text-single", "Node", &[], &[name]);
            form::field(b, "pubsub#subscriber_jid", "jid-single", "Subscriber", &[], &[jid.as_str()]);
            form::field(b, "pubsub#allow", "boolean", "Allow the subscription", &[], &["0"]);
            b.close();
        });
        request.addressed(Some(self.owner.clone()), None).with_id(&id)
    }
}
