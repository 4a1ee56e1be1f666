//! `couplet user ...`, and the names that prosodyctl has for the same.

use super::invite::Reset;
use super::{Exit, ask::ask, complain, password, with_config};
use crate::core::admin::Command;
use argh::FromArgs;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Add, change, delete or list users and administrators, or let users choose another password.
#[derive(FromArgs)]
#[argh(subcommand, name = "user")]
pub struct User {
    #[argh(subcommand)]
    verb: UserVerb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum UserVerb {
    Add(Add),
    Passwd(Passwd),
    Del(Del),
    Reset(Reset),
    List(List),
    Admins(Admins),
    Demote(Demote),
}

/// Declares a verb for one account that needs a password.
macro_rules! password_verb {
    ($(#[$doc:meta])* $type:ident $name:tt $command:ident) => {
        $(#[$doc])*
        #[derive(FromArgs)]
        #[argh(subcommand, name = $name)]
        pub struct $type {
            /// the user's address, such as romeo@example.org
            #[argh(positional)]
            address: String,

            /// read the password from the first line of the standard input
            #[argh(switch)]
            password_stdin: bool,

            /// read the password from the first line of a file
            #[argh(option, arg_name = "file")]
            password_file: Option<PathBuf>,

            /// configuration file
            #[argh(option, short = 'c', arg_name = "file")]
            config: Option<PathBuf>,
        }

        impl $type {
            pub fn run(self) -> Exit {
                with_config(self.config.as_ref(), |config| {
                    match password::read(&self.address, self.password_stdin, self.password_file.as_deref()) {
                        Ok(password) => ask(config, Command::$command { jid: self.address, password }),
                        Err(error) => complain(error.exit, &error.text),
                    }
                })
            }
        }
    };
}

/// Declares a verb that deletes an account.
macro_rules! delete_verb {
    ($(#[$doc:meta])* $type:ident $name:tt) => {
        $(#[$doc])*
        #[derive(FromArgs)]
        #[argh(subcommand, name = $name)]
        pub struct $type {
            /// the user's address, such as romeo@example.org
            #[argh(positional)]
            address: String,

            /// configuration file
            #[argh(option, short = 'c', arg_name = "file")]
            config: Option<PathBuf>,
        }

        impl $type {
            pub fn run(self) -> Exit {
                let jids = vec![self.address];
                with_config(self.config.as_ref(), |config| ask(config, Command::UserDel { jids }))
            }
        }
    };
}

password_verb! {
    /// Add a user. Asks for the password unless an option says where it is.
    Add "add" UserAdd
}

password_verb! {
    /// Give a user another password. Asks for it unless an option says where it is.
    Passwd "passwd" UserPasswd
}

delete_verb! {
    /// Delete a user with everything that is stored for the address.
    Del "del"
}

password_verb! {
    /// The same as `couplet user add`.
    AddUserAlias "adduser" UserAdd
}

password_verb! {
    /// The same as `couplet user passwd`.
    PasswdAlias "passwd" UserPasswd
}

delete_verb! {
    /// The same as `couplet user del`.
    DelUserAlias "deluser"
}

/// List users.
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

/// List administrators, and whether the configuration or an invitation made them that.
#[derive(FromArgs)]
#[argh(subcommand, name = "admins")]
struct Admins {
    /// of this host only
    #[argh(positional)]
    host: Option<String>,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Take away an administrator's right that an invitation has given. The account stays.
#[derive(FromArgs)]
#[argh(subcommand, name = "demote")]
struct Demote {
    /// the user's address, such as romeo@example.org
    #[argh(positional)]
    address: String,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

/// Add a user as prosodyctl does: others on this machine can see the password. Prefer `couplet user add`.
#[derive(FromArgs)]
#[argh(subcommand, name = "register")]
pub struct Register {
    /// what stands before the @
    #[argh(positional)]
    user: String,

    /// what stands behind the @
    #[argh(positional)]
    host: String,

    /// the password
    #[argh(positional)]
    password: String,

    /// configuration file
    #[argh(option, short = 'c', arg_name = "file")]
    config: Option<PathBuf>,
}

impl User {
    pub fn run(self) -> Exit {
        match self.verb {
            UserVerb::Add(verb) => verb.run(),
            UserVerb::Passwd(verb) => verb.run(),
            UserVerb::Del(verb) => verb.run(),
            UserVerb::Reset(verb) => verb.run(),
            UserVerb::List(verb) => {
                with_config(verb.config.as_ref(), |config| ask(config, Command::UserList { host: verb.host }))
            }
            UserVerb::Admins(verb) => {
                with_config(verb.config.as_ref(), |config| ask(config, Command::UserAdmins { host: verb.host }))
            }
            UserVerb::Demote(verb) => {
                with_config(verb.config.as_ref(), |config| ask(config, Command::UserDemote { jid: verb.address }))
            }
        }
    }
}

impl Register {
    pub fn run(self) -> Exit {
        let password = Zeroizing::new(self.password);
        let warning = "warning: a password on the command line can be seen by others on this machine; \
                       `couplet user add` asks for it";
        complain(Exit::Ok, warning);
        let jid = format!("{}@{}", self.user, self.host);
        with_config(self.config.as_ref(), |config| ask(config, Command::UserAdd { jid, password }))
    }
}
