//! What is stored of nodes.

use super::{Affiliation, Config};
use crate::storage::Table;

crate::record! {
    /// A node.
    pub struct Node {
        /// How it is configured.
        pub config: Config,
        /// Number of the next item.
        pub next: u64,
        /// Items that are kept.
        pub items: u32,
    }
    /// An item.
    pub struct Item {
        /// Unique in its node.
        pub id: String,
        /// Bare address of who has published it.
        pub publisher: String,
        /// As XML; empty without payload.
        pub payload: String,
    }
    /// Where the item of an id stands.
    pub struct Place {
        /// Its number.
        pub number: u64,
    }
    /// That somebody is subscribed.
    pub struct Subscribed {}
    /// What somebody is to a node.
    pub struct Affiliated {
        /// See [`Affiliation`].
        pub affiliation: Affiliation,
    }
    /// What all nodes of one owner take.
    pub struct Usage {
        /// Nodes.
        pub nodes: u32,
        /// Bytes of their items.
        pub bytes: u64,
    }
}

/// Owner: the service. Sub key: the name of the node.
pub struct Nodes;
impl Table for Nodes {
    const ID: u8 = 32;
    const NAME: &'static str = "pubsub-nodes";
    type Value = Node;
}

/// Owner: the service. Sub key: the name of the node, a zero byte, the number of the item (8 bytes, high ones
/// first).
pub struct Items;
impl Table for Items {
    const ID: u8 = 33;
    const NAME: &'static str = "pubsub-items";
    type Value = Item;
}

/// Owner: the service. Sub key: the name of the node, a zero byte, the id of the item.
pub struct Places;
impl Table for Places {
    const ID: u8 = 34;
    const NAME: &'static str = "pubsub-places";
    type Value = Place;
}

/// Owner: the service. Sub key: the name of the node, a zero byte, a bare or full address.
pub struct Subscriptions;
impl Table for Subscriptions {
    const ID: u8 = 35;
    const NAME: &'static str = "pubsub-subscriptions";
    type Value = Subscribed;
}

/// Owner: the service. Sub key: the name of the node, a zero byte, a bare address.
pub struct Affiliations;
impl Table for Affiliations {
    const ID: u8 = 36;
    const NAME: &'static str = "pubsub-affiliations";
    type Value = Affiliated;
}

/// Owner: the service. One row, no sub key.
pub struct Usages;
impl Table for Usages {
    const ID: u8 = 37;
    const NAME: &'static str = "pubsub-usage";
    type Value = Usage;
}
