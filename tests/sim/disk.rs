//! The storage thread as it may behave: late, in groups, failing, and cut off by a crash anywhere.

use couplet::core::io::Input;
use couplet::core::pubsub;
use couplet::core::roster::{self, Items, Versions};
use couplet::core::spool::Rows;
use couplet::core::vcard;
use couplet::modules::{blocking, private};
use couplet::storage::memory::Memory;
use couplet::storage::{Batch, StoreError, Table, Ticket, View, Writer};
use std::collections::{BTreeMap, VecDeque};

use super::model::Key;

pub struct Disk {
    memory: Memory,
    writer: Box<dyn Writer>,
    /// Handed over, not committed.
    waiting: VecDeque<Batch>,
    /// Older batches stand on writes that have failed.
    epoch: u32,
    /// Done, not yet told.
    reports: VecDeque<Result<Ticket, StoreError>>,
    /// When each row was last committed.
    touched: BTreeMap<Vec<u8>, u64>,
}

impl Disk {
    pub fn new() -> Self {
        let memory = Memory::new();
        Self {
            writer: memory.open().1,
            memory,
            waiting: VecDeque::new(),
            epoch: 0,
            reports: VecDeque::new(),
            touched: BTreeMap::new(),
        }
    }

    /// For a new engine.
    pub fn open(&self) -> Box<dyn couplet::storage::Reader> {
        self.memory.open().0
    }

