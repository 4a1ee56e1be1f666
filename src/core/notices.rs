//! Texts for the users of a host that an administrator has set by a command, in place of those of the configuration.

use super::commands::{Call, Field, Kind, Offer, Whom};
use super::{Answer, Core};
use crate::stanza::{Condition, StanzaError};
use crate::storage::{StoreError, Table};
use crate::xml::ns;

crate::record! {
    /// What is said.
    pub struct Notice {
        /// Not empty.
        pub text: String,
    }
}

/// Owner: the host. Sub key: the field of the command's form that it was filled into.
pub struct Notices;
impl Table for Notices {
    const ID: u8 = 11;
    const NAME: &'static str = "notices";
    type Value = Notice;
}

/// The field that such a text is filled into.
pub const fn field(var: &'static str, label: &'static str) -> [Field; 1] {
    [Field { var, kind: Kind::Lines, label, is_required: true }]
}

/// A command for such a text: with a form that shows the present one, with an empty form, or without any form, which
/// deletes it.
pub const fn offer(node: &'static str, name: &'static str, fields: &'static [Field], is_prefilled: bool) -> Offer {
    Offer { node, name, whom: Whom::Admins, form_type: ns::ADMIN, fields, is_prefilled }
}

impl Core {
    /// The text that was set; none where the configuration has the word.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn notice(&mut self, host: &str, var: &str) -> Result<Option<String>, StoreError> {
        Ok(self.view.get::<Notices>(host, var.as_bytes())?.map(|notice| notice.text))
    }

    /// Does a command that [`offer`] has made. `configured` is what the configuration says; who is online is `told` of
    /// a text that is set.
    ///
    /// # Errors
    /// `not-allowed` where there is a text to be deleted that the configuration has; when storage cannot be read.
    pub fn notice_command(
        &mut self,
        call: &Call,
        var: &'static str,
        configured: &str,
        told: bool,
    ) -> Result<Answer, StanzaError> {
        let host = call.host.domain();
        if call.is_question {
            let text = self.notice(host, var)?.unwrap_or_else(|| configured.to_string());
            return Ok(call.form(&[(var, text.lines().map(str::to_string).collect())]));
        }
        if !call.offer.fields.is_empty() {
            let text = call.lines(var);
            if told {
                self.announce(&[host.to_string()], &text);
            }
            self.view.put::<Notices>(host, var.as_bytes(), &Notice { text });
            return Ok(call.done("The message is set."));
        }
        let was_set = self.view.contains::<Notices>(host, var.as_bytes())?;
        self.view.delete::<Notices>(host, var.as_bytes());
        match (was_set, configured.trim().is_empty()) {
            (_, true) => Ok(call.done("There is no message.")),
            (true, false) => Ok(call.done("The message is that of the configuration again.")),
            (false, false) => Err(Condition::NotAllowed.because("The message is in the configuration.")),
        }
    }
}
