//! Ad-hoc commands (XEP-0050), as far as those who answer them read and write them: commands of one stage, whose form
//! may be submitted without having been asked for.

use super::{Condition, StanzaError};
use crate::xml::{Builder, Element, ElementRef, ns};

/// What somebody wants to be done with a command.
pub enum Action<'a> {
    /// Show the form.
    Ask,
    /// Do it, with this form.
    Do(ElementRef<'a>),
    /// Forget it.
    Cancel,
}

/// Reads `<command/>`.
///
/// # Errors
/// `bad-request` with the condition of section 4.4.
pub fn read(command: ElementRef<'_>) -> Result<Action<'_>, StanzaError> {
    let form = command.child(ns::DATA, "x");
    match (command.attr("action"), form) {
        (Some("cancel"), _) => Ok(Action::Cancel),
        (None | Some("execute" | "complete"), Some(form)) => Ok(Action::Do(form)),
        (None | Some("execute"), None) => Ok(Action::Ask),
        (Some("complete"), None) => Err(bad("bad-payload")),
        (Some("prev" | "next"), _) => Err(bad("bad-action")),
        (Some(_), _) => Err(bad("malformed-action")),
    }
}

fn bad(application: &str) -> StanzaError {
    StanzaError::from(Condition::BadRequest).with_application(ns::COMMANDS, application)
}

/// Answers a command. `session` is its id; `status` one of `executing`, `completed`, `canceled`.
pub fn answer(node: &str, session: &str, status: &str, payload: impl FnOnce(&mut Builder)) -> Element {
    let mut b = Builder::new(ns::COMMANDS, "command");
    b.attr("node", node).attr("sessionid", session).attr("status", status);
    // Section 3.8: the language of what is said to people.
    b.attr_ns(ns::XML, "lang", "en");
    if status == "executing" {
        b.open(ns::COMMANDS, "actions").attr("execute", "complete").open(ns::COMMANDS, "complete").close().close();
    }
    payload(&mut b);
    b.finish()
}

/// Answers disco#info for the node of a command, or of their list (section 2.2): a type of the category `automation`.
pub fn info(node: &str, kind: &str, name: &str) -> Element {
    let mut b = Builder::new(ns::DISCO_INFO, "query");
    b.attr("node", node).open(ns::DISCO_INFO, "identity");
    b.attr("category", "automation").attr("type", kind).attr("name", name).close();
    for feature in [ns::COMMANDS, ns::DATA] {
        b.open(ns::DISCO_INFO, "feature").attr("var", feature).close();
    }
    b.finish()
}
