//! `couplet invite ...`, and `couplet user reset`, whose answer is a link too.

use super::ask::{ask, ask_for};
use super::{Exit, complain, say, with_config};
use crate::core::admin::{Command, NewInvite, OK};
use crate::setting::{Seconds, Setting, Value};
use argh::FromArgs;
use qrcodegen::{QrCode, QrCodeEcc};
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

/// Invite people: without a verb, make an invitation and print its link, on a terminal as a QR code too.
#[derive(FromArgs)]
#[argh(subcommand, name = "invite")]
pub struct Invite {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make an invitation. It lets one person make an account, unless an option says otherwise.
#[derive(FromArgs)]
#[argh(subcommand, name = "create")]
struct Create {
    /// the username that the invited gets, or the whole address
    #[argh(option, arg_name = "name")]
    user: Option<String>,

    /// the account whose contact the invited becomes; who has an account elsewhere needs none here
    #[argh(option, arg_name = "address")]
    contact: Option<String>,

    /// the account is one of an administrator
    #[argh(switch)]
    admin: bool,

    /// how many people can use it
    #[argh(option, default = "1", arg_name = "number")]
    uses: u32,

    /// how long it can be used, such as 12h or 7d
    #[argh(option, default = "\"7d\".to_string()", arg_name = "time")]
    expires: String,

    /// at which of several hosts
    #[argh(option, arg_name = "host")]
    host: Option<String>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// List the invitations that can be used, with their tokens.
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// of this host only
    #[argh(positional)]
    host: Option<String>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Take an invitation back.
#[derive(FromArgs)]
#[argh(subcommand, name = "revoke")]
struct Revoke {
    /// its link or token
    #[argh(positional)]
    token: String,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Print a link by which a user chooses another password, in any client that can be invited.
#[derive(FromArgs)]
#[argh(subcommand, name = "reset")]
pub struct Reset {
    /// the user's address, such as romeo@example.org
    #[argh(positional)]
    address: String,

    /// how long the link can be used, such as 12h or 7d
    #[argh(option, default = "\"1d\".to_string()", arg_name = "time")]
    expires: String,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// `couplet invite --user juliet` is `couplet invite create --user juliet`.
pub fn with_verb<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let verbs = ["create", "list", "revoke", "help", "--help"];
    let mut args = args.to_vec();
    if args.first() == Some(&"invite") && args.get(1).is_none_or(|next| !verbs.contains(next)) {
        args.insert(1, "create");
    }
    args
}

impl Invite {
    pub fn run(self) -> Exit {
        match self.verb {
            Verb::Create(verb) => verb.run(),
            Verb::List(verb) => {
                with_config(verb.config.as_ref(), |config| ask(config, Command::InviteList { host: verb.host }))
            }
            Verb::Revoke(verb) => {
                with_config(verb.config.as_ref(), |config| ask(config, Command::InviteRevoke { token: verb.token }))
            }
        }
    }
}

impl Create {
    fn run(self) -> Exit {
        let Self { user, contact, admin, uses, expires, host, config } = self;
        if uses == 0 {
            return complain(Exit::Usage, "--uses 0 would be no invitation; to take one back: couplet invite revoke");
        }
        print_link(config.as_ref(), &expires, |expires_s| {
            Command::InviteCreate(NewInvite { host, user, contact, admin, uses, expires_s })
        })
    }
}

impl Reset {
    pub fn run(self) -> Exit {
        print_link(self.config.as_ref(), &self.expires, |expires_s| Command::UserReset { jid: self.address, expires_s })
    }
}

fn print_link(config: Option<&PathBuf>, expires: &str, command: impl FnOnce(u32) -> Command) -> Exit {
    let expires_s = match Seconds::parse(&Value::Text(expires.to_string())) {
        Ok(Seconds(expires_s)) => expires_s,
        Err(error) => return complain(Exit::Usage, &format!("--expires: {error}")),
    };
    with_config(config, |config| match ask_for(config, command(expires_s)) {
        Ok(reply) if reply.code == OK => say(&shown(&reply.text)),
        Ok(reply) => complain(Exit::Answered(reply.code), &reply.text),
        Err(exit) => exit,
    })
}

/// An answer whose first line is a link; with its QR code when somebody looks at it.
pub fn shown(text: &str) -> String {
    let code = text.lines().next().filter(|_| stdout().is_terminal()).and_then(qr);
    [Some(text.to_string()), code].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// The QR code of a text, two rows of modules in a line: white on black whatever the colours of the terminal are, with
/// the margin of four modules that ISO 18004 wants. None for a text that is too long.
fn qr(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let is_light = |x: i32, y: i32| !code.get_module(x, y);
    let rows = (-4..code.size() + 4).step_by(2).map(|y| {
        let blocks = (-4..code.size() + 4).map(|x| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        format!("\x1b[40;97m{}\x1b[0m", blocks.collect::<String>())
    });
    Some(rows.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_create_is_what_is_meant_without_a_verb() {
        assert_eq!(with_verb(&["invite"]), ["invite", "create"]);
        assert_eq!(with_verb(&["invite", "--user", "list"]), ["invite", "create", "--user", "list"]);
        assert_eq!(with_verb(&["invite", "list"]), ["invite", "list"]);
        assert_eq!(with_verb(&["user", "list"]), ["user", "list"]);
    }

    #[test]
    fn a_code_is_square_and_has_a_margin() {
        let code = qr("xmpp:localhost?register;preauth=ABCDEFGHIJKLMNOPQRSTUVWX").unwrap();
        let lines: Vec<&str> = code.lines().map(|l| &l["\x1b[40;97m".len()..l.len() - "\x1b[0m".len()]).collect();
        let width = lines[0].chars().count();
        assert_eq!((width, lines.len()), (41, 21), "version 4 has 33 modules");
        assert!(lines[..2].iter().all(|l| l.chars().all(|c| c == '█')));
        assert!(lines.iter().all(|l| l.starts_with("████") && l.ends_with("████")));
        // The finder pattern in the upper left corner.
        assert!(lines[2].starts_with("████ ▄▄▄▄▄ "), "{}", lines[2]);
    }
}
