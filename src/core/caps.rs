//! What clients want to be told of, by their entity capabilities (XEP-0115, XEP-0060 section 9.2).
//!
//! A client names a hash in its presence. What stands behind an unknown hash is asked of that client; an answer that
//! has the hash counts for every client that names it, any other for this client alone.

use super::Core;
use super::flat::Flat;
use super::flight::{Filters, InFlight};
use super::session::SessionId;
use crate::budget::allocated;
use crate::jid::Jid;
use crate::stanza::{IqType, Kind, Stanza};
use crate::storage::codec::{from_bytes, to_bytes};
use crate::xml::{ElementRef, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Names of nodes that a client wants notifications of, sorted.
pub type Wants = Rc<[Box<str>]>;

/// `hash` and `ver` of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    hash: String,
    node: String,
    ver: String,
}

#[derive(Debug)]
struct Client {
    name: Name,
    /// Id of the request that it has not answered; empty when it was asked before a restart.
    asked: Option<String>,
    wants: Wants,
    /// It has its wishes for itself, as they do not have its hash.
    is_alone: bool,
}

crate::record! {
    /// What is stored of a session that waits to be resumed.
    struct Stored {
        hash: String,
        node: String,
        ver: String,
        /// It has answered.
        is_known: bool,
        /// Its answer has the hash.
        is_true: bool,
        wants: Vec<Box<str>>,
    }
}

/// A client of another server, as far as contacts of ours see it.
#[derive(Debug)]
struct Remote {
    jid: Jid,
    client: Client,
    /// Accounts of ours that it is available to, and that let it see their presence.
    accounts: Vec<Jid>,
}

/// Capabilities of the clients that are available, and a cache of hashes.
#[derive(Debug, Default)]
pub struct Capabilities {
    clients: Flat<SessionId, Box<Client>>,
    /// By bare address.
    remote: BTreeMap<Jid, Vec<Remote>>,
    /// Accounts in all of them.
    remote_accounts: usize,
    /// The one used last stands last.
    cache: VecDeque<(Name, Wants)>,
    /// What all of it holds.
    bytes: usize,
}

impl Capabilities {
    /// True when a session wants notifications of a node.
    pub fn wants(&self, id: SessionId, node: &str) -> bool {
        self.clients.get(&id).is_some_and(|c| c.wants(node))
    }

    /// True when a session wants notifications at all.
    pub fn wants_any(&self, id: SessionId) -> bool {
        self.clients.get(&id).is_some_and(|c| !c.wants.is_empty())
    }

    /// Clients of a contact on another server that want notifications of a node of this account.
    pub fn remote_wanting(&self, contact: &Jid, account: &Jid, node: &str) -> impl Iterator<Item = &Jid> {
        let clients = self.remote.get(contact).into_iter().flatten();
        clients.filter(move |r| r.accounts.contains(account) && r.client.wants(node)).map(|r| &r.jid)
    }

    /// What a client of another server wants.
    pub fn remote_wants(&self, jid: &Jid) -> Wants {
        let clients = self.remote.get(&jid.bare()).into_iter().flatten();
        clients.filter(|r| r.jid == *jid).map(|r| r.client.wants.clone()).next().unwrap_or_else(|| Rc::from([]))
    }

    /// A client of another server is not available any more.
    pub fn forget_remote(&mut self, jid: &Jid) {
        let bare = jid.bare();
        let Some(clients) = self.remote.get_mut(&bare) else { return };
        for gone in clients.extract_if(.., |r| r.jid == *jid || jid.is_bare()) {
            self.remote_accounts -= gone.accounts.len();
            self.bytes -= gone.held_bytes();
        }
        if clients.is_empty() {
            self.remote.remove(&bare);
        }
    }

    /// The session is not available any more.
    pub fn forget(&mut self, id: SessionId) {
        if let Some(client) = self.clients.remove(&id) {
            self.bytes -= client.held_bytes();
        }
    }

    /// Bytes that all of it holds.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Empties the cache of hashes.
    pub fn forget_cache(&mut self) {
        let cache = std::mem::take(&mut self.cache);
        self.bytes -= cache.iter().map(cached_bytes).sum::<usize>();
    }

