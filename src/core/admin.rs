//! What an operator asks of the server, and how question and answer travel over the admin socket.
//!
//! A request is one frame and so is its answer: a length of four bytes, big endian, and as many bytes. The first byte
//! of a request is the version of this form, the second says which command, and texts follow, each with a length of
//! its own. The first byte of an answer is the exit code, the rest is text.

use std::fmt;
use zeroize::Zeroizing;

/// What the operator asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Make an account.
    UserAdd {
        /// Bare address.
        jid: String,
        /// Its password, as typed.
        password: Zeroizing<String>,
    },
    /// Give an account another password.
    UserPasswd {
        /// Bare address.
        jid: String,
        /// Its new password, as typed.
        password: Zeroizing<String>,
    },
    /// Delete accounts with all that is stored for them.
    UserDel {
        /// Bare addresses, one at least.
        jids: Vec<String>,
    },
    /// List accounts.
    UserList {
        /// Of this host alone.
        host: Option<String>,
    },
    /// List administrators and where they have their right from.
    UserAdmins {
        /// Of this host alone.
        host: Option<String>,
    },
    /// Take away the right of an administrator that an invitation has given.
    UserDemote {
        /// Bare address.
        jid: String,
    },
    /// Make a link by which the owner of an account gives it another password.
    UserReset {
        /// Bare address.
        jid: String,
        /// How long the link can be used.
        expires_s: u32,
    },
    /// Make an invitation.
    InviteCreate(NewInvite),
    /// List the invitations that can be used.
    InviteList {
        /// Of this host alone.
        host: Option<String>,
    },
    /// Take an invitation back.
    InviteRevoke {
        /// Its token, or the link that has it.
        token: String,
    },
    /// The invitation for the first account, an administrator's; nothing when there is an account.
    InviteFirst,
    /// A summary of what the server does at present.
    Status,
    /// What it did.
    #[cfg(feature = "statistics")]
    History {
        /// In the last so many seconds.
        seconds: u32,
    },
    /// Read configuration and certificates again, open the log anew.
    Reload,
    /// Is the server well?
    Healthcheck,
    /// A backup, which follows the answer when that is [`OK`], and ends the exchange.
    Backup,
    /// Make the data file as small as it can be.
    Compact,
    /// Write to the disk now what waits for its time.
    Flush,
    /// Renew certificates now.
    #[cfg(feature = "acme")]
    CertRenew {
        /// Of this host, due or not; else what is due, or has failed.
        host: Option<String>,
    },
    /// List connections with other servers, and what waits for one.
    S2sList,
    /// Close the streams with a domain, and let the next attempt be made at once.
    S2sClose {
        /// The other domain.
        domain: String,
    },
}

/// An invitation as an operator asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewInvite {
    /// At which host; none is the one that the other fields name, else the first.
    pub host: Option<String>,
    /// The username that is to be taken; none leaves the choice.
    pub user: Option<String>,
    /// Bare address of the account whose contact the invited becomes.
    pub contact: Option<String>,
    /// The account becomes one of an administrator.
    pub admin: bool,
    /// How often it can be used, at least 1.
    pub uses: u32,
    /// How long it can be used.
    pub expires_s: u32,
}

/// The answer, as the command line prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Exit code of the command: 0 when it was done.
    pub code: u8,
    /// Text for the operator, without a final line break.
    pub text: String,
}

/// Why bytes are not a request or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Longer than [`COMMAND_BYTES_MAX`] or [`REPLY_BYTES_MAX`].
    TooLong,
    /// Another version of this form, or a command that it does not know.
    Unknown,
    /// A text is cut short or not UTF-8, or bytes are left over.
    Malformed,
}

/// Exit code: done.
pub const OK: u8 = 0;
/// Exit code: refused or failed; the text says why.
pub const FAILED: u8 = 1;

/// Bytes of the length that stands in front of a frame.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the longest request; an address has at most 3071 and a password some hundred.
pub const COMMAND_BYTES_MAX: usize = 8192;
/// Bytes of the longest answer: a list of some tens of thousands of users.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

const VERSION: u8 = 1;

