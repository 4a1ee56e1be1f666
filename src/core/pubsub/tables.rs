//! What is stored of nodes.

use super::{Affiliation, Config};
use crate::storage::{Decoder, Encoder, Record, Table};

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
    /// That somebody has asked to be subscribed, and no owner has answered.
    pub struct Asked {}
    /// That somebody has to do with a node.
    pub struct Tie {}
    /// Where a node comes from.
    pub struct Origin {
        /// Bare address of who has made it.
        pub maker: String,
        /// When, in milliseconds since 1970.
        pub made_ms: u64,
    }
    /// What nodes take.
    pub struct Usage {
        /// Nodes.
        pub nodes: u32,
        /// Bytes of their items.
        pub bytes: u64,
    }
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Unique in its node.
    pub id: String,
    /// Bare address of who has published it.
    pub publisher: String,
    /// As XML; empty without payload.
    pub payload: String,
    /// When it was published, in milliseconds since 1970; 0 where nobody knows.
    pub at_ms: u64,
}

/// Version 1 knew no times.
impl Record for Item {
    fn encode(&self, out: &mut Encoder) {
        out.byte(2);
        out.put(&self.id);
        out.put(&self.publisher);
        out.put(&self.payload);
        out.put(&self.at_ms);
    }

    fn decode(d: &mut Decoder<'_>) -> Option<Self> {
        let version = d.byte()?;
        let (id, publisher, payload) = (d.get()?, d.get()?, d.get()?);
        let at_ms = match version {
            1 => 0,
            2 => d.get()?,
            _ => return None,
        };
        Some(Self { id, publisher, payload, at_ms })
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

/// Owner: the service. Sub key: none for all of its nodes; at a domain, the bare address of an account for those that
/// it has made.
pub struct Usages;
impl Table for Usages {
    const ID: u8 = 37;
    const NAME: &'static str = "pubsub-usage";
    type Value = Usage;
}

/// Owner: the service, a domain. Sub key: the name of the node, a zero byte, a bare or full address.
pub struct Requests;
impl Table for Requests {
    const ID: u8 = 40;
    const NAME: &'static str = "pubsub-requests";
    type Value = Asked;
}

/// Owner: the service, a domain. Sub key: a bare address, a zero byte, the name of a node of which that address, or one
/// of its resources, is a subscriber, or wants to be, or with which it has an affiliation.
pub struct Ties;
impl Table for Ties {
    const ID: u8 = 41;
    const NAME: &'static str = "pubsub-ties";
    type Value = Tie;
}

/// Owner: the service, a domain. Sub key: the name of the node.
pub struct Origins;
impl Table for Origins {
    const ID: u8 = 42;
    const NAME: &'static str = "pubsub-origins";
    type Value = Origin;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::codec::{from_bytes, to_bytes};

    #[test]
    fn an_item_of_before_has_no_time() {
        let item = Item { id: "a".into(), publisher: "romeo@localhost".into(), payload: "<a/>".into(), at_ms: 7 };
        let bytes = to_bytes(&item);
        assert_eq!(from_bytes(&bytes), Some(item.clone()));
        let before = [&[1], &bytes[1..bytes.len() - 1]].concat();
        assert_eq!(from_bytes(&before), Some(Item { at_ms: 0, ..item }));
        assert_eq!(from_bytes::<Item>(&[&[3], &bytes[1..]].concat()), None);
    }
}