    /// Puts a client of a session in the place of the one that was there.
    fn put(&mut self, id: SessionId, client: Client) {
        self.forget(id);
        self.bytes += client.held_bytes();
        self.clients.insert(id, Box::new(client));
    }

    fn cached(&mut self, name: &Name) -> Option<Wants> {
        let at = self.cache.iter().position(|(known, _)| known.is_same(name))?;
        let entry = self.cache.remove(at)?;
        let wants = entry.1.clone();
        self.cache.push_back(entry);
        Some(wants)
    }

    fn remember(&mut self, name: Name, wants: Wants, max: usize) {
        let entry = (name, wants);
        self.bytes += cached_bytes(&entry);
        self.cache.push_back(entry);
        while self.cache.len() > max {
            self.bytes -= self.cache.pop_front().as_ref().map_or(0, cached_bytes);
        }
    }

    /// What a session has said of itself, to outlive a restart; empty for nothing.
    pub fn stored(&mut self, id: SessionId) -> Vec<u8> {
        let Some(Client { name, asked, wants, .. }) = self.clients.get(&id).map(|client| &**client) else {
            return Vec::new();
        };
        let is_true = self.cache.iter().any(|(known, meant)| known.is_same(name) && meant == wants);
        to_bytes(&Stored {
            hash: name.hash.clone(),
            node: name.node.clone(),
            ver: name.ver.clone(),
            is_known: asked.is_none(),
            is_true,
            wants: wants.to_vec(),
        })
    }

    /// Takes that over.
    pub fn restore(&mut self, id: SessionId, stored: &[u8], cache_max: usize) {
        let Some(Stored { hash, node, ver, is_known, is_true, wants }) = from_bytes(stored) else { return };
        let name = Name { hash, node, ver };
        let wants = match self.cached(&name).filter(|_| is_true) {
            Some(wants) => wants,
            None => Rc::from(wants),
        };
        if is_true && !self.cache.iter().any(|(known, _)| known.is_same(&name)) {
            self.remember(name.clone(), wants.clone(), cache_max);
        }
        let asked = (!is_known).then(String::new);
        self.put(id, Client { name, asked, wants, is_alone: !is_true });
    }
}

/// What an entry of the cache of hashes holds, its wishes with it.
fn cached_bytes((name, wants): &(Name, Wants)) -> usize {
    size_of::<(Name, Wants)>() + name.heap_bytes() + wants_bytes(wants)
}

fn wants_bytes(wants: &Wants) -> usize {
    allocated(16 + size_of_val(&**wants)) + wants.iter().map(|wish| allocated(wish.len())).sum::<usize>()
}

impl Remote {
    fn held_bytes(&self) -> usize {
        // Its bare address and a list of one belong to it as a rule.
        2 * size_of::<Self>()
            + self.jid.heap_bytes()
            + self.client.heap_bytes()
            + allocated(size_of_val(&*self.accounts))
    }
}

impl Client {
    /// Takes the answer to what it was asked. Gives what the cache is to remember of it, if it has the hash.
    fn learn(&mut self, query: ElementRef<'_>, max_bytes: usize) -> Option<(Name, Wants)> {
        self.wants = wants(query, max_bytes);
        let is = |algorithm| verification(query, algorithm).is_some_and(|ver| ver == self.name.ver);
        self.is_alone = !self.name.algorithm().is_some_and(is);
        (!self.is_alone).then(|| (self.name.clone(), self.wants.clone()))
    }

    fn held_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.heap_bytes()
    }

    fn heap_bytes(&self) -> usize {
        let own = if self.is_alone { wants_bytes(&self.wants) } else { 0 };
        self.name.heap_bytes() + self.asked.as_ref().map_or(0, |id| allocated(id.len())) + own
    }

    fn wants(&self, node: &str) -> bool {
        self.wants.binary_search_by(|w| (**w).cmp(node)).is_ok()
    }
}

impl Name {
    fn heap_bytes(&self) -> usize {
        [&self.hash, &self.node, &self.ver].into_iter().map(|text| allocated(text.capacity())).sum()
    }

