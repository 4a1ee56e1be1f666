//! Logging in with SASL2 (XEP-0388), and all that a client may ask for in the same breath: a token (XEP-0484), new keys
//! (XEP-0480), its former session (XEP-0198 section 9), a resource (XEP-0386).
//!
//! ```text
//! authenticate -> (as with SASL) -> [continue, next, task-data] -> Admit -> [Resume] -> [BindInline] -> success
//! ```

use zeroize::Zeroizing;

use super::{Negotiation, NewStream, State, Stop};
use crate::budget::allocated;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::stanza::Condition;
use crate::stream::StreamError;
use crate::stream::c2s::{Admission, Event, StreamCx};
use crate::stream::features;
use crate::stream::management;
use crate::stream::sasl::keys::{SALT_BYTES, StoredKeys, of_salted_password};
use crate::stream::sasl::{self, Failure, Ht, Mechanism, ScramHash, ScramKeys, Slot, Step, Tokens};
use crate::stream::sasl2::{self, Authenticate, IssuedToken, Request};
use crate::xml::{Element, ns, write_attribute};

/// What is known of a login until its `<success/>` is written.
pub(super) struct Login {
    request: Authenticate,
    /// Whoever it is, once that is proven.
    user: String,
    /// What the mechanism says at its end.
    data: Option<Vec<u8>>,
    /// The account has no keys for SCRAM-SHA-256.
    lacks_keys: bool,
    /// They are these now.
    keys: Option<ScramKeys>,
    /// The client has made them, and is told when they are stored.
    keys_promised: bool,
    /// The token that was used.
    used: Option<Slot>,
    /// The token that the client gets.
    token: Option<IssuedToken>,
    /// Why its session does not go on, and how much of it has been received.
    failed: Option<(Condition, Option<u64>)>,
}

impl Login {
    pub(super) fn heap_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.request.bind.as_ref().map_or(0, Element::heap_bytes)
    }
}

impl Negotiation {
    /// SASL2 can be had: under TLS alone (section 4).
    pub(super) fn offers_sasl2(&self) -> bool {
        self.options.sasl2 && self.secured
    }

    /// Mechanisms for tokens, as things stand.
    pub(super) fn token_mechanisms(&self) -> Vec<Ht> {
        let provable = |ht: &Ht| ht.binding().is_none_or(|name| self.bindings.data(name).is_some());
        Ht::ALL.into_iter().filter(|ht| self.options.fast && provable(ht)).collect()
    }

    /// True while the client may send nothing but elements of SASL2 (section 2.4).
    pub(in crate::stream) fn is_between_messages(&self) -> bool {
        self.login.is_some() && matches!(self.state, State::Response(_) | State::Task(_))
    }

