//! One visit to an authority: directory, account, and the way of an order to its certificate (RFC 8555 section 7),
//! without I/O of its own. What it asks of the world is a [`World`].

use super::json::quote_all;
use super::jws::{AccountKey, Binding, Signer, base64url};
use super::message::{
    Authorization, Directory, Method, Offered, Order, Problem, Request, Response, Status, Window, is_token,
};
use super::trouble::Trouble;
use crate::json::quote;

/// How often a request is made again because its nonce was not accepted (section 6.5).
const NONCE_TRIES: usize = 8;

/// How long an authority may take for one step of an order.
const STEP_MS_MAX: u64 = 600_000;

/// Waits between looks at what an authority works on, unless it names one; the last for ever.
const LOOKS_MS: [u64; 4] = [1000, 2000, 3000, 5000];

/// The most that an authority can make one wait between looks.
const LOOK_MS_MAX: u64 = 60_000;

/// Proofs of one order that are looked at: one for each name, of which there are 100 in public certificates.
const AUTHORIZATIONS_MAX: usize = 256;

/// Steps of one order; each of its states is there once or twice.
const STEPS_MAX: usize = 12;

/// How a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By a file over HTTP, port 80 (section 8.3).
    Http,
    /// By a record of DNS (section 8.4).
    Dns,
    /// By a certificate, port 443 (RFC 8737).
    TlsAlpn,
}

impl Kind {
    /// As the authority writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Http => "http-01",
            Kind::Dns => "dns-01",
            Kind::TlsAlpn => "tls-alpn-01",
        }
    }
}

/// A proof that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In which way.
    pub kind: Kind,
    /// Of this name, without the `*.` of a wildcard.
    pub name: String,
    /// The file's name, for HTTP.
    pub token: String,
    /// The key authorization (section 8.1): what the file has, and what the others are a hash of.
    pub authorization: String,
}

/// A certificate that is being issued: enough to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The order.
    pub url: String,
    /// In this order.
    pub names: Vec<String>,
}

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// Names as A-labels, the host first.
    pub names: Vec<String>,
    /// The certificate that it takes the place of, as RFC 9773 section 4.1 names it.
    pub replaces: Option<String>,
    /// What was begun before.
    pub pending: Option<Pending>,
}

/// The account that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its address; none when there is none yet.
    pub url: Option<String>,
    /// Addresses of people, as the authority has them.
    pub contacts: Vec<String>,
}

/// What a visit needs of the world.
#[allow(async_fn_in_trait, reason = "one thread: nothing here is sent to another")]
pub trait World {
    /// Asks the authority.
    ///
    /// # Errors
    /// When no answer came: one phrase.
    async fn exchange(&mut self, request: &Request) -> Result<Response, String>;
    /// Shows a proof.
    ///
    /// # Errors
    /// Why it cannot: one phrase.
    async fn present(&mut self, challenge: &Challenge) -> Result<(), String>;
    /// Takes it away.
    async fn withdraw(&mut self, challenge: &Challenge);
    /// Lets time pass.
    async fn wait(&mut self, ms: u64);
    /// Writes down whose certificate is under way, before anything is done for it.
    ///
    /// # Errors
    /// When it cannot.
    fn begun(&mut self, pending: &Pending) -> Result<(), String>;
    /// The order has come to its end without a certificate.
    fn ended(&mut self, names: &[String]);
    /// Writes down which account is used.
    ///
    /// # Errors
    /// When it cannot.
    fn registered(&mut self, account: &Account) -> Result<(), String>;
    /// A request (RFC 2986) for a certificate of these names, in DER, with the key of the order.
    ///
    /// # Errors
    /// When none can be made.
    fn request(&mut self, names: &[String]) -> Result<Vec<u8>, String>;
}

/// Who visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The directory's address.
    pub directory: String,
    /// Addresses of people, as `mailto:...`.
    pub contacts: Vec<String>,
    /// They agree to the authority's terms.
    pub terms_agreed: bool,
    /// Account of another kind with the same authority.
    pub binding: Option<Binding>,
    /// How names are proved.
    pub kind: Kind,
}

/// A visit.
pub struct Session {
    visitor: Visitor,
    key: AccountKey,
    account: Account,
    directory: Directory,
    nonce: Option<String>,
}