    fn of(presence: &Stanza) -> Option<Self> {
        let c = presence.child(ns::CAPS, "c")?;
        let part = |name| c.attr(name).filter(|v| v.len() <= PART_BYTES_MAX).map(str::to_string);
        // Without `hash` it is of the form before version 1.4, which says nothing that could be checked.
        Some(Self { hash: part("hash").unwrap_or_default(), node: part("node")?, ver: part("ver")? })
    }

    /// What stands behind it?
    fn request(&self) -> Stanza {
        Stanza::build(Kind::Iq(IqType::Get), |b| {
            b.open(ns::DISCO_INFO, "query").attr("node", &format!("{}#{}", self.node, self.ver)).close();
        })
    }

    /// The same hash says the same, whichever software names it.
    fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.ver == other.ver
    }

    fn algorithm(&self) -> Option<&'static Algorithm> {
        match self.hash.as_str() {
            "sha-1" => Some(&SHA1_FOR_LEGACY_USE_ONLY),
            "sha-256" => Some(&SHA256),
            "sha-512" => Some(&SHA512),
            _ => None,
        }
    }
}

/// Bytes of an attribute of `<c/>`.
const PART_BYTES_MAX: usize = 512;

impl Core {
    /// Takes the presence that a session has just broadcast. True when it wants something by it that it did not want
    /// before; when its capabilities are unknown they are asked for, and that follows later.
    pub fn caps_presence(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        let jid = session.jid.clone();
        let Some(available) = &session.available else { return false };
        let known = self.caps.clients.get(&id);
        // Without capabilities those that were said last stand: a client may leave them out (section 8.4).
        let Some(name) = Name::of(&available.stanza).or_else(|| known.map(|c| c.name.clone())) else { return false };
        // What was asked before a restart may have been lost with it.
        if known.is_some_and(|c| c.name == name && c.asked.as_deref() != Some("")) {
            return false;
        }
        if let Some(wants) = self.caps.cached(&name) {
            let is_new = !wants.is_empty();
            self.caps.put(id, Client { name, asked: None, wants, is_alone: false });
            return is_new;
        }
        let token = self.token();
        let request = name.request();
        let asked = Some(token.clone());
        self.caps.put(id, Client { name, asked, wants: Rc::from([]), is_alone: false });
        let request = request.addressed(Some(jid.bare()), Some(jid)).with_id(&token);
        self.send(InFlight::passing(request).to_session(id));
        false
    }

    /// Takes the presence of a client of another server, which its owner has sent to an account that lets him see its
    /// own. True when it has not been seen by that account before and wants something; when its capabilities are
    /// unknown they are asked for in the account's name, and that follows later.
    pub fn caps_remote(&mut self, account: &Jid, presence: &Stanza) -> bool {
        let (Some(jid), Some(name)) = (presence.from.clone(), Name::of(presence)) else { return false };
        let max = self.settings.limits.caps_remote_max as usize;
        let cached = self.caps.cached(&name);
        let clients = self.caps.remote.entry(jid.bare()).or_default();
        let at = clients.iter().position(|r| r.jid == jid);
        let known = at.and_then(|at| clients.get_mut(at));
        if let Some(known) = known
            && known.client.name == name
        {
            if known.accounts.contains(account) || self.caps.remote_accounts >= max {
                return false;
            }
            let before = known.held_bytes();
            known.accounts.push(account.clone());
            self.caps.bytes = self.caps.bytes - before + known.held_bytes();
            self.caps.remote_accounts += 1;
            return !known.client.wants.is_empty();
        }
        self.caps.forget_remote(&jid);
        if self.caps.remote_accounts >= max {
            return false;
        }
        let (asked, wants) = match cached {
            Some(wants) => (None, wants),
            None => (Some(self.token()), Rc::from([])),
        };
        let is_new = !wants.is_empty();
        let accounts = vec![account.clone()];
        let client = Client { name: name.clone(), asked: asked.clone(), wants, is_alone: false };
        let remote = Remote { jid: jid.clone(), client, accounts };
        self.caps.bytes += remote.held_bytes();
        self.caps.remote.entry(jid.bare()).or_default().push(remote);
        self.caps.remote_accounts += 1;
        if let Some(token) = asked {
            let request = name.request().addressed(Some(account.clone()), Some(jid)).with_id(&token);
            self.send(InFlight { filters: Filters::In, ..InFlight::passing(request) });
        }
        is_new
    }

