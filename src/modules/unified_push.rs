//! Endpoints of applications (UnifiedPush, as of <https://codeberg.org/iNPUTmice/up>): a client gets an address to
//! which the server of an application on its device brings by HTTP what is for that application, and passes it on.
//!
//! Nothing is stored: neither endpoints, whose addresses say all of them ([`core::endpoints`](crate::core::endpoints)),
//! nor what is brought. Who brings something hears whether the client has it.

use super::{IqRoute, Module, Scope, Xep};
use crate::clock::datetime;
use crate::core::disco::Disco;
use crate::core::endpoints::{Delivery, Endpoint, Hash};
use crate::core::flight::{Filters, InFlight};
use crate::core::io::ConnId;
use crate::core::settings::Settings;
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::{Seconds, section};
use crate::stanza::{Condition, IqType, Kind, Stanza, StanzaError};
use crate::xml::{Builder, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use std::collections::VecDeque;

const LOG: &str = "couplet::unified_push";

section! {
    /// Endpoints of applications (UnifiedPush): clients such as Conversations get what servers of other applications
    /// bring by HTTP, for the device that they are on.
    pub struct Config in "modules.unified_push" {
        /// How long an endpoint can be used; clients renew theirs in time. As Prosody's unified_push_registration_ttl.
        pub expires: Seconds = Seconds(86_400) => |time| minute(*time),
    }
}

fn minute(time: Seconds) -> Result<(), String> {
    if time.0 >= 60 { Ok(()) } else { Err("this is too short; write \"1 min\" or more".to_string()) }
}

const MINUTE_MS: u64 = 60_000;

/// So many endpoints are remembered for their rate; the oldest is forgotten for another. An endpoint leads to the
/// client alone that has made it, so whoever has very many of them can be quick with nobody but himself.
const RECENT_MAX: usize = 1024;

/// What was brought and is not acknowledged.
struct Asked {
    id: String,
    to: Jid,
    conn: ConnId,
    at_ms: u64,
}

/// What was brought to an endpoint in a minute.
struct Recent {
    /// Stands for account, application and instance.
    key: Hash,
    since_ms: u64,
    count: u32,
}

/// The module.
pub struct UnifiedPush {
    config: Config,
    asked: VecDeque<Asked>,
    recent: VecDeque<Recent>,
}

impl Module for UnifiedPush {
    const XEPS: &'static [Xep] = &[];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::UNIFIED_PUSH, "register")];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config, asked: VecDeque::new(), recent: VecDeque::new() }
    }

    fn reconfigure(&mut self, config: Config) {
        self.config = config;
    }

    /// Where nobody could bring anything to, nothing is offered.
    fn disco(&self, settings: &Settings, host: &str, disco: &mut Disco) {
        if settings.url(host).is_some() {
            disco.host.features.push(ns::UNIFIED_PUSH);
        }
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let Some(url) = core.settings.url(request.owner.domain()) else { return Ok(Answer::NotMine) };
        let to = match (&request.stanza.from, request.session) {
            (Some(from), Some(_)) if from.domain() == request.owner.domain() => from.clone(),
            _ => return Err(Condition::Forbidden.because("Endpoints are for users of this host.")),
        };
        if !request.is_set {
            return Err(Condition::BadRequest.into());
        }
        let hash = |name: &str| {
            let bytes = request.child.attr(name).and_then(|text| STANDARD.decode(text).ok());
            let hash = bytes.and_then(|bytes| Hash::try_from(bytes).ok());
            hash.ok_or_else(|| Condition::BadRequest.because("Application and instance are SHA-256 hashes in base64."))
        };
        let expires_s = core.wall_ms() / 1000 + u64::from(self.config.expires.0);
        let endpoint = Endpoint { to, application: hash("application")?, instance: hash("instance")?, expires_s };
        let mut nonce = [0; 12];
        core.entropy.fill(&mut nonce);
        let path = endpoint.path(&core.web.endpoint_key, nonce);
        let path = path.ok_or_else(|| Condition::NotAcceptable.because("Your address is too long for that."))?;
        let mut b = Builder::new(ns::UNIFIED_PUSH, "registered");
        b.attr("expiration", &datetime(i64::try_from(expires_s * 1000).unwrap_or(i64::MAX)));
        b.attr("endpoint", &format!("{}{path}", url.trim_end_matches('/')));
        Ok(Answer::Result(b.finish()))
    }

    fn brought(&mut self, core: &mut Core, conn: ConnId, endpoint: &Endpoint, content: &[u8]) -> bool {
        // A host may be gone since then.
        let Some(host) = Jid::parse(endpoint.to.domain()).ok().filter(|host| core.is_local(host)) else { return false };
        let now_ms = core.now.mono_ms;
        let wait_ms = u64::from(core.settings.limits.http_delivery_wait_s) * 1000;
        while self.asked.front().is_some_and(|asked| asked.at_ms + wait_ms <= now_ms) {
            self.asked.pop_front();
        }
        let refusal = match () {
            () if !self.may_come(endpoint, now_ms, core.settings.limits.unified_push_per_minute_max) => {
                Some(Delivery::TooMany)
            }
            () if self.asked.len() >= core.settings.limits.unified_push_asked_max as usize => Some(Delivery::Away),
            () => core.may_hold("unified_push", self.held_bytes()).err().map(|_| Delivery::Away),
        };
        if let Some(refusal) = refusal {
            core.web.delivered.push((conn, refusal));
            return true;
        }
        let (id, to) = (core.token(), endpoint.to.clone());
        let stanza = Stanza::build(Kind::Iq(IqType::Set), |b| {
            b.open(ns::UNIFIED_PUSH, "push");
            b.attr("application", &STANDARD.encode(endpoint.application));
            b.attr("instance", &STANDARD.encode(endpoint.instance));
            b.text(&STANDARD.encode(content));
            b.close();
        });
        let stanza = stanza.with_id(&id).addressed(Some(host), Some(to.clone()));
        self.asked.push_back(Asked { id, to, conn, at_ms: now_ms });
        core.send(InFlight { filters: Filters::None, ..InFlight::passing(stanza) });
        true
    }

    fn answered(&mut self, core: &mut Core, stanza: &Stanza) -> Result<(), StanzaError> {
        let is_it = |a: &Asked| stanza.id.as_deref() == Some(&*a.id) && stanza.from.as_ref() == Some(&a.to);
        let Some(asked) = self.asked.iter().position(is_it).and_then(|at| self.asked.remove(at)) else { return Ok(()) };
        let delivery = match stanza.kind {
            Kind::Iq(IqType::Result) => Delivery::Done,
            _ => {
                let error = stanza.child(ns::CLIENT, "error");
                let condition = error.and_then(|e| e.children().find(|c| c.ns() == ns::STANZA_ERROR));
                match condition.map_or("", |condition| condition.name()) {
                    "item-not-found" | "feature-not-implemented" => Delivery::Gone,
                    "service-unavailable" | "recipient-unavailable" => Delivery::Away,
                    other => {
                        log::debug!(target: LOG, "{} does not take what it is brought: {other}", asked.to);
                        Delivery::Failed
                    }
                }
            }
        };
        core.web.delivered.push((asked.conn, delivery));
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        // An address and an id.
        const ASKED_BYTES: usize = 512;
        self.asked.len() * ASKED_BYTES + self.recent.len() * size_of::<Recent>()
    }
}

impl UnifiedPush {
    /// Counts what comes to an endpoint, whichever address it has now.
    fn may_come(&mut self, endpoint: &Endpoint, now_ms: u64, per_minute_max: u32) -> bool {
        while self.recent.front().is_some_and(|recent| recent.since_ms + MINUTE_MS <= now_ms) {
            self.recent.pop_front();
        }
        let mut hash = Context::new(&SHA256);
        for part in [&endpoint.application[..], &endpoint.instance[..], endpoint.to.bare_str().as_bytes()] {
            hash.update(part);
        }
        let mut key = Hash::default();
        key.copy_from_slice(hash.finish().as_ref());
        match self.recent.iter_mut().find(|recent| recent.key == key) {
            Some(recent) if recent.count >= per_minute_max => return false,
            Some(recent) => recent.count += 1,
            None => self.recent.push_back(Recent { key, since_ms: now_ms, count: 1 }),
        }
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        true
    }
}
