//! Rules: a small firewall. Each stanza that leaves an account of ours, reaches one, or goes to a room or another
//! service here is held against the rules in their order, before it is archived, copied, stored or told to anybody.
//!
//! A rule is compiled when the configuration is read. Texts have stars and no regular expressions, so that looking
//! for one takes time in proportion to what was said. What rules remember (rates, marks) is bounded, in memory, and
//! gone with the process.

mod addresses;
mod config;
mod fit;
mod glob;
mod matcher;
mod memory;

use super::{Fit, Module, Xep};
use crate::core::Core;
use crate::core::flight::{Dest, Flow, InFlight};
use crate::core::rates::Hourly;
use crate::core::rtbl::Source;
use crate::core::settings::Settings;
use crate::jid::Jid;
use crate::stanza::{Condition, IqType, Kind, MessageType, Stanza, StanzaError, name};
use crate::storage::StoreError;
use crate::xml::ns;
use matcher::{Act, Compiled, Subject};
use memory::{Counted, Marks};

pub use addresses::check as check_address;
pub use config::{Config, Holds, List};
use config::Sender;

const LOG: &str = "couplet::rules";

/// The module.
pub struct Rules {
    rules: Vec<Compiled>,
    /// Block lists that lists name.
    rtbl: Vec<Source>,
    rates: Vec<Counted>,
    marks: Marks,
    reports: Hourly,
    reports_per_hour: u32,
}

/// Where a stanza is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It leaves an account of ours.
    Out,
    /// It comes to an account of ours.
    In,
    /// It comes to a service of ours.
    Service,
}

impl Module for Rules {
    const XEPS: &'static [Xep] = &[];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self {
            rules: matcher::compile(&config),
            rtbl: config.lists.iter().filter_map(|list| Source::parse(&list.rtbl)).collect(),
            rates: config.rates.iter().map(Counted::new).collect(),
            marks: Marks::default(),
            reports: Hourly::default(),
            reports_per_hour: config.reports_per_hour,
        }
    }

    fn fit(config: &Config, fit: &mut Fit) {
        fit::fit(config, fit);
    }

    fn settle(&self, settings: &mut Settings) {
        self.rtbl.iter().for_each(|list| settings.want_rtbl(list));
    }

    /// What was counted and marked stays.
    fn reconfigure(&mut self, config: Config) {
        let mut old = std::mem::replace(self, Self::new(config));
        let mut rates = std::mem::take(&mut old.rates);
        for rate in &mut self.rates {
            rates = rate.inherit(rates);
        }
        (self.marks, self.reports) = (old.marks, old.reports);
    }

    fn filter_out(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        let flow = self.ask(core, flight, Way::Out)?;
        Ok(match (flow, flight.stanza.kind) {
            // Of what the server sends by itself nobody needs to hear that it was stopped.
            (Flow::Bounce(_), Kind::Presence(_) | Kind::Message(_)) if flight.origin.is_none() => STOPPED,
            (flow, _) => flow,
        })
    }

    fn filter_in(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        self.ask(core, flight, Way::In)
    }

    fn filter_service(&mut self, core: &mut Core, flight: &mut InFlight) -> Result<Flow, StanzaError> {
        self.ask(core, flight, Way::Service)
    }

    fn held_bytes(&self) -> usize {
        self.marks.held_bytes() + self.rates.iter().map(Counted::held_bytes).sum::<usize>()
    }
}

const STOPPED: Flow = Flow::Drop("a rule");

