//! Tokens to log in with (XEP-0484): who has which, for how long, and what becomes of them when they are used.

use super::Core;
use super::accounts::Hidden;
use crate::clock::datetime;
use crate::storage::{StoreError, Table};
use crate::stream::IssuedToken;
use crate::stream::sasl::{self, Ht, Slot, Tokens};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

crate::record! {
    /// One token.
    pub struct Token {
        /// Its characters. Both sides prove with an HMAC that they know them, so nothing less will do.
        pub secret: Hidden,
        /// The only mechanism that it is for.
        pub mechanism: String,
        /// When it was made, in milliseconds since 1970.
        pub issued_ms: u64,
        /// When it ends, in milliseconds since 1970.
        pub expires_ms: u64,
        /// The highest count that it was used with.
        pub count: Option<u32>,
    }
    /// The tokens of one client.
    pub struct Client {
        /// The last one that it has used, or its first.
        pub current: Option<Token>,
        /// The one that it was given last, until it uses it (section 5.1).
        pub new: Option<Token>,
    }
}

/// Owner: the account. Sub key: the client's id, of its own making.
pub struct FastTokens;
impl Table for FastTokens {
    const ID: u8 = 10;
    const NAME: &'static str = "fast-tokens";
    type Value = Client;
}

/// What a login does to the tokens of its client.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// It was with this one.
    pub used: Option<Slot>,
    /// And with this count.
    pub count: Option<u32>,
    /// The client wants it to end.
    pub invalidate: bool,
    /// The client wants another, for this mechanism.
    pub request: Option<Ht>,
}

impl Client {
    fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.new.iter().chain(&self.current)
    }

    fn expires_ms(&self) -> u64 {
        self.tokens().map(|t| t.expires_ms).max().unwrap_or_default()
    }
}

impl Core {
    /// Tokens of a client, as a login needs them.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn fast_tokens(&mut self, bare: &str, client: &str) -> Result<Tokens, StoreError> {
        let now_ms = self.wall_ms();
        let token = |t: Token| {
            Some(sasl::Token {
                secret: Zeroizing::new(t.secret.0),
                mechanism: Ht::from_name(&t.mechanism)?,
                is_expired: t.expires_ms <= now_ms,
                count: t.count,
            })
        };
        let row = self.view.get::<FastTokens>(bare, client.as_bytes())?;
        Ok(row.map_or_else(Tokens::default, |row| Tokens {
            current: row.current.and_then(token),
            new: row.new.and_then(token),
        }))
    }

    /// Writes what a login does to the tokens of its client (sections 3.5 and 3.6). Returns the one that it gets,
    /// because it asks for it or the one that it has is due.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn fast_use(&mut self, bare: &str, client: &str, how: Use) -> Result<Option<IssuedToken>, StoreError> {
        let old = self.view.get::<FastTokens>(bare, client.as_bytes())?;
        let is_known = old.is_some();
        let mut row = old.clone().unwrap_or(Client { current: None, new: None });
        if how.used == Some(Slot::New) {
            row.current = row.new.take();
        }
        if let (Some(_), Some(token)) = (how.used, &mut row.current) {
            token.count = how.count.or(token.count);
        }
        let rotation_ms = u64::from(self.settings.fast_rotation_s) * 1000;
        let due = |t: &&Token| t.issued_ms.saturating_add(rotation_ms) <= self.wall_ms();
        let due = row.current.as_ref().filter(|_| how.used.is_some() && !how.invalidate).filter(due);
        let mechanism = how.request.or_else(|| Ht::from_name(&due?.mechanism));
        if how.invalidate {
            // One that it was given and has not used is no less known to whoever reads the client's memory.
            row = Client { current: None, new: None };
        }
        let mut issued = None;
        if let Some(mechanism) = mechanism.filter(|_| self.may_write().is_ok()) {
            let token = self.new_token(mechanism);
            issued = Some(IssuedToken {
                token: String::from_utf8_lossy(&token.secret.0).into_owned(),
                expiry: datetime(i64::try_from(token.expires_ms).unwrap_or(i64::MAX)),
            });
            row.new = Some(token);
            if !is_known {
                self.make_room_for_client(bare)?;
            }
        }
        if row.tokens().next().is_none() {
            if is_known {
                self.view.delete::<FastTokens>(bare, client.as_bytes());
            }
        } else if old.as_ref() != Some(&row) {
            self.view.put::<FastTokens>(bare, client.as_bytes(), &row);
        }
        Ok(issued)
    }

    /// Ends all tokens of an account.
    ///
    /// # Errors
    /// When storage cannot be read.
    pub fn fast_end(&mut self, bare: &str) -> Result<(), StoreError> {
        for (client, _) in self.view.list::<FastTokens>(bare, usize::MAX)? {
            self.view.delete::<FastTokens>(bare, &client);
        }
        Ok(())
    }

    fn new_token(&mut self, mechanism: Ht) -> Token {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        self.entropy.fill(&mut *bytes);
        let issued_ms = self.wall_ms();
        Token {
            secret: Hidden(URL_SAFE_NO_PAD.encode(*bytes).into_bytes()),
            mechanism: mechanism.name().to_owned(),
            issued_ms,
            expires_ms: issued_ms.saturating_add(u64::from(self.settings.fast_lifetime_s) * 1000),
            count: None,
        }
    }

    /// Forgets clients whose tokens have all ended, and then those that end first, until there is room for another.
    fn make_room_for_client(&mut self, bare: &str) -> Result<(), StoreError> {
        let (now_ms, max) = (self.wall_ms(), self.settings.limits.fast_clients_max as usize);
        let mut clients = self.view.list::<FastTokens>(bare, usize::MAX)?;
        clients.sort_by_key(|(_, client)| client.expires_ms());
        let surplus = (clients.len() + 1).saturating_sub(max);
        for (at, (id, client)) in clients.iter().enumerate() {
            if at < surplus || client.expires_ms() <= now_ms {
                self.view.delete::<FastTokens>(bare, id);
            }
        }
        Ok(())
    }
}