impl fmt::Debug for Command {
    /// Never shows a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::UserAdd { jid, .. } => write!(f, "UserAdd({jid:?})"),
            Command::UserPasswd { jid, .. } => write!(f, "UserPasswd({jid:?})"),
            Command::UserDel { jids } => write!(f, "UserDel({jids:?})"),
            Command::UserList { host } => write!(f, "UserList({host:?})"),
            Command::UserAdmins { host } => write!(f, "UserAdmins({host:?})"),
            Command::UserDemote { jid } => write!(f, "UserDemote({jid:?})"),
            Command::UserReset { jid, .. } => write!(f, "UserReset({jid:?})"),
            Command::InviteCreate(new) => write!(f, "InviteCreate({new:?})"),
            Command::InviteList { host } => write!(f, "InviteList({host:?})"),
            // A token is as good as what it allows.
            Command::InviteRevoke { .. } => f.write_str("InviteRevoke"),
            Command::InviteFirst => f.write_str("InviteFirst"),
            Command::Status => f.write_str("Status"),
            #[cfg(feature = "statistics")]
            Command::History { seconds } => write!(f, "History({seconds})"),
            Command::Reload => f.write_str("Reload"),
            Command::Healthcheck => f.write_str("Healthcheck"),
            Command::Backup => f.write_str("Backup"),
            Command::Compact => f.write_str("Compact"),
            Command::Flush => f.write_str("Flush"),
            #[cfg(feature = "acme")]
            Command::CertRenew { host } => write!(f, "CertRenew({host:?})"),
            Command::S2sList => f.write_str("S2sList"),
            Command::S2sClose { domain } => write!(f, "S2sClose({domain:?})"),
        }
    }
}

impl Command {
    /// The body of a request frame, wiped when it is dropped because it may hold a password.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn to_wire(&self) -> Result<Zeroizing<Vec<u8>>, WireError> {
        let (uses, expires_s);
        #[cfg(feature = "statistics")]
        let text;
        let (tag, texts): (u8, Vec<&str>) = match self {
            Command::UserAdd { jid, password } => (1, vec![jid, password]),
            Command::UserPasswd { jid, password } => (2, vec![jid, password]),
            Command::UserDel { jids } => (3, jids.iter().map(String::as_str).collect()),
            Command::UserList { host } => (4, host.iter().map(String::as_str).collect()),
            Command::Status => (5, vec![]),
            Command::Reload => (6, vec![]),
            Command::Healthcheck => (7, vec![]),
            Command::Backup => (8, vec![]),
            Command::Compact => (9, vec![]),
            Command::UserReset { jid, expires_s: seconds } => {
                expires_s = seconds.to_string();
                (10, vec![jid, &expires_s])
            }
            Command::InviteCreate(new) => {
                (uses, expires_s) = (new.uses.to_string(), new.expires_s.to_string());
                let named = [&new.host, &new.user, &new.contact].map(|text| text.as_deref().unwrap_or_default());
                let admin = if new.admin { "admin" } else { "" };
                (11, named.into_iter().chain([admin, &uses, &expires_s]).collect())
            }
            Command::InviteList { host } => (12, host.iter().map(String::as_str).collect()),
            Command::InviteRevoke { token } => (13, vec![token]),
            Command::InviteFirst => (14, vec![]),
            Command::Flush => (15, vec![]),
            #[cfg(feature = "acme")]
            Command::CertRenew { host } => (18, host.iter().map(String::as_str).collect()),
            Command::S2sList => (20, vec![]),
            Command::S2sClose { domain } => (21, vec![domain]),
            Command::UserAdmins { host } => (16, host.iter().map(String::as_str).collect()),
            Command::UserDemote { jid } => (17, vec![jid]),
            #[cfg(feature = "statistics")]
            Command::History { seconds } => {
                text = seconds.to_string();
                (30, vec![&text])
            }
        };
        let len = 2 + texts.iter().map(|t| LENGTH_BYTES + t.len()).sum::<usize>();
        if len > COMMAND_BYTES_MAX {
            return Err(WireError::TooLong);
        }
        // With its final capacity: growing would leave a copy of the password behind.
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        out.extend([VERSION, tag]);
        for text in texts {
            out.extend((text.len() as u32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Ok(out)
    }

    /// Reads the body of a request frame.
    ///
    /// # Errors
    /// When it is not one; any bytes may be given.
    pub fn from_wire(body: &[u8]) -> Result<Self, WireError> {
        if body.len() > COMMAND_BYTES_MAX {
            return Err(WireError::TooLong);
        }
        let [VERSION, tag, rest @ ..] = body else {
            return Err(if body.len() < 2 { WireError::Malformed } else { WireError::Unknown });
        };
        let mut texts = Texts(rest);
        let command = match tag {
            1 => Command::UserAdd { jid: texts.next()?.to_string(), password: texts.password()? },
            2 => Command::UserPasswd { jid: texts.next()?.to_string(), password: texts.password()? },
            3 => Command::UserDel { jids: texts.all()? },
            4 if texts.0.is_empty() => Command::UserList { host: None },
            4 => Command::UserList { host: Some(texts.next()?.to_string()) },
            5 => Command::Status,
            6 => Command::Reload,
            7 => Command::Healthcheck,
            8 => Command::Backup,
            9 => Command::Compact,
            10 => Command::UserReset { jid: texts.next()?.to_string(), expires_s: texts.number()? },
            11 => Command::InviteCreate(NewInvite {
                host: texts.named()?,
                user: texts.named()?,
                contact: texts.named()?,
                admin: texts.next()? == "admin",
                uses: texts.number()?,
                expires_s: texts.number()?,
            }),
            12 if texts.0.is_empty() => Command::InviteList { host: None },
            12 => Command::InviteList { host: Some(texts.next()?.to_string()) },
            13 => Command::InviteRevoke { token: texts.next()?.to_string() },
            14 => Command::InviteFirst,
            15 => Command::Flush,
            #[cfg(feature = "acme")]
            18 if texts.0.is_empty() => Command::CertRenew { host: None },
            #[cfg(feature = "acme")]
            18 => Command::CertRenew { host: Some(texts.next()?.to_string()) },
            20 => Command::S2sList,
            21 => Command::S2sClose { domain: texts.next()?.to_string() },
            16 if texts.0.is_empty() => Command::UserAdmins { host: None },
            16 => Command::UserAdmins { host: Some(texts.next()?.to_string()) },
            17 => Command::UserDemote { jid: texts.next()?.to_string() },
            #[cfg(feature = "statistics")]
            30 => Command::History { seconds: texts.number()? },
            _ => return Err(WireError::Unknown),
        };
        if texts.0.is_empty() { Ok(command) } else { Err(WireError::Malformed) }
    }
}

/// The texts of a request that are still to be read.
struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    fn next(&mut self) -> Result<&'a str, WireError> {
        let (len, rest) = self.0.split_first_chunk::<LENGTH_BYTES>().ok_or(WireError::Malformed)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| WireError::Malformed)?;
        let (text, rest) = rest.split_at_checked(len).ok_or(WireError::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| WireError::Malformed)
    }

    /// All that are left, one at least.
    fn all(&mut self) -> Result<Vec<String>, WireError> {
        let mut all = vec![self.next()?.to_string()];
        while !self.0.is_empty() {
            all.push(self.next()?.to_string());
        }
        Ok(all)
    }

    /// An empty text is none.
    fn named(&mut self) -> Result<Option<String>, WireError> {
        Ok(Some(self.next()?.to_string()).filter(|text| !text.is_empty()))
    }

    fn number(&mut self) -> Result<u32, WireError> {
        self.next()?.parse().map_err(|_| WireError::Malformed)
    }

    fn password(&mut self) -> Result<Zeroizing<String>, WireError> {
        self.next().map(|text| Zeroizing::new(text.to_string()))
    }
}