    pub fn accept(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Commits the first `n` batches in one transaction, or fails to. The report comes later.
    pub fn commit(&mut self, n: usize, fails: bool, step: u64) {
        let batches: Vec<Batch> = self.waiting.drain(..n).filter(|b| b.epoch >= self.epoch).collect();
        let Some(last) = batches.last() else { return };
        if fails {
            self.memory.fail_commit(1, StoreError::Io("the simulated disk fails".to_string()));
        }
        match self.writer.commit(&batches) {
            Ok(()) => {
                let keys = batches.iter().flat_map(|b| &b.writes).map(|(key, _)| key.to_vec());
                self.touched.extend(keys.map(|key| (key, step)));
                self.reports.push_back(Ok(last.ticket));
            }
            Err(error) => {
                self.epoch = last.epoch + 1;
                self.reports.push_back(Err(error));
            }
        }
    }

    /// Nothing can be read until told so again.
    pub fn make_unreadable(&mut self, on: bool) {
        self.memory.fail_snapshots(on.then(|| StoreError::Io("the simulated disk cannot be read".to_string())));
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn report(&mut self) -> Option<Input<'static>> {
        Some(match self.reports.pop_front()? {
            Ok(ticket) => Input::Committed(ticket),
            Err(error) => Input::CommitFailed(error),
        })
    }

    /// The power goes: some of what waits may have reached the disk, in order; nobody was told.
    pub fn crash(&mut self, reached: usize, step: u64) {
        if reached > 0 {
            self.commit(reached, false, step);
        }
        self.restart();
    }

    /// A new engine will use it.
    pub fn restart(&mut self) {
        self.waiting.clear();
        self.reports.clear();
        self.epoch = 0;
    }

    /// When that row was last committed; 0 for never.
    pub fn touched<T: Table>(&self, owner: &str, sub: &str) -> u64 {
        let key = [owner.as_bytes(), &[0, T::ID], sub.as_bytes()].concat();
        self.touched.get(&key).copied().unwrap_or(0)
    }

    fn view(&self) -> View {
        View::new(self.memory.open().0).expect("the memory of a test can be read")
    }

    /// A contact as committed.
    pub fn item(&self, account: &str, contact: &str) -> Option<roster::Item> {
        self.view().get::<Items>(account, contact.as_bytes()).expect("a row")
    }

    /// Whether the spool of an account holds that message as committed.
    pub fn spools(&self, account: &str, number: usize) -> bool {
        let id = format!(" id='x{number}'");
        self.view().list::<Rows>(account, usize::MAX).expect("rows").iter().any(|(_, row)| row.xml.contains(&id))
    }

    /// Whether the archive of an account holds that message as committed.
    #[cfg(feature = "mam")]
    pub fn archives(&self, account: &str, number: usize) -> bool {
        let id = format!(" id='x{number}'");
        let rows = self.view().list::<couplet::core::archive::Rows>(account, usize::MAX);
        rows.expect("rows").iter().any(|(_, row)| row.xml.contains(&id))
    }

    /// The archive of an account as committed: ids, and which messages they are.
    #[cfg(feature = "mam")]
    pub fn archive(&self, account: &str) -> Vec<(String, Option<usize>)> {
        // The error that answers a message has its id.
        let is_error = |xml: &str| xml.contains(" type='error'");
        let number = |xml: &str| match is_error(xml) {
            true => None,
            false => xml.split(" id='x").nth(1)?.split('\'').next()?.parse().ok(),
        };
        let id = |sub: &[u8]| couplet::core::archive::Id::from_key(sub).expect("an id").to_string();
        let rows = self.view().list::<couplet::core::archive::Rows>(account, usize::MAX).expect("rows");
        rows.into_iter().map(|(sub, row)| (id(&sub), number(&row.xml))).collect()
    }

    /// There are none.
    #[cfg(not(feature = "mam"))]
    pub fn archive(&self, _: &str) -> Vec<(String, Option<usize>)> {
        Vec::new()
    }

    /// There are no archives.
    #[cfg(not(feature = "mam"))]
    pub fn archives(&self, _: &str, _: usize) -> bool {
        false
    }

    /// Whether an account has an affiliation to a node as committed.
    pub fn is_affiliated(&self, owner: &str, node: &str, account: &str) -> bool {
        let sub = [node.as_bytes(), &[0], account.as_bytes()].concat();
        self.view().get::<pubsub::Affiliations>(owner, &sub).expect("a row").is_some()
    }

    /// All contacts as committed.
    pub fn roster(&self, account: &str) -> BTreeMap<String, roster::Item> {
        let rows = self.view().list::<Items>(account, usize::MAX).expect("rows");
        rows.into_iter().map(|(sub, item)| (String::from_utf8(sub).expect("an address"), item)).collect()
    }

    /// The version of a roster as committed.
    pub fn roster_version(&self, account: &str) -> u64 {
        self.view().get::<Versions>(account, b"").expect("a row").map_or(0, |v| v.number)
    }

    /// A register as committed.
    pub fn read(&self, account: &str, key: &Key) -> String {
        let mut view = self.view();
        match key {
            Key::Name(contact) => self.item(account, contact).map(|i| i.name).unwrap_or_default(),
            Key::Private(n) => {
                let sub = [private_ns(*n).as_bytes(), &[0], b"note"].concat();
                let stored = view.get::<private::Elements>(account, &sub).expect("a row");
                stored.map(|s| text(&s.xml)).unwrap_or_default()
            }
            Key::VCard => {
                let stored = view.get::<vcard::VCards>(account, b"").expect("a row");
                stored.map(|s| text(&s.xml)).unwrap_or_default()
            }
            Key::Affiliation(_) => String::new(),
            Key::Item(node, id) => {
                let rows = view.list_from::<pubsub::Items>(account, &[node.as_bytes(), &[0]].concat(), usize::MAX);
                let item = rows.expect("rows").into_iter().find(|(_, item)| item.id == *id);
                item.map(|(_, item)| text(&item.payload)).unwrap_or_default()
            }
            Key::Block(jid) => {
                let list = view.get::<blocking::Blocklists>(account, b"").expect("a row");
                let blocked = list.is_some_and(|l| l.jids.contains(jid));
                if blocked { "yes".to_string() } else { String::new() }
            }
        }
    }
}

/// Namespace of a private element.
pub fn private_ns(n: u8) -> String {
    format!("sim:private:{n}")
}

/// The text of an element and its children.
fn text(xml: &str) -> String {
    couplet::xml::parse(xml).map(|e| deep_text(e.root())).unwrap_or_default()
}

pub fn deep_text(element: couplet::xml::ElementRef<'_>) -> String {
    element.text() + &element.children().map(deep_text).collect::<String>()
}
