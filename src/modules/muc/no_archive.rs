//! What rooms do in a build without archives.

use super::admin::Actor;
use super::form::Form;
use super::history::Heard;
use super::room::Room;
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::storage::StoreError;
use crate::xml::ElementRef;
use std::ops::ControlFlow;

/// There is nothing to find.
pub const FEATURES: &[&str] = &[];

/// Never.
pub fn is_supported(_: &Core) -> bool {
    false
}

/// Never.
pub fn is_on(_: &mut Core, _: &Jid) -> Result<bool, StoreError> {
    Ok(false)
}

/// The form has no such field.
///
/// # Errors
/// `bad-request` when somebody fills it in all the same.
pub fn wish(_: &Core, form: &Form) -> Result<Option<bool>, StanzaError> {
    match form.flag("muc#roomconfig_enablearchiving")? {
        Some(_) => Err(Condition::BadRequest.because("The form has a field that was not asked for.")),
        None => Ok(None),
    }
}

/// Nothing changes.
pub fn configure(_: &mut Core, _: &Jid, _: Option<bool>) -> Result<Option<&'static str>, StoreError> {
    Ok(None)
}

/// It is kept in the history alone.
pub fn keep(_: &mut Core, _: &Room, _: &mut Stanza, _: &Jid) -> Result<bool, StanzaError> {
    Ok(false)
}

/// Nothing.
pub fn last(_: &mut Core, _: &Jid, _: impl FnMut(Heard) -> ControlFlow<()>) -> Result<(), StoreError> {
    Ok(())
}

/// `service-unavailable`.
pub fn answer(
    _: &mut Core,
    _: &Room,
    _: &Actor,
    _: &Stanza,
    _: ElementRef<'_>,
    _: bool,
) -> Result<Option<Answer>, StanzaError> {
    Err(Condition::ServiceUnavailable.into())
}

/// `service-unavailable`.
pub fn moderate(
    _: &mut Core,
    _: &Room,
    _: &Actor,
    _: ElementRef<'_>,
    _: impl FnOnce(&mut Core),
) -> Result<(), StanzaError> {
    Err(Condition::ServiceUnavailable.into())
}

/// It passes.
pub fn retract(_: &mut Core, _: &Room, _: &Stanza, _: &Jid) -> Result<(), StanzaError> {
    Ok(())
}

/// All of it is for the history.
#[cfg(feature = "import")]
pub fn take(
    _: &mut Core,
    _: &Jid,
    _: &crate::core::moving::ArchivedPiece,
    _: bool,
) -> crate::core::moving::Outcome {
    Ok(crate::core::moving::Taken::Left("the room is not archived here"))
}
