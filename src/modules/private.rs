//! Private XML storage (XEP-0049).

use super::{IqRoute, Module, Scope, TableInfo, Xep};
#[cfg(feature = "import")]
use crate::core::moving::{Outcome, Piece, Refusal, Taken, Terms};
use crate::core::{Answer, Core, Request};
#[cfg(feature = "import")]
use crate::{jid::Jid, storage::StoreError};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::storage::Table;
use crate::xml::{Builder, ns};

section! {
    /// Private XML storage (XEP-0049).
    pub struct Config in "modules.private" {}
}

crate::record! {
    /// One element as XML.
    pub struct Stored {
        /// As text.
        pub xml: String,
    }
}

/// Owner: the account. Sub key: namespace, a zero byte, name.
pub struct Elements;
impl Table for Elements {
    const ID: u8 = 17;
    const NAME: &'static str = "private";
    type Value = Stored;
}

/// The module.
pub struct Private;

impl Module for Private {
    const XEPS: &'static [Xep] = &[Xep { number: 49, version: "1.2" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::PRIVATE];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Elements::ID, name: Elements::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::PRIVATE, "query")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        if !request.is_own() {
            // Section 2.3, example 6.
            return Err(Condition::Forbidden.into());
        }
        let owner = request.owner.bare_str();
        let children: Vec<_> = request.child.children().collect();
        if children.is_empty() {
            // Section 2.3 has one error for each.
            let condition = if request.is_set { Condition::NotAcceptable } else { Condition::BadRequest };
            return Err(condition.because("The query names no element."));
        }
        // Section 2.3: a namespace of its own.
        if children.iter().any(|c| c.ns().is_empty() || c.ns() == ns::PRIVATE || c.ns() == ns::CLIENT) {
            return Err(Condition::NotAcceptable.because("The element needs a namespace of its own."));
        }
        if !request.is_set {
            let [child] = children.as_slice() else {
                return Err(Condition::BadRequest.because("One element is asked for at a time."));
            };
            let mut b = Builder::new(ns::PRIVATE, "query");
            let stored = core.view.get::<Elements>(owner, &key(child.ns(), child.name()))?;
            match stored.and_then(|s| crate::xml::parse(&s.xml).ok()) {
                Some(element) => b.copy(element.root()),
                None => _ = b.open(child.ns(), child.name()).close(),
            }
            return Ok(Answer::Result(b.finish()));
        }
        for child in children {
            let key = key(child.ns(), child.name());
            let xml = child.to_xml();
            if xml.len() > core.settings.limits.private_bytes_max as usize {
                return Err(Condition::NotAcceptable.because("The element is too long."));
            }
            let is_new = !core.view.contains::<Elements>(owner, &key)?;
            if is_new && core.view.count::<Elements>(owner)? >= core.settings.limits.private_elements_max as usize {
                return Err(Condition::ResourceConstraint.because("Too many elements are stored."));
            }
            if child.content().next().is_none() && child.attributes().next().is_none() {
                core.view.delete::<Elements>(owner, &key);
            } else {
                core.view.put::<Elements>(owner, &key, &Stored { xml });
            }
        }
        Ok(Answer::Empty)
    }

    #[cfg(feature = "import")]
    fn take_in(&mut self, core: &mut Core, owner: &Jid, piece: &Piece, terms: &mut Terms) -> Outcome {
        let Piece::Private(element) = piece else { return Ok(Taken::NotMine) };
        let (root, owner) = (element.root(), owner.bare_str());
        if root.ns().is_empty() || root.ns() == ns::PRIVATE || root.ns() == ns::CLIENT {
            return Err(Refusal::because("it has no namespace of its own"));
        }
        let (key, xml) = (key(root.ns(), root.name()), root.to_xml());
        let limits = core.settings.clone();
        if xml.len() > limits.limits.private_bytes_max as usize {
            return Err(Refusal::because("it is longer than limits.private_bytes_max"));
        }
        let is_new = !core.view.contains::<Elements>(owner, &key)?;
        if is_new && core.view.count::<Elements>(owner)? >= limits.limits.private_elements_max as usize {
            return Err(Refusal::because("there are more than limits.private_elements_max"));
        }
        core.take_row::<Elements>(owner, &key, &Stored { xml }, terms.replace)
    }

    #[cfg(feature = "import")]
    fn give_out(&mut self, core: &mut Core, owner: &Jid, to: &mut dyn FnMut(Piece)) -> Result<(), StoreError> {
        let rows = core.view.list::<Elements>(owner.bare_str(), usize::MAX)?;
        rows.into_iter().filter_map(|(_, row)| crate::xml::parse(&row.xml).ok()).map(Piece::Private).for_each(to);
        Ok(())
    }
}

fn key(ns: &str, name: &str) -> Vec<u8> {
    [ns.as_bytes(), &[0], name.as_bytes()].concat()
}