    /// The client has sent an element of SASL2.
    pub(super) fn sasl2(
        &mut self,
        request: Result<Request, Failure>,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<NewStream>, Stop> {
        self.is_sasl2 = true;
        let step = match (std::mem::replace(&mut self.state, State::Strange), request) {
            (state, Ok(Request::Authenticate(request))) => {
                // Section 5.8. Another one in the middle of an exchange is other traffic (section 2.4).
                if self.continued || !matches!(state, State::Strange) {
                    return Err(Stop::Error(StreamError::PolicyViolation, Some("a login is under way")));
                }
                self.authenticate(*request, cx)
            }
            (_, Err(failure)) => Step::Fail(failure),
            (_, Ok(Request::Abort)) => Step::Fail(Failure::Aborted),
            (State::Response(waiting), Ok(Request::Response(message))) => waiting.response(&message, &self.sasl_cx(cx)),
            (State::Task(salt), Ok(request)) => return self.task(salt, request, output, cx),
            // Out of turn.
            _ => Step::Fail(Failure::MalformedRequest),
        };
        self.step(step, output)
    }

    fn authenticate(&mut self, mut request: Authenticate, cx: &mut StreamCx<'_>) -> Step {
        let mechanism = match Mechanism::from_name(&request.mechanism) {
            Some(Mechanism::Ht(ht)) if self.token_mechanisms().contains(&ht) => {
                // XEP-0484 sections 3.4 and 4.1: a token is one client's, and is said to be one.
                if request.fast.is_none() || request.agent.id.is_none() {
                    return Step::Fail(Failure::MalformedRequest);
                }
                Ok(Mechanism::Ht(ht))
            }
            _ if request.fast.is_some() => Err(Failure::MalformedRequest),
            _ => self.mechanism(&request.mechanism),
        };
        let initial = request.initial.take();
        self.login = Some(Box::new(Login {
            request,
            user: String::new(),
            data: None,
            lacks_keys: false,
            keys: None,
            keys_promised: false,
            used: None,
            token: None,
            failed: None,
        }));
        match mechanism {
            Ok(mechanism) => sasl::start(mechanism, initial.as_ref().map(|m| m.as_slice()), &self.sasl_cx(cx)),
            Err(failure) => Step::Fail(failure),
        }
    }

    /// Id of the client that is logging in.
    pub(super) fn client_id(&self) -> Option<String> {
        self.login.as_ref()?.request.agent.id.clone()
    }

    /// Remembers what the account lacks.
    pub(super) fn look_at_keys(&mut self, keys: Option<&StoredKeys>) {
        if let Some(login) = &mut self.login {
            login.lacks_keys = keys.is_some_and(|keys| keys.sha256.is_none());
        }
    }

    /// The hashing thread has made better keys of a password.
    pub(super) fn keep_keys(&mut self, keys: Option<ScramKeys>) -> Option<ScramKeys> {
        match &mut self.login {
            Some(login) => {
                login.keys = keys;
                None
            }
            None => keys,
        }
    }

    pub(in crate::stream) fn tokens(
        &mut self,
        tokens: &Tokens,
        output: &mut Vec<u8>,
    ) -> Result<Option<NewStream>, Stop> {
        match std::mem::replace(&mut self.state, State::Strange) {
            State::Tokens(waiting) => {
                let count = self.login.as_ref().and_then(|l| l.request.fast).and_then(|fast| fast.count);
                let (step, used) = waiting.tokens(tokens, count);
                if let Some(login) = &mut self.login {
                    login.used = used;
                }
                self.step(step, output)
            }
            other => self.stay(other),
        }
    }

    /// The client is who it says. What it has asked for beyond that is done now, tasks first.
    pub(super) fn proven(&mut self, user: String, data: Option<Vec<u8>>, output: &mut Vec<u8>) {
        let Some(login) = &mut self.login else { return };
        login.user = user;
        if login.request.upgrade && login.lacks_keys && login.keys.is_none() {
            sasl2::write_continue(data.as_deref(), output);
            self.continued = true;
            self.state = State::Task(None);
        } else {
            login.data = data;
            self.admit();
        }
    }

    /// The upgrade task of XEP-0480 section 3; `salt` once it has been sent.
    fn task(
        &mut self,
        salt: Option<Vec<u8>>,
        request: Request,
        output: &mut Vec<u8>,
        cx: &mut StreamCx<'_>,
    ) -> Result<Option<NewStream>, Stop> {
        let hash = ScramHash::Sha256;
        match (salt, request) {
            (None, Request::Next(task)) if task == sasl2::UPGRADE_TASK => {
                let mut salt = vec![0; SALT_BYTES];
                cx.entropy.fill(&mut salt);
                sasl2::write_salt(&salt, self.options.iterations, output);
                self.state = State::Task(Some(salt));
                Ok(None)
            }
            (Some(salt), Request::TaskData(Some(salted))) if salted.len() == hash.output_bytes() => {
                let salted: &Zeroizing<Vec<u8>> = &salted;
                if let Some(login) = &mut self.login {
                    login.keys = Some(of_salted_password(hash, salted, &salt, self.options.iterations));
                    login.keys_promised = true;
                }
                self.admit();
                Ok(None)
            }
            _ => self.step(Step::Fail(Failure::MalformedRequest), output),
        }
    }

    fn admit(&mut self) {
        let offered = self.token_mechanisms();
        let Some(login) = &mut self.login else { return };
        let fast = login.request.fast;
        self.state = State::Admitting;
        self.event = Some(Event::Admit(Box::new(Admission {
            user: login.user.clone(),
            agent: login.request.agent.clone(),
            keys: login.keys.take(),
            keys_promised: login.keys_promised,
            used: login.used,
            count: fast.and_then(|fast| fast.count),
            invalidate: fast.is_some_and(|fast| fast.invalidate),
            request_token: login.request.request_token.filter(|ht| offered.contains(ht)),
        })));
    }

    /// What the login changes is stored. True when that was the answer to a question.
    pub(in crate::stream) fn admitted(&mut self, token: Option<IssuedToken>, output: &mut Vec<u8>) -> bool {
        let (State::Admitting, Some(login)) = (&self.state, &mut self.login) else { return false };
        login.token = token;
        self.user = Some(std::mem::take(&mut login.user));
        self.go_on(output);
        true
    }

    /// The next of: the former session, a resource, the end of the login.
    fn go_on(&mut self, output: &mut Vec<u8>) {
        let Some(login) = &mut self.login else { return };
        match login.request.resume.take() {
            Some(Ok((previd, h))) => {
                self.state = State::Resuming;
                self.event = Some(Event::Resume { previd, h });
                return;
            }
            Some(Err(condition)) => login.failed = Some((condition, None)),
            None => {}
        }
        if let Some(request) = login.request.bind.take() {
            self.state = State::BindingInline;
            self.event = Some(Event::BindInline { request, client: login.request.agent.id.take() });
            return;
        }
        let jid = format!("{}@{}", self.user.as_deref().unwrap_or_default(), self.host.as_deref().unwrap_or_default());
        self.succeed(&jid, &[], output);
        self.state = State::Features;
        self.event = Some(Event::NeedFeatures);
    }

    /// Writes `<success/>`. What is known of the login goes.
    fn succeed(&mut self, jid: &str, inner: &[u8], output: &mut Vec<u8>) {
        let Some(login) = self.login.take() else { return };
        let mut all = Vec::new();
        if let Some((condition, h)) = login.failed {
            management::write_failed(condition, h, &mut all);
        }
        all.extend_from_slice(inner);
        sasl2::write_success(login.data.as_deref(), jid, login.token.as_ref(), &all, output);
    }

    /// The former session goes on. No features follow (XEP-0198 section 9.2).
    pub(super) fn resumed_inline(&mut self, jid: &Jid, previd: &str, h: u64, output: &mut Vec<u8>) {
        let mut inner = Vec::new();
        management::write_resumed(previd, h, &mut inner);
        self.succeed(jid.as_str(), &inner, output);
    }

    /// The former session does not go on: the client is told later.
    pub(super) fn refuse_resume_inline(&mut self, condition: Condition, h: Option<u64>, output: &mut Vec<u8>) {
        if let Some(login) = &mut self.login {
            login.failed = Some((condition, h));
        }
        self.go_on(output);
    }

    /// A resource is bound; `bound` is what stands in `<bound/>`, as XML. True when that was the answer to a question.
    pub(in crate::stream) fn bound_inline(
        &mut self,
        jid: &Jid,
        bound: &[u8],
        extra: &[Element],
        limits: &Limits,
        output: &mut Vec<u8>,
    ) -> bool {
        if !matches!(self.state, State::BindingInline) {
            return false;
        }
        let mut inner = b"<bound".to_vec();
        write_attribute("xmlns", ns::BIND2, &mut inner);
        inner.push(b'>');
        inner.extend_from_slice(bound);
        inner.extend_from_slice(b"</bound>");
        self.succeed(jid.as_str(), &inner, output);
        features::write_bound(extra, limits.stanza_bytes_max, output);
        true
    }
}