    /// Takes the answer of a client of another server. Gives the clients whose wishes it has made known, each with the
    /// accounts that see it.
    pub fn caps_remote_answer(&mut self, stanza: &Stanza) -> Vec<(Jid, Vec<Jid>)> {
        let (Some(from), Some(id)) = (&stanza.from, &stanza.id) else { return Vec::new() };
        let max_bytes = self.settings.limits.caps_bytes_max as usize;
        let clients = self.caps.remote.get_mut(&from.bare()).into_iter().flatten();
        let mut asked = clients.filter(|r| r.jid == *from && r.client.asked.as_deref() == Some(id));
        let Some(remote) = asked.next() else { return Vec::new() };
        let before = remote.held_bytes();
        remote.client.asked = None;
        let query = stanza.child(ns::DISCO_INFO, "query").filter(|_| stanza.kind == Kind::Iq(IqType::Result));
        let learned = query.map(|query| remote.client.learn(query, max_bytes));
        let known = vec![(remote.jid.clone(), remote.accounts.clone())];
        self.caps.bytes = self.caps.bytes - before + remote.held_bytes();
        let Some(learned) = learned else { return Vec::new() };
        if let Some((name, wants)) = learned {
            self.caps.remember(name, wants, self.settings.limits.caps_cache_max as usize);
        }
        known
    }

    /// Takes an answer. Gives the sessions whose wishes it has made known.
    pub fn caps_answer(&mut self, stanza: &Stanza) -> Vec<SessionId> {
        let (Some(from), Some(id)) = (&stanza.from, &stanza.id) else { return Vec::new() };
        let Some(session) = self.sessions.find(from) else { return Vec::new() };
        let max_bytes = self.settings.limits.caps_bytes_max as usize;
        let Some(client) = self.caps.clients.get_mut(&session).filter(|c| c.asked.as_deref() == Some(id)) else {
            return Vec::new();
        };
        let before = client.held_bytes();
        client.asked = None;
        let query = stanza.child(ns::DISCO_INFO, "query").filter(|_| stanza.kind == Kind::Iq(IqType::Result));
        let learned = query.map(|query| client.learn(query, max_bytes));
        self.caps.bytes = self.caps.bytes - before + client.held_bytes();
        let Some(learned) = learned else { return Vec::new() };
        let mut known = vec![session];
        if let Some((name, wants)) = learned {
            for (other, client) in self.caps.clients.iter_mut() {
                if client.asked.is_some() && client.name.is_same(&name) {
                    self.caps.bytes -= client.held_bytes();
                    (client.asked, client.wants) = (None, wants.clone());
                    self.caps.bytes += client.held_bytes();
                    known.push(*other);
                }
            }
            self.caps.remember(name, wants, self.settings.limits.caps_cache_max as usize);
        }
        known
    }
}

/// Names of the nodes whose notifications the features ask for, as many as fit.
fn wants(query: ElementRef<'_>, max_bytes: usize) -> Wants {
    let features = query.children().filter(|c| c.is(ns::DISCO_INFO, "feature"));
    let nodes: BTreeSet<&str> = features.filter_map(|f| f.attr("var")?.strip_suffix("+notify")).collect();
    let mut bytes = 0;
    let fits = |node: &&str| {
        bytes += node.len() + size_of::<Box<str>>();
        bytes <= max_bytes
    };
    nodes.into_iter().take_while(fits).map(Box::from).collect()
}

/// Section 5.1: the hash over identities, features and forms. None when the answer is ill-formed (section 5.4).
fn verification(query: ElementRef<'_>, algorithm: &'static Algorithm) -> Option<String> {
    let (mut identities, mut features, mut forms) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for child in query.children() {
        if child.is(ns::DISCO_INFO, "identity") {
            let part = |name| child.attr(name).unwrap_or_default();
            let lang = child.attr_ns(ns::XML, "lang").unwrap_or_default();
            if !identities.insert((part("category"), part("type"), lang, part("name"))) {
                return None;
            }
        } else if child.is(ns::DISCO_INFO, "feature") {
            if !features.insert(child.attr("var").unwrap_or_default()) {
                return None;
            }
        } else if child.is(ns::DATA, "x")
            && let Some((form_type, fields)) = form(child)?
            && forms.insert(form_type, fields).is_some()
        {
            return None;
        }
    }
    let mut s = String::new();
    for (category, kind, lang, name) in identities {
        s.push_str(&format!("{category}/{kind}/{lang}/{name}<"));
    }
    features.into_iter().for_each(|feature| add(feature, &mut s));
    for (form_type, fields) in forms {
        add(&form_type, &mut s);
        for (var, values) in fields {
            add(var, &mut s);
            values.iter().for_each(|value| add(value, &mut s));
        }
    }
    Some(STANDARD.encode(digest(algorithm, s.as_bytes())))
}

