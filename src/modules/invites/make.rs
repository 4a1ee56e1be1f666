//! Invitations that clients make by commands (XEP-0401 sections 3, 5.1 and 5.4).

use crate::clock::datetime;
use crate::core::commands::{Call, Field, Kind, Offer, Whom, bad_payload};
use crate::core::invites::{Invite, page};
use crate::core::{Answer, Core};
use crate::jid::{self, Jid};
use crate::setting::Seconds;
use crate::stanza::{Condition, StanzaError};

const INVITE: &str = "urn:xmpp:invite#invite";
const CREATE_ACCOUNT: &str = "urn:xmpp:invite#create-account";
const RESULT: &str = "urn:xmpp:invite#invitation";

const USERNAME: Field = Field {
    var: "username",
    kind: Kind::Text,
    label: "Username; the invited chooses one if nothing is said",
    is_required: false,
};
const SUBSCRIPTION: Field = Field {
    var: "roster-subscription",
    kind: Kind::Flag,
    label: "The new user and you become contacts",
    is_required: false,
};

/// The commands; those of users are for administrators alone where users may not invite.
pub fn offers(users: bool) -> [Offer; 2] {
    let offer = |node, name, whom, fields| Offer { node, name, whom, form_type: "", fields, is_prefilled: false };
    let whom = if users { Whom::Users } else { Whom::Admins };
    [
        offer(INVITE, "Invite somebody to become your contact", whom, &[]),
        offer(CREATE_ACCOUNT, "Invite somebody to make an account", Whom::Admins, &[USERNAME, SUBSCRIPTION]),
    ]
}

/// Makes one.
///
/// # Errors
/// `conflict` for a username that is taken or promised, `resource-constraint` for too many, `not-allowed` for a contact
/// without account here.
pub fn run(core: &mut Core, call: &Call, expires: Seconds) -> Result<Answer, StanzaError> {
    let (user, has_contact) = match call.offer.node {
        INVITE => (None, true),
        CREATE_ACCOUNT => (username(core, call)?, matches!(call.text("roster-subscription"), "1" | "true")),
        _ => return Ok(Answer::NotMine),
    };
    let (host, account) = (call.host.domain(), call.from.bare());
    if has_contact && account.domain() != host {
        return Err(Condition::NotAllowed.because("You have no account at this host."));
    }
    if call.offer.node == INVITE {
        let open = core.invites(host)?.into_iter().filter(|(_, known)| known.contact.as_ref() == Some(&account));
        if open.count() >= core.settings.limits.invites_per_account_max as usize {
            return Err(Condition::ResourceConstraint.because("Too many of your invitations are open."));
        }
    }
    let expires_ms = core.wall_ms() + u64::from(expires.0) * 1000;
    let contact = has_contact.then_some(account);
    let invite = Invite { user, contact, resets: false, admin: false, uses_left: 1, expires_ms };
    let full = || Condition::ResourceConstraint.because("Too many invitations are open.");
    let token = core.invite_add(host, &invite)?.ok_or_else(full)?;
    let whom = invite.user.as_deref().unwrap_or("somebody");
    log::info!(target: "couplet::invites", "{} invites {whom} to {host}", call.from);
    let page = page(&core.settings, host, &token);
    let mut fields = vec![("uri", "text-single", vec![invite.uri(host, &token)])];
    fields.extend(page.map(|page| ("landing-url", "text-single", vec![page])));
    fields.push(("expire", "text-single", vec![datetime(i64::try_from(expires_ms).unwrap_or(i64::MAX))]));
    Ok(call.result(RESULT, &fields))
}

/// The username that is to be kept for the invited, if one is named.
fn username(core: &mut Core, call: &Call) -> Result<Option<String>, StanzaError> {
    let text = call.text("username").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let unfit = || bad_payload("The username has characters that it cannot have.");
    let user = jid::prepare_node(text).map_err(|_| unfit())?;
    let account = Jid::from_parts(Some(&user), call.host.domain(), None).map_err(|_| unfit())?;
    if core.account_exists(&account)? || core.invite_reserves(call.host.domain(), &user, None)? {
        return Err(Condition::Conflict.because("The username is taken, or somebody is invited to take it."));
    }
    Ok(Some(user))
}
