//! Nodes of accounts (XEP-0163): what is published there, who may see it, and what clients hear of it.

use super::disk::deep_text;
use super::model::{Check, Fate, Invariant, Key, What, bare, broken};
use super::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use couplet::core::roster::Items;
use couplet::xml::{ElementRef, ns};
use ring::digest;
use std::collections::BTreeMap;

/// Each with its access model.
const NODES: [(&str, &str); 3] = [("sim:list", "whitelist"), ("sim:open", "open"), ("sim:presence", "presence")];
const ITEMS: [&str; 3] = ["a", "b", "c"];

/// Who may see what, as far as that is sure.
#[derive(Debug, Default)]
pub struct Access {
    /// By owner, access model and account: since when that account surely has no access; none when it may have.
    /// What is not there was never granted.
    closed: BTreeMap<(String, &'static str, String), Option<u64>>,
}

impl Access {
    /// The owner gives an account access, or may do so.
    pub fn open(&mut self, owner: &str, model: &'static str, account: &str) {
        self.closed.insert((owner.to_string(), model, account.to_string()), None);
    }

    fn closed_since(&self, owner: &str, model: &'static str, account: &str) -> Option<u64> {
        match model {
            "open" => None,
            _ if owner == account => None,
            _ => self.closed.get(&(owner.to_string(), model, account.to_string())).copied().unwrap_or(Some(0)),
        }
    }
}

fn model_of(node: &str) -> &'static str {
    NODES.iter().find(|(name, _)| *name == node).map_or("open", |(_, model)| model)
}

fn key(node: &str, id: &str) -> Key {
    Key::Item(node.to_string(), id.to_string())
}

/// The step in which something was published.
fn published(value: &str) -> u64 {
    value.strip_prefix('n').and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn features() -> String {
    NODES.iter().map(|(name, _)| format!("<feature var='{name}+notify'/>")).collect()
}

/// What a client that wants all notifications says of itself (XEP-0115).
pub fn capabilities() -> String {
    let said: String = NODES.iter().map(|(name, _)| format!("{name}+notify<")).collect();
    let said = format!("client/pc//sim<{said}");
    let ver = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, said.as_bytes()));
    format!("<c xmlns='{}' hash='sha-1' node='sim:client' ver='{ver}'/>", ns::CAPS)
}

impl World {
    /// Something that one does with nodes.
    pub fn act_on_nodes(&mut self, session: usize) {
        let account = self.model.sessions[session].account.clone();
        let (node, model) = self.rng.pick(&NODES);
        let other = bare(&self.somebody()).to_string();
        match self.rng.below(20) {
            0..=7 => self.publish(session, &account, node, model),
            8 | 9 => {
                let id = self.rng.pick(&ITEMS);
                let write = self.model.registers.begin(&account, key(node, id), "", session, self.step);
                let child = format!("<retract node='{node}' notify='true'><item id='{id}'/></retract>");
                self.node_request(session, What::Request, None, "set", ns::PUBSUB, &child, vec![write]);
            }
            10..=14 => {
                let to = (other != account).then(|| other.clone());
                let child = format!("<items node='{node}'/>");
                self.node_request(session, What::Items(other, node), to, "get", ns::PUBSUB, &child, vec![]);
            }
            n @ 15..=17 => {
                let name = if n == 17 { "unsubscribe" } else { "subscribe" };
                let child = format!("<{name} node='{node}' jid='{account}'/>");
                self.node_request(session, What::Request, Some(other), "set", ns::PUBSUB, &child, vec![]);
            }
            n if other != account => {
                let (node, model) = NODES[0];
                let affiliation = if n == 18 { "member" } else { "none" };
                if n == 18 {
                    self.model.access.open(&account, model, &other);
                }
                let child = format!("<affiliation jid='{other}' affiliation='{affiliation}'/>");
                let child = format!("<affiliations node='{node}'>{child}</affiliations>");
                let what = if n == 18 { What::Admit(other) } else { What::Request };
                self.node_request(session, what, None, "set", ns::PUBSUB_OWNER, &child, vec![]);
            }
            _ => {}
        }
    }

