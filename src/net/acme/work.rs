//! The task that sees to it that each host has a certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use async_io::Timer;
use ring::digest;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt;
use zeroize::Zeroizing;

use super::files::{Files, Record};
use super::https::Https;
use super::message::Window;
use super::schedule::{self, Plan};
use super::session::{Session, Want, World};
use super::trouble::Trouble;
use super::world::Reality;
use super::{Settings, base64url};
use crate::clock::{self, Entropy};
use crate::core::admin::Reply;
use crate::http::Pages;
use crate::net::authorities::Authorities;
use crate::net::certs::{CertInfo, CertStore};
use crate::net::clock::{Clock, SystemEntropy};
use crate::net::dns::Resolver;
use crate::net::machine::CLOCK_UNSET_BEFORE_MS;
use crate::net::shell::{self, guard::guarded};
use crate::net::{self_signed, tls};

/// The longest that one sleeps: the clock may be set, and a machine may have slept.
const SLEEP_S_MAX: i64 = 3600;

/// The same while the clock is still to be set.
const CLOCK_LOOK_S: i64 = 30;

/// Answers of name servers that are kept.
const DNS_ANSWERS_MAX: u32 = 16;

/// Somebody wants a certificate now.
pub struct Kick {
    /// Of this host, due or not; else all that are due or have failed.
    pub host: Option<String>,
    /// Who waits for what comes of it.
    pub reply: Sender<Reply>,
}

/// The task's own.
pub struct Work {
    settings: Settings,
    /// What [`Record::settings`] says of them.
    mark: String,
    files: Files,
    certificates: CertStore,
    pages: Pages,
    clock: Clock,
    /// By host: when its issuer suggests to renew it.
    plans: BTreeMap<String, Plan>,
    /// By host: what went wrong. The files say the same where they can be written.
    records: BTreeMap<String, Record>,
    /// By host: when a certificate was got.
    obtained_s: BTreeMap<String, i64>,
    /// By host, or for all: what the log has said.
    said: BTreeMap<String, String>,
}

/// A host whose certificate is ours to get.
struct Task {
    /// As configured.
    host: String,
    /// The names of its certificate, its own first.
    names: Vec<String>,
    issued: Option<(CertInfo, Option<String>)>,
    record: Option<Record>,
}

/// What came of a host: a line, or why there is none.
type Outcome = Result<String, String>;

