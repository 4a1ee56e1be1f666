//! What an operator does in a play: the words of a command as the engine gets them, for a play without a program.

use couplet::core::admin::{Command, NewInvite};

/// `invite [--user U] [--contact C] [--admin] [--uses N] [--expires Nd]`, `invite revoke TOKEN`, `user reset JID`,
/// `user del JID`, `user demote JID`, `s2s list`, `s2s close DOMAIN`, `status`.
///
/// # Errors
/// For anything else.
pub fn command(words: &[&str]) -> Result<Command, String> {
    match words {
        ["invite", "revoke", token] => Ok(Command::InviteRevoke { token: (*token).to_owned() }),
        ["invite", options @ ..] => invite(options),
        ["user", "reset", jid] => Ok(Command::UserReset { jid: (*jid).to_owned(), expires_s: 86_400 }),
        ["user", "add", jid, password] => {
            Ok(Command::UserAdd { jid: (*jid).to_owned(), password: zeroize::Zeroizing::new((*password).to_owned()) })
        }
        ["user", "del", jid] => Ok(Command::UserDel { jids: vec![(*jid).to_owned()] }),
        ["s2s", "list"] => Ok(Command::S2sList),
        ["s2s", "close", domain] => Ok(Command::S2sClose { domain: (*domain).to_owned() }),
        ["status"] => Ok(Command::Status),
        ["user", "demote", jid] => Ok(Command::UserDemote { jid: (*jid).to_owned() }),
        _ => Err(format!("no operator of a play does {words:?}")),
    }
}

fn invite(mut options: &[&str]) -> Result<Command, String> {
    let mut new = NewInvite { uses: 1, expires_s: 7 * 86_400, ..NewInvite::default() };
    loop {
        options = match options {
            [] => return Ok(Command::InviteCreate(new)),
            ["--user", user, rest @ ..] => {
                new.user = Some((*user).to_owned());
                rest
            }
            ["--contact", contact, rest @ ..] => {
                new.contact = Some((*contact).to_owned());
                rest
            }
            ["--admin", rest @ ..] => {
                new.admin = true;
                rest
            }
            ["--uses", uses, rest @ ..] => {
                new.uses = uses.parse().map_err(|_| format!("--uses {uses}"))?;
                rest
            }
            ["--expires", days, rest @ ..] => {
                let days: u32 = days.trim_end_matches('d').parse().map_err(|_| format!("--expires {days}"))?;
                new.expires_s = days * 86_400;
                rest
            }
            _ => return Err(format!("no operator of a play says {options:?}")),
        };
    }
}

/// The token in a link that a command has printed.
pub fn token(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once("preauth=")?;
    rest.split([';', '\n']).next().map(str::to_owned)
}
