//! Accounts by a page: what a form asks for is asked of the engine in the words of a client that has not logged in
//! (XEP-0077, XEP-0445), so that there is one set of rules and limits.

use zeroize::Zeroizing;

use super::answer::Status;
use super::framing::{Piece, split};
use crate::stanza::{IqType, Kind, Stanza};
use crate::stream::HEADER;
use crate::xml::{Builder, ElementRef, ns, parse, write_attribute};

/// What somebody has filled in.
pub struct Entry {
    /// As typed; not looked at where the invitation names one.
    pub user: String,
    /// As typed.
    pub password: Zeroizing<String>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a form to be filled in; the invitation may be for one username.
    Form {
        /// That one.
        user: Option<String>,
    },
    /// The account has that password now.
    Done {
        /// Its username.
        user: String,
    },
    /// It was refused.
    Refused {
        /// What that is in HTTP.
        status: Status,
        /// Why, in English.
        why: String,
        /// Another try may go well: the form is shown again, for that username.
        again: Option<Option<String>>,
    },
}

/// What the answer to the request under way is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Features,
    Token,
    Form,
    Account,
}

/// One visit.
pub struct Clerk {
    host: String,
    token: String,
    entry: Option<Entry>,
    step: Step,
    fixed: Option<String>,
}

impl Clerk {
    /// Somebody looks at the page of a token, or of none, or has filled in its form.
    pub fn new(host: &str, token: &str, entry: Option<Entry>) -> Self {
        Self { host: host.to_owned(), token: token.to_owned(), entry, step: Step::Features, fixed: None }
    }

    /// The first words to the engine.
    pub fn open(&self) -> Vec<u8> {
        let mut out = HEADER.as_bytes().to_vec();
        write_attribute("to", &self.host, &mut out);
        out.extend_from_slice(b" version='1.0'>");
        out
    }

    /// The engine has said something, in whole frames. Adds what is to be said to it; gives what came of the visit,
    /// once.
    pub fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        let mut outcome = None;
        split(bytes, |piece| {
            if outcome.is_some() {
                return;
            }
            outcome = match piece {
                Piece::Header(_) => None,
                Piece::Element(bytes, _) => {
                    let element = std::str::from_utf8(&bytes).ok().and_then(|text| parse(text).ok());
                    element.map_or_else(|| Some(out_of_order()), |element| self.element(element.root(), out))
                }
                Piece::End => Some(out_of_order()),
            };
        });
        outcome
    }

    fn element(&mut self, root: ElementRef<'_>, out: &mut Vec<u8>) -> Option<Outcome> {
        let is_ok = root.is(ns::CLIENT, "iq") && root.attr("type") == Some("result");
        match self.step {
            Step::Features if root.is(ns::STREAM, "features") => {
                match self.token.is_empty() {
                    true => self.ask_for_form(out),
                    false => {
                        let token = self.token.clone();
                        let preauth =
                            |b: &mut Builder| _ = b.open(ns::PRE_AUTHENTICATION, "preauth").attr("token", &token);
                        self.ask(Step::Token, IqType::Set, preauth, out);
                    }
                }
                None
            }
            Step::Token if is_ok => {
                self.ask_for_form(out);
                None
            }
            Step::Form if is_ok => {
                let query = root.child(ns::REGISTER, "query");
                let Some(user) = query.and_then(|query| query.child(ns::REGISTER, "username")) else {
                    // XEP-0077 section 5: there is no way here.
                    return Some(refused(Status::Forbidden, "Accounts of this server are made by invitation."));
                };
                self.fixed = Some(user.text()).filter(|user| !user.is_empty());
                let Some(entry) = &self.entry else { return Some(Outcome::Form { user: self.fixed.clone() }) };
                let user = self.fixed.clone().unwrap_or_else(|| entry.user.clone());
                let password = entry.password.clone();
                let query = |b: &mut Builder| {
                    b.open(ns::REGISTER, "query");
                    b.leaf(ns::REGISTER, "username", &user).leaf(ns::REGISTER, "password", &password);
                };
                self.ask(Step::Account, IqType::Set, query, out);
                None
            }
            Step::Account if is_ok => {
                let typed = self.entry.as_ref().map(|entry| entry.user.clone());
                Some(Outcome::Done { user: self.fixed.clone().or(typed).unwrap_or_default() })
            }
            _ if root.is(ns::CLIENT, "iq") => Some(self.error(root)),
            _ => Some(out_of_order()),
        }
    }

    fn ask_for_form(&mut self, out: &mut Vec<u8>) {
        self.ask(Step::Form, IqType::Get, |b| _ = b.open(ns::REGISTER, "query"), out);
    }

    fn ask(&mut self, step: Step, kind: IqType, build: impl FnOnce(&mut Builder), out: &mut Vec<u8>) {
        self.step = step;
        let stanza = Stanza::build(Kind::Iq(kind), |b| {
            build(b);
            b.close();
        });
        out.extend_from_slice(stanza.with_id("page").to_xml().as_bytes());
    }

    /// The engine's reason, in its words.
    fn error(&self, root: ElementRef<'_>) -> Outcome {
        let error = root.child(ns::CLIENT, "error");
        let has = |name| error.is_some_and(|error| error.has_child(ns::STANZA_ERROR, name));
        let text = error.and_then(|error| error.child(ns::STANZA_ERROR, "text")).map(|text| text.text());
        let status = match self.step {
            _ if has("conflict") => Status::Conflict,
            _ if error.and_then(|error| error.attr("type")) == Some("wait") => Status::Unavailable,
            _ if has("item-not-found") => Status::Gone,
            // Where no invitation is open, nothing is known of them.
            Step::Token => Status::Gone,
            Step::Form | Step::Features => Status::Forbidden,
            Step::Account if has("not-acceptable") || has("bad-request") => Status::BadRequest,
            Step::Account => Status::Forbidden,
        };
        let may_try = self.step == Step::Account && matches!(status, Status::Conflict | Status::BadRequest);
        let why = match status {
            Status::Gone => "This invitation has been used up, taken back or is too old.".to_string(),
            _ => text.unwrap_or_else(|| "This server does not make accounts.".to_string()),
        };
        Outcome::Refused { status, why, again: may_try.then(|| self.fixed.clone()) }
    }
}