fn add(text: &str, s: &mut String) {
    s.push_str(text);
    s.push('<');
}

type FormFields<'a> = BTreeMap<&'a str, Vec<String>>;

/// `FORM_TYPE` and the fields of a form. The outer none: the whole answer is ill-formed; the inner: the form does not
/// count.
fn form(x: ElementRef<'_>) -> Option<Option<(String, FormFields<'_>)>> {
    let (mut form_type, mut fields) = (None, BTreeMap::new());
    for field in x.children().filter(|c| c.is(ns::DATA, "field")) {
        let mut values: Vec<String> =
            field.children().filter(|c| c.is(ns::DATA, "value")).map(ElementRef::text).collect();
        values.sort();
        match field.attr("var").unwrap_or_default() {
            "FORM_TYPE" if field.attr("type") == Some("hidden") => {
                values.dedup();
                let [value] = values.as_slice() else { return None };
                form_type = Some(value.clone());
            }
            "FORM_TYPE" => {}
            var => {
                fields.entry(var).or_insert(values);
            }
        }
    }
    Some(form_type.map(|t| (t, fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of section 5.3.
    const PSI: &str = "<query xmlns='http://jabber.org/protocol/disco#info'>
        <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
        <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>
        <feature var='http://jabber.org/protocol/caps'/>
        <feature var='http://jabber.org/protocol/disco#info'/>
        <feature var='http://jabber.org/protocol/disco#items'/>
        <feature var='http://jabber.org/protocol/muc'/>
        <x xmlns='jabber:x:data' type='result'>
          <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
          <field var='ip_version'><value>ipv4</value><value>ipv6</value></field>
          <field var='os'><value>Mac</value></field>
          <field var='os_version'><value>10.5.1</value></field>
          <field var='software'><value>Psi</value></field>
          <field var='software_version'><value>0.11</value></field>
        </x></query>";

    fn hash(xml: &str) -> Option<String> {
        verification(crate::xml::parse(xml).unwrap().root(), &SHA1_FOR_LEGACY_USE_ONLY)
    }

    #[test]
    fn the_example_of_section_5_3_has_its_hash() {
        assert_eq!(hash(PSI).as_deref(), Some("q07IKJEyjvHSyhy//CH0CxmKi8w="));
    }

    #[test]
    fn what_is_ill_formed_has_no_hash() {
        let feature = "<feature var='http://jabber.org/protocol/muc'/>";
        assert_eq!(hash(&PSI.replace(feature, &feature.repeat(2))), None);
        let form = &PSI[PSI.find("<x ").unwrap()..PSI.find("</query>").unwrap()];
        assert_eq!(hash(&PSI.replace(form, &form.repeat(2))), None);
        let identity = "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>";
        assert_eq!(hash(&PSI.replace(identity, &identity.repeat(2))), None);
        let two = "softwareinfo</value><value>other</value>";
        assert_eq!(hash(&PSI.replace("softwareinfo</value>", two)), None);
        // A form whose FORM_TYPE is not hidden does not count.
        assert_eq!(hash(&PSI.replace(" type='hidden'", "")), hash(&PSI.replace(form, "")));
    }

    #[test]
    fn wishes_are_bounded() {
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='b+notify'/>\
            <feature var='a+notify'/><feature var='c'/><feature var='a+notify'/></query>";
        let element = crate::xml::parse(query).unwrap();
        let of = |max| wants(element.root(), max).iter().map(|w| w.to_string()).collect::<Vec<_>>();
        assert_eq!(of(100), ["a", "b"]);
        assert_eq!(of(20), ["a"]);
        assert!(of(10).is_empty());
    }
}
