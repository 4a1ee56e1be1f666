//! Archives (XEP-0313): each message once, in order, and a page is what is stored.

use super::model::{Check, Invariant, Sent, What, bare, broken};
use super::world::World;
use couplet::xml::{ElementRef, ns};

/// Messages of a page.
const PAGE: usize = 50;

impl World {
    /// A client asks for the last page of its archive.
    pub fn ask_archive(&mut self, session: usize) {
        let number = self.model.sent.len();
        let page = format!("<set xmlns='{}'><max>{PAGE}</max><before/></set>", ns::RSM);
        let child = format!("<query xmlns='{}' queryid='{number}'>{page}</query>", ns::MAM);
        self.request(session, What::Archive, None, "set", &child, vec![]);
    }

    /// A message of a page.
    pub fn archive_result(&mut self, session: usize, result: ElementRef<'_>) -> Check {
        self.count("messages out of archives");
        let inner = result.child(ns::FORWARD, "forwarded").and_then(|f| f.child(ns::CLIENT, "message"));
        let (Some(id), Some(inner)) = (result.attr("id"), inner) else {
            return broken(Invariant::ArchiveKept, "a message of an archive has no id or nothing in it");
        };
        let is_error = inner.attr("type") == Some("error");
        let number =
            inner.attr("id").filter(|_| !is_error).and_then(|id| self.model.by_id(id)).map(|(number, _)| number);
        let queryid = result.attr("queryid").and_then(|n| n.parse().ok()).unwrap_or_default();
        self.model.sessions[session].page.push((queryid, id.to_owned(), number));
        Ok(())
    }

    /// The page is complete: it is what is stored, and has all that was said before it was asked for.
    pub fn archive_read(&mut self, session: usize, query: usize, fin: Option<ElementRef<'_>>) -> Check {
        self.count("pages out of archives");
        let s = &mut self.model.sessions[session];
        let page: Vec<_> = s.page.extract_if(.., |(of, ..)| *of == query).collect();
        let s = &self.model.sessions[session];
        let (jid, account) = (s.jid.clone(), s.account.clone());
        let stored = self.disk.archive(&account);
        let ids: Vec<&String> = page.iter().map(|(_, id, _)| id).collect();
        let at = ids.first().map_or(0, |first| stored.iter().position(|(id, _)| id == *first).unwrap_or(usize::MAX));
        let is_stored = stored.get(at..).is_some_and(|rest| {
            rest.len() >= ids.len() && ids.iter().zip(rest).all(|(id, (stored, _))| **id == *stored)
        });
        if !is_stored {
            return broken(Invariant::ArchiveKept, format!("{jid} got {ids:?}, stored is {stored:?}"));
        }
        if fin.is_none_or(|fin| fin.attr("complete") != Some("true")) {
            return Ok(());
        }
        // What a crash has met may be lost; its sender knows by stream management.
        let is_said = |sent: &Sent| {
            let is_whole = sent.is_kept && !sent.again && !sent.refused && sent.step > self.model.trouble;
            matches!(sent.what, What::Message) && sent.session == session && is_whole
        };
        let own = |sent: &Sent| sent.to.as_deref().is_some_and(|to| bare(to) == account);
        for (number, sent) in self.model.sent.iter().enumerate().take(query) {
            if is_said(sent) && !own(sent) && page.iter().all(|(_, _, is)| *is != Some(number)) {
                return broken(Invariant::ArchiveKept, format!("{jid} has sent x{number} and does not find it"));
            }
        }
        Ok(())
    }

    /// Archives hold what was acknowledged once, and what one has said in its order.
    pub fn check_archives(&self) -> Check {
        for account in &self.plan.accounts {
            let stored = self.disk.archive(account);
            let numbers: Vec<usize> = stored.iter().filter_map(|(_, number)| *number).collect();
            let mut newest = std::collections::BTreeMap::new();
            for number in &numbers {
                let sent = &self.model.sent[*number];
                let times = numbers.iter().filter(|n| *n == number).count();
                if times > 1 && !sent.again {
                    return broken(Invariant::ArchiveKept, format!("{account} has x{number} {times} times"));
                }
                let before = newest.insert(sent.session, *number).unwrap_or(0);
                if before > *number && !sent.again && !self.model.sent[before].again {
                    return broken(Invariant::ArchiveKept, format!("{account} has x{number} behind x{before}"));
                }
            }
            for (number, sent) in self.model.sent.iter().enumerate() {
                let from = &self.model.sessions[sent.session].account;
                let to = sent.to.as_deref().map(bare).unwrap_or_default();
                let is_safe = matches!(sent.what, What::Message) && sent.counted && sent.is_kept && !sent.refused;
                let is_for = (from == account || to == account) && !self.model.ever_blocked(from, to);
                if is_safe && is_for && !sent.excused && !numbers.contains(&number) {
                    return broken(Invariant::ArchiveKept, format!("x{number} is not in the archive of {account}"));
                }
            }
        }
        Ok(())
    }
}