impl Reply {
    /// An answer that says the command was done.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { code: OK, text: text.into() }
    }

    /// An answer that says why the command was not done.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { code: FAILED, text: text.into() }
    }

    /// The body of an answer frame. A text of more than [`REPLY_BYTES_MAX`] bytes is cut at a line and says so.
    pub fn to_wire(&self) -> Vec<u8> {
        const CUT: &str = "\n(more; ask for less)";
        let mut text = self.text.as_str();
        let mut cut = "";
        if text.len() > REPLY_BYTES_MAX - 1 {
            let room = REPLY_BYTES_MAX - 1 - CUT.len();
            // A character has at most four bytes.
            text = (room - 3..=room).rev().find_map(|end| text.get(..end)).unwrap_or_default();
            text = text.rsplit_once('\n').map_or(text, |(whole_lines, _)| whole_lines);
            cut = CUT;
        }
        let mut out = Vec::with_capacity(1 + text.len() + cut.len());
        out.push(self.code);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(cut.as_bytes());
        out
    }

    /// Reads the body of an answer frame.
    ///
    /// # Errors
    /// When it is not one; any bytes may be given.
    pub fn from_wire(body: &[u8]) -> Result<Self, WireError> {
        if body.len() > REPLY_BYTES_MAX {
            return Err(WireError::TooLong);
        }
        let (code, text) = body.split_first().ok_or(WireError::Malformed)?;
        let text = std::str::from_utf8(text).map_err(|_| WireError::Malformed)?;
        Ok(Self { code: *code, text: text.to_string() })
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::TooLong => "the address or password is too long",
            WireError::Unknown => "the server does not know this command; is it of another version than this program?",
            WireError::Malformed => "what came over the admin socket is damaged",
        })
    }
}

