//! Service administration (XEP-0133): what is done with accounts, sections 4.1 to 4.10.
//!
//! The engine does most of it, as for an operator at the machine. Accounts cannot be disabled here (4.3, 4.4).

use crate::core::admin::Command;
use crate::core::commands::{Act, Call, Field, Kind, Offer, Whom, bad_payload};
use crate::core::roster::Items;
use crate::core::{Answer, Core};
use crate::jid::Jid;
use crate::stanza::{Condition, StanzaError, form};
use crate::stream::sasl::keys::prepare_password;
use crate::xml::ns;
use zeroize::Zeroizing;

const ADD: &str = "http://jabber.org/protocol/admin#add-user";
const DELETE: &str = "http://jabber.org/protocol/admin#delete-user";
const END: &str = "http://jabber.org/protocol/admin#end-user-session";
const PASSWORD: &str = "http://jabber.org/protocol/admin#change-user-password";
const ROSTER: &str = "http://jabber.org/protocol/admin#get-user-roster";
const STATISTICS: &str = "http://jabber.org/protocol/admin#user-stats";

const ACCOUNT: Field = Field { var: "accountjid", kind: Kind::Address, label: "Address", is_required: true };
const ACCOUNTS: Field = Field { var: "accountjids", kind: Kind::Addresses, label: "Addresses", is_required: true };
const NEW_PASSWORD: Field = Field { var: "password", kind: Kind::Secret, label: "Password", is_required: true };
const AGAIN: Field = Field { var: "password-verify", kind: Kind::Secret, label: "Password again", is_required: true };

const fn offer(node: &'static str, name: &'static str, fields: &'static [Field]) -> Offer {
    Offer { node, name, whom: Whom::Admins, form_type: ns::ADMIN, fields, is_prefilled: false }
}

/// The commands.
pub const OFFERS: [Offer; 6] = [
    offer(ADD, "Add a user", &[ACCOUNT, NEW_PASSWORD, AGAIN]),
    offer(DELETE, "Delete users", &[ACCOUNTS]),
    offer(END, "End sessions of users", &[ACCOUNTS]),
    offer(PASSWORD, "Change a user's password", &[ACCOUNT, NEW_PASSWORD]),
    offer(ROSTER, "Get the roster of a user", &[ACCOUNTS]),
    offer(STATISTICS, "Get statistics of a user", &[ACCOUNT]),
];

/// Does one of them.
///
/// # Errors
/// Those of section 5, and `item-not-found` for an account that is not there.
pub fn run(core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
    match call.offer.node {
        ADD => {
            let account = bare(call, call.text("accountjid"))?;
            if call.text("password") != call.text("password-verify") {
                return Err(bad_payload("The passwords differ."));
            }
            if core.account_exists(&account)? {
                return Err(Condition::Conflict.because("The account exists already."));
            }
            let (jid, password) = (account.to_string(), password(call)?);
            Ok(call.act(core, Act::Operator(Command::UserAdd { jid, password })))
        }
        PASSWORD => {
            let (jid, password) = (one(core, call)?.to_string(), password(call)?);
            Ok(call.act(core, Act::Operator(Command::UserPasswd { jid, password })))
        }
        DELETE => {
            let accounts = all(core, call)?;
            if accounts.iter().any(|account| account.same_bare(&call.from)) {
                return Err(Condition::NotAllowed.because("Delete your own account as all users do."));
            }
            let jids = accounts.iter().map(Jid::to_string).collect();
            Ok(call.act(core, Act::Operator(Command::UserDel { jids })))
        }
        END => {
            let mut sessions = Vec::new();
            for text in call.all("accountjids") {
                sessions.push(call.account(text)?);
            }
            Ok(call.act(core, Act::EndSessions(sessions)))
        }
        ROSTER => roster(core, call),
        STATISTICS => statistics(core, call),
        _ => Ok(Answer::NotMine),
    }
}

/// An account of the host, which may not be there.
fn bare(call: &Call, text: &str) -> Result<Jid, StanzaError> {
    let account = call.account(text)?;
    match account.is_bare() {
        true => Ok(account),
        false => Err(bad_payload("The address of an account is of the form user@host.")),
    }
}

fn all(core: &mut Core, call: &Call) -> Result<Vec<Jid>, StanzaError> {
    for text in call.all("accountjids") {
        bare(call, text)?;
    }
    call.accounts(core, "accountjids")
}

fn one(core: &mut Core, call: &Call) -> Result<Jid, StanzaError> {
    bare(call, call.text("accountjid"))?;
    call.accounts(core, "accountjid")?.pop().ok_or_else(|| Condition::ItemNotFound.into())
}

fn password(call: &Call) -> Result<Zeroizing<String>, StanzaError> {
    let text = call.text("password");
    prepare_password(text).map_err(|_| bad_payload("The password has a forbidden character."))?;
    Ok(Zeroizing::new(text.to_string()))
}

/// Section 4.8: the roster as its owner would get it. One at a time: of several nothing would say which is whose.
fn roster(core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
    let [account] = &all(core, call)?[..] else { return Err(bad_payload("One roster is shown at a time.")) };
    let roster = core.roster_element(account, None)?;
    Ok(Answer::Result(call.run.completed(|b| {
        form::open(b, "result", ns::ADMIN);
        form::field(b, "accountjids", "jid-multi", "", &[], &[account.as_str()]);
        b.copy(roster.root());
        b.close();
    })))
}

/// Section 4.10, as far as it is known: what somebody sends in a second, or how often he logs in, is not counted.
fn statistics(core: &mut Core, call: &Call) -> Result<Answer, StanzaError> {
    let account = one(core, call)?;
    let contacts = core.view.count::<Items>(account.bare_str())?;
    let sessions = core.sessions.of(&account).iter().filter_map(|id| core.sessions.get(*id));
    let resources = sessions.filter_map(|session| session.jid.resource().map(str::to_string)).collect();
    let fields =
        [("rostersize", "text-single", vec![contacts.to_string()]), ("onlineresources", "text-multi", resources)];
    Ok(call.result(ns::ADMIN, &fields))
}