    /// The node is made with the first item, and keeps its access model.
    fn publish(&mut self, session: usize, account: &str, node: &'static str, model: &str) {
        let (id, value) = (self.rng.pick(&ITEMS), format!("n{}", self.step));
        let write = self.model.registers.begin(account, key(node, id), &value, session, self.step);
        let field =
            |var: &str, kind: &str, value: &str| format!("<field var='{var}'{kind}><value>{value}</value></field>");
        let fields = [
            field("FORM_TYPE", " type='hidden'", ns::PUBSUB_PUBLISH_OPTIONS),
            field("pubsub#access_model", "", model),
            field("pubsub#max_items", "", "5"),
        ];
        let item = format!("<item id='{id}'><note xmlns='sim:note'>{value}</note></item>");
        let form = format!("<x xmlns='{}' type='submit'>{}</x>", ns::DATA, fields.concat());
        let child = format!("<publish node='{node}'>{item}</publish><publish-options>{form}</publish-options>");
        self.node_request(session, What::Request, None, "set", ns::PUBSUB, &child, vec![write]);
        self.count("items published");
    }

    #[allow(clippy::too_many_arguments)]
    fn node_request(
        &mut self,
        session: usize,
        what: What,
        to: Option<String>,
        kind: &str,
        ns: &str,
        child: &str,
        writes: Vec<super::model::WriteId>,
    ) {
        self.request(session, what, to, kind, &format!("<pubsub xmlns='{ns}'>{child}</pubsub>"), writes);
    }

    /// The server asks a client what it can do.
    pub fn tell_capabilities(&mut self, client: usize, to: &str, stanza: ElementRef<'_>, query: ElementRef<'_>) {
        let (id, node) = (stanza.attr("id").unwrap_or_default(), query.attr("node").unwrap_or_default());
        let said = format!("<identity category='client' type='pc' name='sim'/>{}", features());
        let query = format!("<query xmlns='{}' node='{node}'>{said}</query>", ns::DISCO_INFO);
        self.say_stanza(client, None, format!("<iq type='result' to='{to}' id='{id}'>{query}</iq>"));
    }

    /// Items that were asked for at `since` arrive; none when that was refused.
    pub fn items_read(
        &mut self,
        session: usize,
        owner: &str,
        node: &'static str,
        child: Option<ElementRef<'_>>,
        since: u64,
    ) -> Check {
        let Some(child) = child else {
            let own = self.model.sessions[session].account == owner;
            let there = |id: &&&str| self.model.registers.must_be(owner, &key(node, id), since);
            return match ITEMS.iter().find(there).filter(|_| own && !self.plan.may_refuse()) {
                Some(id) => broken(Invariant::NothingLost, format!("{owner} is refused {node}, which holds {id}")),
                None => Ok(()),
            };
        };
        let (jid, account) = (&self.model.sessions[session].jid, &self.model.sessions[session].account);
        if self.model.access.closed_since(owner, model_of(node), account).is_some_and(|closed| closed < since) {
            return broken(Invariant::AccessKept, format!("{jid} may not read {node} of {owner}, and does"));
        }
        let items: BTreeMap<String, String> = child
            .children()
            .flat_map(|items| items.children())
            .filter_map(|item| Some((item.attr("id")?.to_string(), deep_text(item))))
            .collect();
        for id in ITEMS {
            self.count("items read");
            let value = items.get(id).map_or("", String::as_str);
            if !self.model.registers.may_hold(owner, &key(node, id), value, since) {
                return broken(Invariant::NothingLost, format!("{id} of {node} of {owner} was said to be {value:?}"));
            }
        }
        Ok(())
    }