impl Work {
    pub fn new(settings: Settings, certificates: CertStore, pages: Pages, clock: Clock) -> Self {
        let files = Files::new(&settings.data, certificates.folder());
        // The key is not in the text.
        let key = settings.visitor.binding.as_ref().map_or("", |binding| &binding.hmac_key);
        let hash = digest::digest(&digest::SHA256, format!("{settings:?} {key}").as_bytes());
        let mark = base64url(hash.as_ref().get(..9).unwrap_or_default());
        Self {
            settings,
            mark,
            files,
            certificates,
            pages,
            clock,
            plans: BTreeMap::new(),
            records: BTreeMap::new(),
            obtained_s: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// For ever.
    pub async fn run(mut self, kicks: Receiver<Kick>) {
        let mut kick: Option<Kick> = None;
        loop {
            let wanted = kick.take();
            let host = wanted.as_ref().and_then(|kick| kick.host.clone());
            let outcomes = guarded(self.round(wanted.is_some(), host.as_deref())).await;
            let now_s = self.now_s();
            // What a bug has ended is not tried at once again.
            let until_s = if outcomes.is_some() { self.wake_s() } else { now_s + SLEEP_S_MAX };
            if let Some(Kick { reply, .. }) = wanted {
                let bug = || vec![(String::new(), Err("a bug of ours; the log has it".to_owned()))];
                // Whoever has asked may have gone.
                let _ = reply.try_send(reply_of(outcomes.unwrap_or_else(bug), host.as_deref()));
            }
            let sleep_s = u64::try_from(until_s.saturating_sub(now_s).clamp(1, SLEEP_S_MAX)).unwrap_or(1);
            let sleep = async {
                Timer::after(Duration::from_secs(sleep_s)).await;
                Ok(None)
            };
            kick = match async { kicks.recv().await.map(Some) }.or(sleep).await {
                Ok(kick) => kick,
                // The shell has let go of it.
                Err(_) => return,
            };
        }
    }

    fn now_s(&self) -> i64 {
        self.clock.now().wall_ms / 1000
    }

    fn is_clock_set(&self) -> bool {
        self.clock.now().wall_ms >= CLOCK_UNSET_BEFORE_MS
    }

    /// When there is something to do again.
    fn wake_s(&self) -> i64 {
        let now_s = self.now_s();
        if !self.is_clock_set() {
            return now_s + CLOCK_LOOK_S;
        }
        let due = |task: &Task| {
            let plan = self.plans.get(&task.host);
            let look_s = plan.filter(|_| task.issued.is_some()).map_or(i64::MAX, |plan| plan.look_s);
            self.due_s(task).min(look_s)
        };
        self.tasks().iter().map(due).min().unwrap_or(i64::MAX)
    }

    fn due_s(&self, task: &Task) -> i64 {
        let issued = task.issued.as_ref().map(|(info, _)| info);
        let (plan, obtained_s) = (self.plans.get(&task.host), self.obtained_s.get(&task.host).copied());
        schedule::due_s(issued, &task.names, plan, obtained_s, task.record.as_ref())
    }

    /// Hosts whose certificates are ours to get: all but those for which the operator has put one there.
    fn tasks(&self) -> Vec<Task> {
        let in_force = self.certificates.certificates();
        let mut tasks = Vec::new();
        for (host, names) in &self.settings.hosts {
            let name = names.first().cloned().unwrap_or_default();
            let ours = self.files.certificate(&name);
            let is_own = |info: &CertInfo| {
                !info.self_signed && info.path != ours && info.covers(&name) && info.valid_at(self.now_s())
            };
            if in_force.iter().any(|(of, info)| of == host && is_own(info)) {
                continue;
            }
            let issued = self.files.issued(&name);
            // What went wrong under other settings says nothing about these.
            let known = self.records.get(host).cloned().or_else(|| self.files.record(&name));
            let record = known.filter(|record| record.settings == self.mark && !record.is_void(self.now_s()));
            tasks.push(Task { host: host.clone(), names: names.clone(), issued, record });
        }
        tasks
    }

    /// Gets what is due. `is_wanted`: somebody waits, and what has failed is tried again; the certificate of `wanted`,
    /// due or not.
    async fn round(&mut self, is_wanted: bool, wanted: Option<&str>) -> Vec<(String, Outcome)> {
        if !self.is_clock_set() {
            let text = "the clock of this machine is not set; certificates wait for that (start NTP)".to_owned();
            self.tell("", &text);
            return vec![(String::new(), Err(text))];
        }
        let mut tasks = self.tasks();
        if is_wanted {
            tasks.retain(|task| wanted.is_none_or(|host| host == task.host));
            tasks.iter_mut().for_each(|task| task.record = None);
        }
        let now_s = self.now_s();
        let asks = |task: &Task| {
            let id = task.issued.as_ref().and_then(|(_, id)| id.as_ref());
            let plan = task.issued.as_ref().and_then(|(info, _)| {
                self.plans.get(&task.host).filter(|plan| plan.fingerprint == info.fingerprint_sha256)
            });
            id.is_some() && plan.is_none_or(|plan| plan.is_to_be_asked(now_s))
        };
        let needs = |task: &Task| self.due_s(task) <= now_s || wanted.is_some();
        if !tasks.iter().any(|task| needs(task) || asks(task)) {
            return Vec::new();
        }
        let mut world = match self.world() {
            Ok(world) => world,
            Err(text) => {
                let due: Vec<Task> = tasks.into_iter().filter(needs).collect();
                return due.into_iter().map(|task| self.failed(task, &Trouble::own(&text))).collect();
            }
        };
        let mut session = match self.session(&mut world).await {
            Ok(session) => session,
            Err(trouble) => {
                let due: Vec<Task> = tasks.into_iter().filter(needs).collect();
                let mut outcomes = Vec::new();
                for task in due {
                    outcomes.push(self.failed(task, &trouble));
                }
                if outcomes.is_empty() {
                    // Nothing is due; it is asked again later when certificates are best renewed.
                    log::debug!("certificates: {trouble}");
                    let later = |plan: &mut Plan| plan.look_s = now_s + SLEEP_S_MAX;
                    self.plans.values_mut().for_each(later);
                }
                return outcomes;
            }
        };
        let mut outcomes = Vec::new();
        for task in tasks {
            if let Some((info, Some(id))) = &task.issued {
                let before = self.plans.get(&task.host).copied();
                let is_of_it = |plan: &Plan| plan.fingerprint == info.fingerprint_sha256;
                if before.is_none_or(|plan| !is_of_it(&plan) || plan.is_to_be_asked(now_s)) {
                    let answer: Option<(Window, Option<u64>)> = session.renewal_window(&mut world, id).await;
                    let plan = Plan::asked(before, info, answer, now_s, random());
                    self.plans.insert(task.host.clone(), plan);
                }
            }
            if self.due_s(&task) <= now_s || wanted.is_some() {
                outcomes.push(self.obtain(&mut session, &mut world, task).await);
            }
        }
        outcomes
    }

    fn world(&self) -> Result<Reality, String> {
        let entropy = SystemEntropy::open().ok_or("the system gives no random bytes")?;
        let servers = self.settings.name_servers.clone();
        let resolver = Resolver::new(servers, DNS_ANSWERS_MAX, self.clock, Box::new(entropy));
        let tls = tls::https(Authorities::new(self.settings.authorities.clone())).map_err(|error| error.to_string())?;
        Ok(Reality {
            https: Https { resolver, tls, clock: self.clock },
            certificates: self.certificates.clone(),
            pages: self.pages.clone(),
            hook: self.settings.hook.clone(),
            dns_wait_s: self.settings.dns_wait_s,
            files: self.files.clone(),
            directory: self.settings.visitor.directory.clone(),
            host: String::new(),
            key: Zeroizing::default(),
            shown: Vec::new(),
        })
    }

    async fn session(&self, world: &mut Reality) -> Result<Session, Trouble> {
        let visitor = self.settings.visitor.clone();
        let key = self.files.account_key().map_err(|error| Trouble::of_file(&error))?;
        let account = self.files.account(&visitor.directory);
        Session::open(world, visitor, key, account).await
    }

    /// Gets the certificate of a host; where only names beside its own fail, one without these.
    async fn obtain(&mut self, session: &mut Session, world: &mut Reality, task: Task) -> (String, Outcome) {
        log::info!("{}: asking {} for a certificate", task.host, self.settings.visitor.directory);
        let mut names = task.names.clone();
        let mut left_out: Option<Trouble> = None;
        loop {
            match self.try_to_obtain(session, world, &task, &names).await {
                Ok(info) => return self.succeeded(&task, &info, left_out),
                Err(trouble) => {
                    let is_to_blame = |name: &String| {
                        trouble.names.iter().any(|blamed| blamed == name.strip_prefix("*.").unwrap_or(name))
                    };
                    let (blamed, rest): (Vec<_>, Vec<_>) = names.iter().cloned().partition(is_to_blame);
                    let is_own_fine = rest.first() == task.names.first();
                    if trouble.is_passing || blamed.is_empty() || !is_own_fine || self.has(&task, &rest) {
                        return self.failed(task, &trouble);
                    }
                    world.ended(&names);
                    names = rest;
                    left_out = Some(match left_out {
                        Some(before) => Trouble::all(vec![before, trouble]).err().unwrap_or_default(),
                        None => trouble,
                    });
                }
            }
        }
    }

    /// Whether there is a certificate of these names that need not be renewed yet: another of the same would be no
    /// gain, and authorities issue a few of the same alone.
    fn has(&self, task: &Task, names: &[String]) -> bool {
        let (plan, obtained_s) = (self.plans.get(&task.host), self.obtained_s.get(&task.host).copied());
        let due_s = |(info, _): &(CertInfo, _)| schedule::due_s(Some(info), names, plan, obtained_s, None);
        task.issued.as_ref().map(due_s).is_some_and(|due_s| due_s > self.now_s())
    }

    async fn try_to_obtain(
        &self,
        session: &mut Session,
        world: &mut Reality,
        task: &Task,
        names: &[String],
    ) -> Result<CertInfo, Trouble> {
        let name = names.first().map_or("", String::as_str);
        let begun = self.files.begun(name, &self.settings.visitor.directory);
        let begun = begun.filter(|begun| begun.pending.names == names);
        let (pending, key) = begun.map(|begun| (begun.pending, begun.key)).unzip();
        world.host = name.to_owned();
        world.key = match key {
            Some(key) => key,
            None => self_signed::generate_key().map_err(|error| Trouble::own(&error.to_string()))?,
        };
        let replaces = task.issued.as_ref().and_then(|(_, id)| id.clone());
        let want = Want { names: names.to_vec(), replaces, pending };
        let chain = session.obtain(world, &want).await?;
        let installed = self.files.install(names, &chain, &world.key);
        // With a chain that is of no use, another try with the same order would be of none, either.
        self.files.end(name);
        world.key = Zeroizing::default();
        let installed = installed.map_err(|error| Trouble::of_file(&error))?;
        match self.files.issued(name) {
            Some(_) => Ok(installed),
            None => Err(Trouble::own(&format!("{} cannot be read again", installed.path.display()))),
        }
    }

    fn succeeded(&mut self, task: &Task, info: &CertInfo, left_out: Option<Trouble>) -> (String, Outcome) {
        let name = task.names.first().map_or("", String::as_str);
        let until = clock::datetime(info.not_after_unix_s.saturating_mul(1000));
        let line = format!("a certificate by {}, valid until {until}", info.issuer);
        log::info!("{}: {line}", task.host);
        match self.certificates.reload() {
            Ok(notices) => shell::tell(&notices),
            Err(error) => log::error!("certificates: {error}; the old ones stay in force"),
        }
        self.obtained_s.insert(task.host.clone(), self.now_s());
        let Some(trouble) = left_out else {
            self.records.remove(&task.host);
            self.said.remove(&task.host);
            self.said.remove("");
            self.files.set_record(name, None);
            return (task.host.clone(), Ok(line));
        };
        let text = format!("without {}: {trouble}", trouble.names.join(", "));
        self.note(task, &text, trouble.retry_after_s);
        (task.host.clone(), Err(format!("{line}, but {text}")))
    }

    fn failed(&mut self, task: Task, trouble: &Trouble) -> (String, Outcome) {
        let text = trouble.to_string();
        self.note(&task, &text, trouble.retry_after_s);
        (task.host, Err(text))
    }

    /// Writes down what went wrong, and tells the log, once.
    fn note(&mut self, task: &Task, text: &str, retry_after_s: Option<u64>) {
        let name = task.names.first().map_or("", String::as_str);
        let before = self.records.get(&task.host).cloned().or_else(|| self.files.record(name));
        let before = before.filter(|record| record.settings == self.mark);
        let failures = before.map_or(0, |record| record.failures).saturating_add(1);
        let next_s = schedule::retry_s(self.now_s(), failures, retry_after_s, random());
        let record = Record { failures, next_s, settings: self.mark.clone(), text: text.to_owned() };
        self.files.set_record(name, Some(&record));
        self.records.insert(task.host.clone(), record);
        self.tell(&task.host, text);
        log::debug!("{}: next attempt {}", task.host, clock::datetime(next_s.saturating_mul(1000)));
    }

    fn tell(&mut self, host: &str, text: &str) {
        if self.said.get(host).is_none_or(|said| said != text) {
            match host {
                "" => log::warn!("{text}"),
                host => log::error!("certificate of {host}: {text}"),
            }
            self.said.insert(host.to_owned(), text.to_owned());
        }
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    if let Some(mut entropy) = SystemEntropy::open() {
        entropy.fill(&mut bytes);
    }
    u16::from_be_bytes(bytes)
}

fn reply_of(outcomes: Vec<(String, Outcome)>, host: Option<&str>) -> Reply {
    let is_good = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
    let line = |(host, outcome): &(String, Outcome)| {
        let text = outcome.as_ref().unwrap_or_else(|text| text);
        if host.is_empty() { text.clone() } else { format!("{host}: {text}") }
    };
    match (outcomes.is_empty(), host) {
        (false, _) => {
            let text = outcomes.iter().map(line).collect::<Vec<_>>().join("\n");
            if is_good { Reply::ok(text) } else { Reply::failed(text) }
        }
        (true, None) => Reply::ok("nothing is due; to renew all the same, name a host"),
        (true, Some(host)) => Reply::failed(format!(
            "{host} gets none by itself: it is not in acme.hosts, or has a certificate of another origin; see couplet \
             cert list"
        )),
    }
}