fn refused(status: Status, why: &str) -> Outcome {
    Outcome::Refused { status, why: why.to_string(), again: None }
}

/// The engine has ended the stream, as when too many come.
pub fn out_of_order() -> Outcome {
    refused(Status::Unavailable, "The server cannot do that now. Try again in a minute.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
                          xmlns:stream='http://etherx.jabber.org/streams' id='1' from='localhost' version='1.0'>";
    const FORM: &str =
        "<iq type='result' id='page'><query xmlns='jabber:iq:register'><username/><password/></query></iq>";

    /// Says the lines to a clerk, one at a time, and gives its questions and what came of it.
    fn visit(token: &str, user: Option<&str>, lines: &[&str]) -> (Vec<String>, Option<Outcome>) {
        let entry = user.map(|user| Entry { user: user.to_string(), password: "x<y".to_string().into() });
        let mut clerk = Clerk::new("localhost", token, entry);
        let mut asked = vec![String::from_utf8(clerk.open()).unwrap()];
        for line in lines {
            let mut out = Vec::new();
            let outcome = clerk.hear(line.as_bytes(), &mut out);
            asked.extend((!out.is_empty()).then(|| String::from_utf8(out).unwrap()));
            if outcome.is_some() {
                return (asked, outcome);
            }
        }
        (asked, None)
    }

    #[test]
    fn a_visit_with_a_token_asks_three_times() {
        let done = "<iq type='result' id='page'/>";
        let (asked, outcome) = visit("t&1", Some("romeo"), &[OPENED, "<stream:features/>", done, FORM, done]);
        assert_eq!(outcome, Some(Outcome::Done { user: "romeo".to_string() }));
        assert!(asked[0].contains(" to='localhost'"), "{}", asked[0]);
        assert!(asked[1].contains("token='t&amp;1'") && asked[2].contains("type='get'"), "{asked:?}");
        assert!(asked[3].contains("<username>romeo</username><password>x&lt;y</password>"), "{asked:?}");
        let (asked, outcome) = visit("", None, &[OPENED, "<stream:features/>", FORM]);
        assert_eq!((asked.len(), outcome), (2, Some(Outcome::Form { user: None })));
    }

    #[test]
    fn refusals_have_their_status() {
        let error = |kind: &str, condition: &str| {
            format!(
                "<iq type='error' id='page'><error type='{kind}'><{condition} \
                 xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            )
        };
        let features = "<stream:features/>";
        let status = |lines: &[&str]| match visit("t", Some("romeo"), lines).1 {
            Some(Outcome::Refused { status, again, .. }) => (status, again.is_some()),
            other => panic!("{other:?}"),
        };
        let (ok, gone) = ("<iq type='result' id='page'/>", error("cancel", "item-not-found"));
        assert_eq!(status(&[OPENED, features, &gone]), (Status::Gone, false));
        let taken = error("cancel", "conflict");
        assert_eq!(status(&[OPENED, features, ok, FORM, &taken]), (Status::Conflict, true));
        let bad = error("modify", "not-acceptable");
        assert_eq!(status(&[OPENED, features, ok, FORM, &bad]), (Status::BadRequest, true));
        let busy = error("wait", "resource-constraint");
        assert_eq!(status(&[OPENED, features, ok, FORM, &busy]), (Status::Unavailable, false));
        let closed = "<iq type='result' id='page'><query xmlns='jabber:iq:register'><instructions/></query></iq>";
        assert_eq!(status(&[OPENED, features, ok, closed]), (Status::Forbidden, false));
        assert_eq!(status(&[OPENED, "</stream:stream>"]), (Status::Unavailable, false));
    }
}
