//! vcard-temp (XEP-0054): one's own to write, everybody's to read.

use super::{IqRoute, Module, Scope, Xep};
use crate::core::vcard::{Stored, VCards};
use crate::core::{Answer, Core, Request};
use crate::setting::section;
use crate::stanza::{Condition, StanzaError};
use crate::xml::{Element, ns};

section! {
    /// vcard-temp (XEP-0054).
    pub struct Config in "modules.vcard" {}
}

/// The module.
pub struct VCard;

impl Module for VCard {
    const XEPS: &'static [Xep] = &[Xep { number: 54, version: "1.3.0" }];
    const HOST_FEATURES: &'static [&'static str] = &[ns::VCARD];
    const ACCOUNT_FEATURES: &'static [&'static str] = &[ns::VCARD];
    const IQ: &'static [IqRoute] = &[(Scope::Account, ns::VCARD, "vCard")];
    type Config = Config;

    fn new(_: Config) -> Self {
        Self
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let owner = request.owner.bare_str();
        if !request.is_set {
            return match core.vcard(owner)? {
                Some(vcard) => Ok(Answer::Result(vcard)),
                // Section 3.1 allows an empty one. Section 3.3: of others the same error as when there is no account.
                None if request.is_own() => Ok(Answer::Result(Element::empty(ns::VCARD, "vCard"))),
                None => Err(Condition::ServiceUnavailable.into()),
            };
        }
        if !request.is_own() {
            // Section 3.2.
            return Err(Condition::Forbidden.into());
        }
        let xml = request.child.to_xml();
        if xml.len() > core.settings.limits.vcard_bytes_max as usize {
            return Err(Condition::NotAcceptable.because("The vCard is too long."));
        }
        core.view.put::<VCards>(owner, b"", &Stored { xml });
        Ok(Answer::Empty)
    }
}
