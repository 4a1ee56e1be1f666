//! vCards of accounts (XEP-0054), which more than one module looks at.

use super::Core;
use crate::storage::{StoreError, Table};
use crate::xml::Element;

crate::record! {
    /// A vCard as XML.
    pub struct Stored {
        /// As text.
        pub xml: String,
    }
}

/// Owner: the account. One row, no sub key.
pub struct VCards;
impl Table for VCards {
    const ID: u8 = 18;
    const NAME: &'static str = "vcards";
    type Value = Stored;
}

impl Core {
    /// The vCard of an account.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn vcard(&mut self, account: &str) -> Result<Option<Element>, StoreError> {
        let stored = self.view.get::<VCards>(account, b"")?;
        Ok(stored.and_then(|s| crate::xml::parse(&s.xml).ok()))
    }
}
