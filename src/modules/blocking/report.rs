//! Reports that come with a block (XEP-0377): logged, and passed on to those who answer for the server.
//!
//! With it go the messages that it names, where the archive has them. A report goes to people of this server and
//! nowhere else: what its opt-in elements would allow is not done. One that is ill-formed changes nothing of the block
//! (section 6).

use crate::clock::datetime;
use crate::core::Core;
#[cfg(feature = "mam")]
use crate::core::archive::Id;
use crate::core::flight::InFlight;
use crate::jid::Jid;
use crate::stanza::{Kind, MessageType, Stanza};
use crate::storage::StoreError;
use crate::xml::{Builder, Element, ElementRef, ns};
use std::collections::VecDeque;

const WINDOW_MS: u64 = 3_600_000;

/// A well-formed report.
pub struct Report<'a> {
    /// Who is blocked.
    pub jid: Jid,
    reason: &'a str,
    element: ElementRef<'a>,
}

impl<'a> Report<'a> {
    /// The report of an item, if there is one with the reason that it must have (section 4).
    pub fn of(item: ElementRef<'a>, jid: &Jid) -> Option<Self> {
        let element = item.child(ns::REPORTING, "report")?;
        let reason = element.attr("reason").filter(|reason| !reason.is_empty() && reason.len() <= Self::REASON_MAX)?;
        Some(Self { jid: jid.clone(), reason, element })
    }

    /// Bytes of a reason, the name of a namespace.
    const REASON_MAX: usize = 256;

    /// What is said, and nothing that the specification does not know.
    fn write(&self, b: &mut Builder, texts_max: usize, ids_max: usize) {
        b.open(ns::REPORTING, "report").attr("reason", self.reason);
        b.leaf(ns::JID, "jid", self.jid.as_str());
        let (mut room, mut ids) = (texts_max, ids_max);
        for child in self.element.children() {
            if child.is(ns::REPORTING, "text") {
                let text = child.text();
                let text = cut(text.trim(), room);
                room -= text.len();
                if !text.is_empty() {
                    b.open(ns::REPORTING, "text");
                    if let Some(lang) = child.attr_ns(ns::XML, "lang") {
                        b.attr_ns(ns::XML, "lang", lang);
                    }
                    b.text(text);
                    b.close();
                }
            } else if child.is(ns::STANZA_ID, "stanza-id") && ids > 0 {
                ids -= 1;
                b.open(ns::STANZA_ID, "stanza-id").attributes_of(child).close();
            } else if child.is(ns::REPORTING, "report-origin") || child.is(ns::REPORTING, "third-party") {
                b.leaf(ns::REPORTING, child.name(), "");
            }
        }
        b.close();
    }

    /// The messages that it names, with their times, as the archive of the reporter has them: those of the one who is
    /// reported, no other's, and not more than `limits.report_messages_bytes_max` of them.
    #[cfg(feature = "mam")]
    fn messages(&self, core: &mut Core, reporter: &Jid, ids_max: usize) -> Result<Vec<(i64, Element)>, StoreError> {
        let owner = reporter.bare_str();
        let mut room = core.settings.limits.report_messages_bytes_max as usize;
        let mut said = Vec::new();
        let ids = self.element.children().filter(|child| child.is(ns::STANZA_ID, "stanza-id"));
        for named in ids.take(ids_max).filter(|named| named.attr("by") == Some(owner)) {
            let Some(id) = named.attr("id").and_then(Id::parse) else { continue };
            let Some(row) = core.archive_row(owner, id)? else { continue };
            let Ok(message) = crate::xml::parse(&row.xml) else { continue };
            let from = message.root().attr("from").and_then(|from| Jid::parse(from).ok());
            if from.is_some_and(|from| super::covers(self.jid.as_str(), &from)) && row.xml.len() <= room {
                room -= row.xml.len();
                said.push((i64::try_from(id.wall_ms()).unwrap_or_default(), message));
            }
        }
        Ok(said)
    }

    /// Nothing is archived.
    #[cfg(not(feature = "mam"))]
    fn messages(&self, _: &mut Core, _: &Jid, _: usize) -> Result<Vec<(i64, Element)>, StoreError> {
        Ok(Vec::new())
    }

    /// For people.
    fn body(&self, reporter: &Jid, texts_max: usize) -> String {
        let what = match self.reason {
            "urn:xmpp:reporting:spam" => "spam",
            "urn:xmpp:reporting:abuse" => "abuse",
            other => other,
        };
        let said = self.element.child(ns::REPORTING, "text").map(|text| text.text()).unwrap_or_default();
        match cut(said.trim(), texts_max) {
            "" => format!("{} has blocked {} and reports: {what}.", reporter.bare_str(), self.jid),
            said => format!("{} has blocked {} and reports: {what}. \"{said}\"", reporter.bare_str(), self.jid),
        }
    }
}

/// The first bytes of a text, as many as there is room for, in whole characters.
fn cut(text: &str, room: usize) -> &str {
    let fits = |end: &usize| *end <= room;
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(fits).last().unwrap_or(0);
    &text[..end]
}

/// When who has reported, in order; at most `limits.reports_recent_max`.
#[derive(Default)]
pub struct Recent(VecDeque<(u64, Jid)>);

impl Recent {
    /// Logs a report and sends it on to `people`, or to the administrators when these are nobody.
    pub fn pass_on(
        &mut self,
        core: &mut Core,
        reporter: &Jid,
        report: &Report<'_>,
        people: &[Jid],
    ) -> Result<(), StoreError> {
        let (texts_max, ids_max) =
            (core.settings.limits.report_text_bytes_max as usize, core.settings.limits.report_ids_max as usize);
        let body = report.body(reporter, texts_max);
        if !self.may(core, reporter) {
            log::info!(target: "couplet::blocking", "{} reports too much to be passed on", reporter.bare_str());
            return Ok(());
        }
        log::info!(target: "couplet::blocking", "{body:?}");
        let mut people = people.to_vec();
        if people.is_empty() {
            people = core.admins(reporter.domain())?;
        }
        // Who is reported does not need to read it.
        people.retain(|person| !person.same_bare(&report.jid));
        let host = Jid::parse(reporter.domain()).ok();
        let said = report.messages(core, reporter, ids_max)?;
        let stanza = Stanza::build(Kind::Message(MessageType::Normal), |b| {
            b.leaf(ns::CLIENT, "body", &body);
            report.write(b, texts_max, ids_max);
            for (wall_ms, message) in &said {
                b.open(ns::FORWARD, "forwarded");
                b.open(ns::DELAY, "delay").attr("stamp", &datetime(*wall_ms)).close();
                b.copy(message.root());
                b.close();
            }
        });
        for person in people {
            let id = core.token();
            core.send(InFlight::promising(stanza.clone().addressed(host.clone(), Some(person)).with_id(&id)));
        }
        Ok(())
    }

    fn may(&mut self, core: &Core, reporter: &Jid) -> bool {
        let (now_ms, limits) = (core.now.mono_ms, &core.settings.limits);
        self.0.retain(|(at, _)| now_ms.saturating_sub(*at) < WINDOW_MS);
        if self.0.iter().filter(|(_, who)| who.same_bare(reporter)).count() >= limits.reports_per_hour_max as usize {
            return false;
        }
        while self.0.len() >= (limits.reports_recent_max as usize).max(1) {
            self.0.pop_front();
        }
        self.0.push_back((now_ms, reporter.bare()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(cut("♥♥", 5), "♥");
        assert_eq!(cut("♥♥", 6), "♥♥");
        assert_eq!(cut("♥", 2), "");
        assert_eq!(cut("", 0), "");
    }
}