    /// What a notification says: node, item and value of each, which is empty for one that is gone.
    fn told<'a>(event: ElementRef<'a>) -> impl Iterator<Item = (&'a str, &'a str, String)> {
        event.children().filter(|items| items.name() == "items").flat_map(|items| {
            let node = items.attr("node").unwrap_or_default();
            items.children().filter_map(move |item| Some((node, item.attr("id")?, deep_text(item))))
        })
    }

    /// The server lets a notification go.
    pub fn event_left(&self, owner: &str, event: ElementRef<'_>) -> Check {
        for (node, id, value) in Self::told(event) {
            self.shown(owner, &key(node, id), &value)?;
        }
        Ok(())
    }

    /// A notification arrives.
    pub fn event(&mut self, session: usize, owner: &str, event: ElementRef<'_>, late: bool) -> Check {
        self.count("notifications of nodes");
        let own = &self.model.sessions[session];
        let (jid, account) = (own.jid.clone(), own.account.clone());
        for (node, id, value) in Self::told(event) {
            let key = key(node, id);
            let writes = self.model.registers.of(owner, &key);
            if !writes.iter().any(|w| w.value == value && w.fate != Fate::Refused) {
                let text = format!("{jid} is told {value:?} of {id} of {node}, which {owner} has not published");
                return broken(Invariant::TrueSender, text);
            }
            let closed = self.model.access.closed_since(owner, model_of(node), &account);
            if closed.is_some_and(|closed| closed < published(&value)) {
                let text = format!("{jid} may not see {node} of {owner}, and is told {value:?} of {id}");
                return broken(Invariant::AccessKept, text);
            }
            let at = (owner.to_string(), key);
            if let Some(before) = self.model.sessions[session].nodes.get(&at)
                && !late
                && !self.model.registers.may_follow(owner, &at.1, before, &value)
            {
                let text = format!("{jid} is told {value:?} of {id} of {node} of {owner} behind {before:?}");
                return broken(Invariant::OrderKept, text);
            }
            self.model.sessions[session].nodes.insert(at, value);
        }
        Ok(())
    }

    /// Everybody who wants to hear of a node and may has heard of it. To be asked at rest.
    pub fn check_nodes(&mut self) -> Check {
        for ((owner, key), value) in self.stored_items() {
            let Key::Item(node, id) = &key else { continue };
            for s in self.model.sessions.iter().filter(|s| s.alive && s.priority.is_some()) {
                let Some(steady) = s.steady.filter(|steady| *steady < published(&value)) else { continue };
                let sees = s.account == owner
                    || model_of(node) != "whitelist"
                        && self.disk.item(&owner, &s.account).is_some_and(|item| item.from)
                        && self.disk.touched::<Items>(&owner, &s.account) < steady
                        && !self.model.ever_blocked(&owner, &s.account);
                let seen = s.nodes.get(&(owner.clone(), key.clone()));
                if sees && seen != Some(&value) {
                    let text = format!("{} knows {seen:?} of {id} of {node} of {owner}, it is {value:?}", s.jid);
                    return broken(Invariant::NodesAgree, text);
                }
            }
        }
        let step = self.step;
        for s in self.model.sessions.iter_mut() {
            s.steady = s.steady.or(Some(step)).filter(|_| s.alive && s.priority.is_some() && s.wants);
        }
        self.close_access();
        Ok(())
    }

    /// Who has no access now has none until it is granted.
    fn close_access(&mut self) {
        for owner in &self.plan.accounts {
            for account in self.plan.accounts.iter().filter(|account| *account != owner) {
                let sees = self.disk.item(owner, account).is_some_and(|item| item.from || item.approved);
                let listed = self.disk.is_affiliated(owner, NODES[0].0, account);
                for (model, has) in [("presence", sees), ("whitelist", listed)] {
                    let closed = self.model.access.closed.entry((owner.clone(), model, account.clone()));
                    let closed = closed.or_insert(Some(0));
                    *closed = if has { None } else { closed.or(Some(self.step)) };
                }
            }
        }
    }

    fn stored_items(&self) -> Vec<((String, Key), String)> {
        let items = self.model.registers.keys().filter(|(_, key)| matches!(key, Key::Item(..)));
        let stored = items.map(|at| (at.clone(), self.disk.read(&at.0, &at.1)));
        stored.filter(|(_, value)| !value.is_empty()).collect()
    }
}