impl std::error::Error for WireError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_command() -> impl Strategy<Value = Command> {
        let password = || any::<String>().prop_map(Zeroizing::new);
        prop_oneof![
            (any::<String>(), password()).prop_map(|(jid, password)| Command::UserAdd { jid, password }),
            (any::<String>(), password()).prop_map(|(jid, password)| Command::UserPasswd { jid, password }),
            any::<String>().prop_map(|jid| Command::UserDel { jids: vec![jid] }),
            any::<Option<String>>().prop_map(|host| Command::UserList { host }),
            (any::<String>(), any::<u32>()).prop_map(|(jid, expires_s)| Command::UserReset { jid, expires_s }),
            any::<Option<String>>().prop_map(|host| Command::UserAdmins { host }),
            any::<String>().prop_map(|jid| Command::UserDemote { jid }),
            any_invite().prop_map(Command::InviteCreate),
            any::<Option<String>>().prop_map(|host| Command::InviteList { host }),
            any::<String>().prop_map(|token| Command::InviteRevoke { token }),
            Just(Command::InviteFirst),
            Just(Command::Status),
            Just(Command::Reload),
            Just(Command::Healthcheck),
            Just(Command::Backup),
            Just(Command::Compact),
        ]
    }

    fn any_invite() -> impl Strategy<Value = NewInvite> {
        let name = || proptest::option::of("[a-z]{1,5}");
        (name(), name(), name(), any::<bool>(), any::<u32>(), any::<u32>()).prop_map(
            |(host, user, contact, admin, uses, expires_s)| NewInvite { host, user, contact, admin, uses, expires_s },
        )
    }

    proptest! {
        #[test]
        fn commands_come_back(command in any_command()) {
            let wire = command.to_wire().expect("short enough");
            prop_assert_eq!(Command::from_wire(&wire), Ok(command.clone()));
            for len in 0..wire.len() {
                // A cut request is refused, except that a list without its host is the list of all.
                let cut = Command::from_wire(&wire[..len]);
                let of_all = [
                    Command::UserList { host: None },
                    Command::UserAdmins { host: None },
                    Command::InviteList { host: None },
                ];
                prop_assert!(cut.as_ref().map_or(true, |cut| of_all.contains(cut)));
            }
            let mut longer = wire.to_vec();
            longer.push(0);
            prop_assert!(Command::from_wire(&longer).is_err());
        }

        #[test]
        fn replies_come_back(code: u8, text: String) {
            let reply = Reply { code, text };
            prop_assert_eq!(Reply::from_wire(&reply.to_wire()), Ok(reply));
        }

        #[test]
        fn no_bytes_panic(tag in 0u8..22, bytes: Vec<u8>) {
            let _ = (Command::from_wire(&bytes), Reply::from_wire(&bytes));
            let _ = Command::from_wire(&[&[VERSION, tag], bytes.as_slice()].concat());
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let jid = "a".repeat(COMMAND_BYTES_MAX);
        assert_eq!(Command::UserDel { jids: vec![jid] }.to_wire().err(), Some(WireError::TooLong));
        assert_eq!(Command::from_wire(&vec![0; COMMAND_BYTES_MAX + 1]), Err(WireError::TooLong));
        assert_eq!(Reply::from_wire(&vec![0; REPLY_BYTES_MAX + 1]), Err(WireError::TooLong));
        assert_eq!(Command::from_wire(&[VERSION + 1, 5]), Err(WireError::Unknown));
        assert_eq!(Command::from_wire(&[VERSION, 99]), Err(WireError::Unknown));
    }

    #[test]
    fn a_long_answer_is_cut_at_a_line() {
        let reply = Reply::ok("romeo@montague.lit\n".repeat(100_000));
        let wire = reply.to_wire();
        assert!(wire.len() <= REPLY_BYTES_MAX && wire.len() > REPLY_BYTES_MAX - 40);
        let text = Reply::from_wire(&wire).expect("an answer").text;
        assert!(text.ends_with("\nromeo@montague.lit\n(more; ask for less)"));
    }

    #[test]
    fn passwords_do_not_show() {
        let password = Zeroizing::new("wherefore".to_string());
        let jid = "romeo@localhost".to_string();
        for command in
            [Command::UserAdd { jid: jid.clone(), password: password.clone() }, Command::UserPasswd { jid, password }]
        {
            assert!(!format!("{command:?}").contains("wherefore"));
        }
    }
}