impl Rules {
    fn ask(&mut self, core: &mut Core, flight: &InFlight, way: Way) -> Result<Flow, StanzaError> {
        if self.rules.is_empty() {
            return Ok(Flow::Pass);
        }
        let Some(subject) = Subject::new(&flight.stanza) else { return Ok(Flow::Pass) };
        if subject.from.same_bare(subject.to) || (subject.from.node().is_none() && core.is_local(subject.from)) {
            return Ok(Flow::Pass);
        }
        // What was stored was asked about when it came; only what decides about it is asked again.
        let is_again = flight.dest != Dest::Address;
        let is_from_here = core.is_local(subject.from);
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            at += 1;
            let is_asked = match way {
                Way::Out => rule.out,
                Way::In | Way::Service => rule.into && (rule.into_twice || !is_from_here),
            };
            let is_once = rule.rate.is_some() || matches!(rule.act, Act::Log(_) | Act::Report(_) | Act::Mark(..));
            if !is_asked || (is_again && is_once) || !rule.meets(&subject) || !self.is_so(core, rule, &subject, way)? {
                continue;
            }
            let (now_ms, max) = (core.now.mono_ms, core.settings.limits.rules_remembered_max as usize);
            if let Some(rate) = rule.rate.and_then(|rate| self.rates.get_mut(rate))
                && !rate.is_over(subject.from, subject.to, now_ms, max)
            {
                continue;
            }
            match &rule.act {
                Act::Pass => return Ok(Flow::Pass),
                Act::Drop => {
                    log::debug!(target: LOG, "rule {}: dropped", rule.name);
                    return Ok(match flight.stanza.kind {
                        // Each request is answered (RFC 6120 section 8.2.3).
                        Kind::Iq(IqType::Get | IqType::Set) => Flow::Bounce(Condition::ServiceUnavailable.into()),
                        _ => STOPPED,
                    });
                }
                Act::Bounce(error) => {
                    log::debug!(target: LOG, "rule {}: bounced", rule.name);
                    return Ok(Flow::Bounce(error.clone()));
                }
                Act::Log(text) => log::info!(target: LOG, "{}", told(rule, text, &subject)),
                Act::Report(text) => {
                    let told = told(rule, text, &subject);
                    log::info!(target: LOG, "{told}");
                    if self.reports.may(self.reports_per_hour, now_ms) {
                        report(core, &told, &subject, way)?;
                    }
                }
                Act::Mark(mark, for_ms) => {
                    self.marks.set(mark, subject.from, now_ms.saturating_add(*for_ms), now_ms, max);
                }
            }
        }
        Ok(Flow::Pass)
    }

    /// True when that holds as well which the stanza alone cannot tell.
    fn is_so(&self, core: &mut Core, rule: &Compiled, subject: &Subject<'_>, way: Way) -> Result<bool, StoreError> {
        if !rule.senders.is_empty() {
            let mut is_one = false;
            for sender in &rule.senders {
                is_one |= match sender {
                    Sender::Local => core.is_local(subject.from),
                    Sender::Admin => core.is_local(subject.from) && core.is_admin(subject.from)?,
                    Sender::Service => is_service(core, subject.from),
                    Sender::Remote => !core.is_local(subject.from) && !is_service(core, subject.from),
                };
            }
            if !is_one {
                return Ok(false);
            }
        }
        for (who, jid) in [(&rule.from, subject.from), (&rule.to, subject.to)] {
            if let Some(who) = who
                && !who.names(jid)
                && !core.rtbl_has(&who.rtbl, jid)?
            {
                return Ok(false);
            }
        }
        if let Some(mark) = &rule.marked
            && !self.marks.has(mark, subject.from, core.now.mono_ms)
        {
            return Ok(false);
        }
        if let Some(younger_ms) = rule.younger_ms {
            let created_ms = match core.is_local(subject.from) {
                true => core.account_created_ms(subject.from)?,
                false => None,
            };
            if created_ms.is_none_or(|at| core.wall_ms().saturating_sub(at) >= younger_ms) {
                return Ok(false);
            }
        }
        Ok(match rule.contact {
            None => true,
            Some(wanted) => {
                wanted
                    == match way {
                        Way::Out => core.is_contact(subject.from, subject.to)?,
                        Way::In => core.is_contact(subject.to, subject.from)?,
                        Way::Service => false,
                    }
            }
        })
    }
}

fn is_service(core: &Core, jid: &Jid) -> bool {
    core.is_service(jid.domain()) || core.is_component(jid.domain())
}

/// What the log and the administrators are told: who to whom, and not what.
fn told(rule: &Compiled, text: &str, subject: &Subject<'_>) -> String {
    let (what, space) = (name(subject.stanza.kind), if text.is_empty() { "" } else { " " });
    format!("rule {}: {what} from {} to {}.{space}{text}", rule.name, subject.from, subject.to)
}

/// Tells the administrators of the host that is concerned.
fn report(core: &mut Core, told: &str, subject: &Subject<'_>, way: Way) -> Result<(), StoreError> {
    let host = match way {
        Way::Out => subject.from.domain().to_string(),
        Way::In => subject.to.domain().to_string(),
        Way::Service => core.settings.hosts.first().cloned().unwrap_or_default(),
    };
    let stanza = Stanza::build(Kind::Message(MessageType::Normal), |b| {
        b.leaf(ns::CLIENT, "body", told);
    });
    for admin in core.admins(&host)? {
        let id = core.token();
        let message = stanza.clone().addressed(Jid::parse(&host).ok(), Some(admin)).with_id(&id);
        core.send(InFlight::promising(message));
    }
    Ok(())
}