impl Session {
    /// Finds the directory and the account, which is made where there is none.
    ///
    /// # Errors
    /// When the authority cannot be reached or lets nobody in.
    pub async fn open<W: World>(
        world: &mut W,
        visitor: Visitor,
        key: AccountKey,
        account: Account,
    ) -> Result<Self, Trouble> {
        let get = Request { url: visitor.directory.clone(), method: Method::Get, accept: None };
        let response = world.exchange(&get).await.map_err(|why| Trouble::unreached(&visitor.directory, &why))?;
        if !response.is_good() {
            return Err(Trouble::of(&Problem::parse(&response), response.retry_after_s, visitor.kind));
        }
        let directory = Directory::parse(&response.body).ok_or_else(|| Trouble::no_directory(&visitor.directory))?;
        let mut session =
            Self { visitor, key, account, directory, nonce: response.nonce.filter(|nonce| is_token(nonce)) };
        if session.account.url.is_none() {
            session.register(world).await?;
        } else if session.account.contacts != session.visitor.contacts {
            session.change_contacts(world).await?;
        }
        Ok(session)
    }

    /// A new account (section 7.3), or the one that this key has already.
    async fn register<W: World>(&mut self, world: &mut W) -> Result<(), Trouble> {
        if let Some(terms) = self.directory.terms.as_ref().filter(|_| !self.visitor.terms_agreed) {
            return Err(Trouble::terms(terms));
        }
        let mut fields = vec![r#""termsOfServiceAgreed":true"#.to_owned()];
        if !self.visitor.contacts.is_empty() {
            fields.push(format!(r#""contact":{}"#, quote_all(&self.visitor.contacts)));
        }
        let url = self.directory.new_account.clone();
        if let Some(binding) = &self.visitor.binding {
            let bound = self.key.bind(binding, &url).ok_or_else(Trouble::bad_binding)?;
            fields.push(format!(r#""externalAccountBinding":{bound}"#));
        }
        self.account.url = None;
        let payload = format!("{{{}}}", fields.join(","));
        let response = self.post(world, &url, &payload).await?;
        let location = response.location.ok_or_else(|| Trouble::nonsense("a new account without an address"))?;
        self.account = Account { url: Some(location), contacts: self.visitor.contacts.clone() };
        world.registered(&self.account).map_err(|why| Trouble::own(&why))
    }

    /// Section 7.3.2.
    async fn change_contacts<W: World>(&mut self, world: &mut W) -> Result<(), Trouble> {
        let payload = format!(r#"{{"contact":{}}}"#, quote_all(&self.visitor.contacts));
        match self.post(world, &self.account.url.clone().unwrap_or_default(), &payload).await {
            Err(trouble) if trouble.is_account_gone => return self.register(world).await,
            result => drop(result?),
        }
        self.account.contacts.clone_from(&self.visitor.contacts);
        world.registered(&self.account).map_err(|why| Trouble::own(&why))
    }

    /// The chain of a new certificate, in PEM, for the key of [`World::request`].
    ///
    /// # Errors
    /// Why there is none, and which names are to blame.
    pub async fn obtain<W: World>(&mut self, world: &mut W, want: &Want) -> Result<Vec<u8>, Trouble> {
        match self.go_through(world, want).await {
            // Somebody has closed the account; or the data folder is that of another time.
            Err(trouble) if trouble.is_account_gone => {
                self.register(world).await?;
                self.go_through(world, &Want { pending: None, ..want.clone() }).await
            }
            // What the authority has looked for while nobody was here to show it says nothing.
            Err(trouble) if trouble.is_final && want.pending.is_some() => {
                self.go_through(world, &Want { pending: None, ..want.clone() }).await
            }
            result => result,
        }
    }

    async fn go_through<W: World>(&mut self, world: &mut W, want: &Want) -> Result<Vec<u8>, Trouble> {
        let (pending, mut order) = match self.resume(world, want).await? {
            Some(begun) => begun,
            None => self.begin(world, want).await?,
        };
        let mut waited_ms = 0;
        for _ in 0..STEPS_MAX {
            order = match order.status {
                Status::Pending => {
                    if let Err(trouble) = self.prove(world, &order.authorizations).await {
                        if trouble.is_final {
                            world.ended(&pending.names);
                        }
                        return Err(trouble);
                    }
                    self.look(world, &pending.url, Status::Pending).await?
                }
                Status::Ready => {
                    let request = world.request(&pending.names).map_err(|why| Trouble::own(&why))?;
                    let payload = format!(r#"{{"csr":"{}"}}"#, base64url(request));
                    let response = self.post(world, &order.finalize, &payload).await?;
                    self.step_of(world, &response, &mut waited_ms).await?;
                    self.look(world, &pending.url, Status::Processing).await?
                }
                Status::Processing => self.look(world, &pending.url, Status::Processing).await?,
                Status::Valid => {
                    let url = order.certificate.ok_or_else(|| Trouble::nonsense("no certificate in a valid order"))?;
                    let accept = Some("application/pem-certificate-chain");
                    return Ok(self.send(world, &url, "", accept).await?.body);
                }
                Status::Over => {
                    world.ended(&pending.names);
                    let error = order.error.unwrap_or_default();
                    return Err(Trouble::of(&error, None, self.visitor.kind));
                }
            };
        }
        world.ended(&pending.names);
        Err(Trouble::nonsense("an order that does not come to an end"))
    }

    /// The order that was begun before, if it leads anywhere.
    async fn resume<W: World>(&mut self, world: &mut W, want: &Want) -> Result<Option<(Pending, Order)>, Trouble> {
        let Some(pending) = want.pending.as_ref().filter(|pending| pending.names == want.names) else {
            return Ok(None);
        };
        match self.post(world, &pending.url, "").await {
            Ok(response) => {
                let order = Order::parse(&response.body).filter(|order| order.status != Status::Over);
                Ok(order.map(|order| (pending.clone(), order)))
            }
            // Of an authority that does not answer one learns nothing, and of an account that is gone, more.
            Err(trouble) if trouble.is_passing || trouble.is_account_gone => Err(trouble),
            Err(_) => Ok(None),
        }
    }

    /// A new order (section 7.4).
    async fn begin<W: World>(&mut self, world: &mut W, want: &Want) -> Result<(Pending, Order), Trouble> {
        let name = |name: &String| format!(r#"{{"type":"dns","value":{}}}"#, quote(name));
        let names = want.names.iter().map(name).collect::<Vec<_>>().join(",");
        let replaces = want.replaces.as_ref().filter(|_| self.directory.renewal_info.is_some());
        let payload = |replaces: Option<&String>| {
            let replaces = replaces.map(|id| format!(r#","replaces":{}"#, quote(id))).unwrap_or_default();
            format!(r#"{{"identifiers":[{names}]{replaces}}}"#)
        };
        let url = self.directory.new_order.clone();
        let response = match self.post(world, &url, &payload(replaces)).await {
            // RFC 9773 section 5: it was replaced already, or is not known.
            Err(trouble) if replaces.is_some() && !trouble.is_passing && trouble.names.is_empty() => {
                self.post(world, &url, &payload(None)).await
            }
            result => result,
        };
        // Some name the culprits in words alone.
        let response = response.map_err(|trouble| trouble.naming(&want.names))?;
        let order = Order::parse(&response.body).ok_or_else(|| Trouble::nonsense("something else than an order"))?;
        let url = response.location.ok_or_else(|| Trouble::nonsense("an order without an address"))?;
        let pending = Pending { url, names: want.names.clone() };
        world.begun(&pending).map_err(|why| Trouble::own(&why))?;
        Ok((pending, order))
    }

    /// Proves every name (section 7.5). One that fails keeps none of the others from being proved, so that all that is
    /// wrong is known at once.
    async fn prove<W: World>(&mut self, world: &mut W, authorizations: &[String]) -> Result<(), Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        for url in authorizations.iter().take(AUTHORIZATIONS_MAX) {
            let response = self.post(world, url, "").await?;
            let authorization = Authorization::parse(&response.body);
            let authorization =
                authorization.ok_or_else(|| Trouble::nonsense("something else than an authorization"))?;
            let name = authorization.name.clone();
            match self.prove_one(world, url, authorization).await {
                Ok(()) => {}
                Err(trouble) if trouble.is_passing => return Err(trouble),
                Err(trouble) => troubles.push(trouble.about(name)),
            }
        }
        Trouble::all(troubles)
    }

    async fn prove_one<W: World>(
        &mut self,
        world: &mut W,
        url: &str,
        authorization: Authorization,
    ) -> Result<(), Trouble> {
        let kind = self.visitor.kind;
        let failed = |offered: &[Offered]| {
            let error = offered.iter().filter(|offered| offered.kind == kind.as_str()).find_map(|o| o.error.clone());
            Trouble { is_final: true, ..Trouble::of(&error.unwrap_or_default(), None, kind) }
        };
        match authorization.status {
            Status::Valid => return Ok(()),
            Status::Over => return Err(failed(&authorization.challenges)),
            Status::Pending | Status::Ready | Status::Processing => {}
        }
        let offered = authorization.challenges.iter().find(|o| o.kind == kind.as_str() && !o.token.is_empty());
        let Some(offered) = offered else {
            let kinds: Vec<&str> = authorization.challenges.iter().map(|offered| offered.kind.as_str()).collect();
            return Err(Trouble::not_offered(kind, &kinds.join(", ")));
        };
        let challenge = Challenge {
            kind,
            name: authorization.name.clone(),
            token: offered.token.clone(),
            authorization: self.key.authorization(&offered.token),
        };
        let shown = match world.present(&challenge).await {
            Ok(()) => self.have_it_looked_at(world, url, &offered.url).await,
            Err(why) => Err(Trouble::not_shown(kind, &why)),
        };
        world.withdraw(&challenge).await;
        match shown? {
            Authorization { status: Status::Valid, .. } => Ok(()),
            authorization => Err(failed(&authorization.challenges)),
        }
    }

    /// Says that the proof is there, and waits for what the authority makes of it (section 7.5.1).
    async fn have_it_looked_at<W: World>(
        &mut self,
        world: &mut W,
        authorization: &str,
        challenge: &str,
    ) -> Result<Authorization, Trouble> {
        let mut waited_ms = 0;
        let mut response = self.post(world, challenge, "{}").await?;
        loop {
            self.step_of(world, &response, &mut waited_ms).await?;
            response = self.post(world, authorization, "").await?;
            match Authorization::parse(&response.body) {
                Some(Authorization { status: Status::Pending | Status::Processing, .. }) => {}
                Some(authorization) => return Ok(authorization),
                None => return Err(Trouble::nonsense("something else than an authorization")),
            }
        }
    }

    /// The order, once it is not `status` any more.
    async fn look<W: World>(&mut self, world: &mut W, url: &str, status: Status) -> Result<Order, Trouble> {
        let mut waited_ms = 0;
        loop {
            let response = self.post(world, url, "").await?;
            let order =
                Order::parse(&response.body).ok_or_else(|| Trouble::nonsense("something else than an order"))?;
            if order.status != status {
                return Ok(order);
            }
            self.step_of(world, &response, &mut waited_ms).await?;
        }
    }

    /// Waits for the next look, as long as the authority wishes.
    async fn step_of<W: World>(
        &mut self,
        world: &mut W,
        response: &Response,
        waited_ms: &mut u64,
    ) -> Result<(), Trouble> {
        if *waited_ms >= STEP_MS_MAX {
            return Err(Trouble::slow());
        }
        let index = usize::try_from(*waited_ms / 2000).unwrap_or(usize::MAX).min(LOOKS_MS.len() - 1);
        let own = LOOKS_MS.get(index).copied().unwrap_or(LOOK_MS_MAX);
        let ms = response.retry_after_s.map_or(own, |s| s.saturating_mul(1000)).clamp(500, LOOK_MS_MAX);
        *waited_ms += ms;
        world.wait(ms).await;
        Ok(())
    }

    /// When the certificate of that name (RFC 9773 section 4.1) is best renewed, and in how many seconds one should ask
    /// again. None where the authority does not say.
    pub async fn renewal_window<W: World>(&mut self, world: &mut W, id: &str) -> Option<(Window, Option<u64>)> {
        let base = self.directory.renewal_info.as_ref()?;
        let request =
            Request { url: format!("{}/{id}", base.trim_end_matches('/')), method: Method::Get, accept: None };
        let response = world.exchange(&request).await.ok().filter(Response::is_good)?;
        Some((Window::parse(&response.body)?, response.retry_after_s))
    }

    async fn post<W: World>(&mut self, world: &mut W, url: &str, payload: &str) -> Result<Response, Trouble> {
        self.send(world, url, payload, None).await
    }

    /// A signed request, with a nonce that is fresh (section 6.5).
    async fn send<W: World>(
        &mut self,
        world: &mut W,
        url: &str,
        payload: &str,
        accept: Option<&'static str>,
    ) -> Result<Response, Trouble> {
        let mut tries = NONCE_TRIES;
        loop {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce(world).await?,
            };
            let signer = self.account.url.as_deref().map_or(Signer::Key, Signer::Account);
            let body = self.key.sign(signer, &nonce, url, payload);
            let body = body.ok_or_else(|| Trouble::own("the system gives no random bytes"))?;
            let request = Request { url: url.to_owned(), method: Method::Post(body), accept };
            let mut response = world.exchange(&request).await.map_err(|why| Trouble::unreached(url, &why))?;
            self.nonce = response.nonce.take().filter(|nonce| is_token(nonce));
            if response.is_good() {
                return Ok(response);
            }
            let problem = Problem::parse(&response);
            tries -= 1;
            if problem.kind != "badNonce" || tries == 0 {
                let trouble = Trouble::of(&problem, response.retry_after_s, self.visitor.kind);
                return Err(Trouble { is_passing: trouble.is_passing || response.status >= 500, ..trouble });
            }
        }
    }

    async fn new_nonce<W: World>(&mut self, world: &mut W) -> Result<String, Trouble> {
        let url = self.directory.new_nonce.clone();
        let request = Request { url: url.clone(), method: Method::Head, accept: None };
        let mut response = world.exchange(&request).await.map_err(|why| Trouble::unreached(&url, &why))?;
        response
            .nonce
            .take()
            .ok_or_else(|| Trouble::of(&Problem::parse(&response), response.retry_after_s, self.visitor.kind))
    }
}

#[cfg(test)]
mod tests;
