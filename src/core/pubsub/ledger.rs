//! What nodes and their items take, against what they may take.

use super::tables::{Usage, Usages};
use super::{Service, refusal};
use crate::stanza::{Condition, StanzaError};
use crate::storage::StoreError;

/// Where what a node takes is counted: for all nodes of its service, and at a domain for those of its maker, too.
pub(super) struct Ledger {
    rows: Vec<Row>,
}

struct Row {
    /// Sub key: empty for all, or a bare address.
    whose: String,
    usage: Usage,
    nodes_max: u32,
    bytes_max: u64,
}

impl Ledger {
    /// Counts one node more.
    ///
    /// # Errors
    /// `conflict` with `max-nodes-exceeded`.
    pub fn add_node(&mut self) -> Result<(), StanzaError> {
        if self.rows.iter().any(|row| row.usage.nodes >= row.nodes_max) {
            return Err(refusal(Condition::Conflict, "max-nodes-exceeded"));
        }
        self.rows.iter_mut().for_each(|row| row.usage.nodes += 1);
        Ok(())
    }

    /// Counts one node less.
    pub fn remove_node(&mut self) {
        self.rows.iter_mut().for_each(|row| row.usage.nodes = row.usage.nodes.saturating_sub(1));
    }

    /// Counts bytes of items that are gone.
    pub fn free(&mut self, bytes: u64) {
        self.rows.iter_mut().for_each(|row| row.usage.bytes = row.usage.bytes.saturating_sub(bytes));
    }

    /// Counts bytes of a new item.
    ///
    /// # Errors
    /// `resource-constraint` when that is too much.
    pub fn charge(&mut self, bytes: u64) -> Result<(), StanzaError> {
        self.rows.iter_mut().for_each(|row| row.usage.bytes = row.usage.bytes.saturating_add(bytes));
        match self.rows.iter().any(|row| row.usage.bytes > row.bytes_max) {
            true => Err(Condition::ResourceConstraint.because("Too much is stored.")),
            false => Ok(()),
        }
    }
}

impl Service<'_> {
    /// The ledger for nodes that `maker` has made; accounts have but one.
    pub(super) fn ledger_of(&mut self, maker: &str) -> Result<Ledger, StoreError> {
        let limits = &self.core.settings.limits;
        let of_account = (limits.pubsub_nodes_max, u64::from(limits.pubsub_bytes_max));
        let of_domain = (limits.pubsub_service_nodes_max, u64::from(limits.pubsub_service_bytes_max));
        let wanted = match self.policy.is_domain() {
            true => vec![("", of_domain), (maker, of_account)],
            false => vec![("", of_account)],
        };
        let mut rows = Vec::with_capacity(wanted.len());
        for (whose, (nodes_max, bytes_max)) in wanted {
            let usage = self.core.view.get::<Usages>(self.owner.bare_str(), whose.as_bytes())?;
            let usage = usage.unwrap_or(Usage { nodes: 0, bytes: 0 });
            rows.push(Row { whose: whose.to_string(), usage, nodes_max, bytes_max });
        }
        Ok(Ledger { rows })
    }

    /// The ledger for a node.
    pub(super) fn ledger(&mut self, name: &str) -> Result<Ledger, StoreError> {
        let maker = match self.policy.is_domain() {
            true => self.origin(name)?.map(|origin| origin.maker).unwrap_or_default(),
            false => String::new(),
        };
        self.ledger_of(&maker)
    }

    /// Stores what a ledger says.
    pub(super) fn put_ledger(&mut self, ledger: &Ledger) {
        for row in &ledger.rows {
            match row.usage {
                Usage { nodes: 0, bytes: 0 } if !row.whose.is_empty() => {
                    self.core.view.delete::<Usages>(self.owner.bare_str(), row.whose.as_bytes());
                }
                _ => self.core.view.put::<Usages>(self.owner.bare_str(), row.whose.as_bytes(), &row.usage),
            }
        }
    }
}
