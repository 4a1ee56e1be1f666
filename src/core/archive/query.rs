//! What somebody asks of an archive: the form of filters and the page (XEP-0313 section 4).

use super::Id;
use crate::clock::datetime_ms;
use crate::jid::Jid;
use crate::stanza::{Condition, Stanza, StanzaError, form, rsm};
use crate::xml::{Element, ElementRef, ns};

/// Who reads, and from what.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Whose archive.
    pub owner: &'a Jid,
    /// It is a room's.
    pub is_room: bool,
    /// Of a room: the reader may know who has said what.
    pub sees_addresses: bool,
    /// Messages of a page at most.
    pub page_max: u32,
    /// Bytes of a page at most, but for its first message.
    pub page_bytes_max: u32,
}

/// A page that is asked for, and how far it has been looked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// Whose archive.
    pub owner: String,
    /// It is a room's.
    pub(super) is_room: bool,
    pub(super) sees_addresses: bool,
    pub(super) queryid: Option<String>,
    /// The set of messages: those from the one to those before the other.
    pub(super) set: (Id, Id),
    /// The same of the page.
    pub(super) bounds: (Id, Id),
    /// Messages that are named, which must be there, and what for. Who reads the page finds and [places](Self::place)
    /// them first.
    pub(super) named: Vec<(Use, String)>,
    /// Only these, in order.
    pub(super) ids: Option<Vec<Id>>,
    pub(super) with: Option<With>,
    /// The page is at the end of its bounds.
    pub(super) back: bool,
    /// The last message is sent first.
    pub(super) flip: bool,
    pub(super) max: usize,
    pub(super) bytes_max: usize,
    /// The last row that was looked at, where none was found yet.
    pub(super) cursor: Option<Id>,
}

/// What a message is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The set begins behind it.
    SetAfter,
    /// The set ends before it.
    SetBefore,
    /// The page begins behind it.
    PageAfter,
    /// The page ends before it.
    PageBefore,
    /// It is wanted.
    Wanted,
}

/// An address by which messages are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct With {
    pub full: String,
    pub bare: String,
}

impl With {
    /// It has no resource, and all of them are meant.
    pub fn is_bare(&self) -> bool {
        self.full == self.bare
    }
}

/// The fields of the form, with their types (section 4.1.5).
const FIELDS: [(&str, &str); 7] = [
    ("with", "jid-single"),
    ("start", "text-single"),
    ("end", "text-single"),
    ("before-id", "text-single"),
    ("after-id", "text-single"),
    ("ids", "list-multi"),
    ("include-groupchat", "boolean"),
];

/// The form of all filters.
pub fn form() -> Element {
    let mut b = crate::xml::Builder::new(ns::MAM, "query");
    form::open(&mut b, "form", ns::MAM);
    for (name, kind) in FIELDS {
        b.open(ns::DATA, "field").attr("var", name).attr("type", kind);
        if name == "ids" {
            // Any value can be given, and no list of them is offered.
            b.open(ns::VALIDATE, "validate").attr("datatype", "xs:string").open(ns::VALIDATE, "open").close().close();
        }
        b.close();
    }
    b.finish()
}

impl Query {
    /// Reads a request.
    ///
    /// # Errors
    /// `bad-request` for a form that is wrong, `feature-not-implemented` for a field or a kind of page that is not
    /// known, `forbidden` for a filter by what the reader may not know.
    pub fn read(request: &Stanza, reading: Reading<'_>) -> Result<Self, StanzaError> {
        let query = request.request().ok_or(Condition::BadRequest)?;
        let mut read = Self {
            owner: reading.owner.as_str().to_owned(),
            is_room: reading.is_room,
            sees_addresses: reading.sees_addresses,
            queryid: query.attr("queryid").map(str::to_owned),
            set: (Id::default(), Id::END),
            bounds: (Id::default(), Id::END),
            named: Vec::new(),
            ids: None,
            with: None,
            back: false,
            flip: query.has_child(ns::MAM, "flip-page"),
            max: reading.page_max as usize,
            bytes_max: reading.page_bytes_max as usize,
            cursor: None,
        };
        if let Some(x) = query.child(ns::DATA, "x") {
            read.read_form(x, reading)?;
        }
        if let Some(wish) = rsm::Wish::read(query)? {
            read.read_page(&wish)?;
        }
        Ok(read)
    }

    fn read_form(&mut self, x: ElementRef<'_>, reading: Reading<'_>) -> Result<(), StanzaError> {
        for (name, values) in form::read(x, ns::MAM)? {
            if name == "ids" {
                self.ids.get_or_insert_default();
                self.named.extend(values.into_iter().map(|id| (Use::Wanted, id)));
                if self.named.len() > 10 * self.max {
                    return Err(Condition::NotAcceptable.because("Too many ids are asked for at once."));
                }
                continue;
            }
            let value = match values.as_slice() {
                [] => continue,
                [value] if value.is_empty() => continue,
                [value] => value,
                _ => return Err(Condition::BadRequest.because("A field has more than one value.")),
            };
            let time = || {
                let ms = datetime_ms(value).and_then(|ms| u64::try_from(ms.max(0)).ok());
                ms.ok_or_else(|| Condition::BadRequest.because("A time is not one of XEP-0082."))
            };
            match name.as_str() {
                "with" => {
                    let with = Jid::parse(value).map_err(|_| Condition::BadRequest.because("No address is given."))?;
                    if self.is_room && !with.same_bare(reading.owner) && !reading.sees_addresses {
                        return Err(Condition::Forbidden.because("Who is who in this room is not for everybody."));
                    }
                    self.with = Some(With { full: with.as_str().to_owned(), bare: with.bare_str().to_owned() });
                }
                "start" => self.set.0 = self.set.0.max(Id::at(time()?)),
                "end" => self.set.1 = self.set.1.min(Id::at(time()?.saturating_add(1))),
                "after-id" => self.named.push((Use::SetAfter, value.clone())),
                "before-id" => self.named.push((Use::SetBefore, value.clone())),
                // There is none in the archives of accounts, and nothing else in those of rooms.
                "include-groupchat" => {
                    form::boolean(&values).ok_or(Condition::BadRequest)?;
                }
                _ => return Err(Condition::FeatureNotImplemented.because("A field of the form is not known.")),
            }
        }
        Ok(())
    }

    fn read_page(&mut self, wish: &rsm::Wish) -> Result<(), StanzaError> {
        if wish.is_by_index() {
            return Err(Condition::FeatureNotImplemented.because("Pages are not found by index."));
        }
        self.max = self.max.min(wish.max().unwrap_or(usize::MAX));
        if let Some(after) = wish.after() {
            self.named.push((Use::PageAfter, after.to_owned()));
        }
        if let Some(before) = wish.before() {
            self.back = true;
            if !before.is_empty() {
                self.named.push((Use::PageBefore, before.to_owned()));
            }
        }
        Ok(())
    }

    /// A message that is named is there.
    pub(super) fn place(&mut self, at: Use, id: Id) {
        let (set, bounds) = (&mut self.set, &mut self.bounds);
        match at {
            Use::SetAfter => set.0 = set.0.max(id.following()),
            Use::SetBefore => set.1 = set.1.min(id),
            Use::PageAfter => bounds.0 = bounds.0.max(id.following()),
            Use::PageBefore => bounds.1 = bounds.1.min(id),
            Use::Wanted => {
                let ids = self.ids.get_or_insert_default();
                if let Err(place) = ids.binary_search(&id) {
                    ids.insert(place, id);
                }
            }
        }
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        let texts = self.owner.len() + self.queryid.as_ref().map_or(0, String::len);
        let named = self.named.iter().map(|(at, text)| size_of_val(at) + size_of::<String>() + text.len());
        let ids = self.ids.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + texts + ids * size_of::<Id>() + named.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Result<Query, Condition> {
        let xml =
            format!("<iq xmlns='jabber:client' type='set' id='a'><query xmlns='{}'>{inner}</query></iq>", ns::MAM);
        let request = Stanza::parse(&xml).unwrap();
        let owner = Jid::parse("romeo@example.org").unwrap();
        let reading =
            Reading { owner: &owner, is_room: false, sees_addresses: false, page_max: 50, page_bytes_max: 1000 };
        Query::read(&request, reading).map_err(|e| e.condition)
    }

    fn form(fields: &[(&str, &str)]) -> String {
        let field = |(var, value): &(&str, &str)| format!("<field var='{var}'><value>{value}</value></field>");
        let fields: String = fields.iter().map(field).collect();
        let kind = format!("<field var='FORM_TYPE'><value>{}</value></field>", ns::MAM);
        format!("<x xmlns='jabber:x:data' type='submit'>{kind}{fields}</x>")
    }

    #[test]
    fn filters_narrow_the_set_and_the_page_narrows_its_bounds() {
        let (a, b) = (Id::at(1000), Id::at(9000));
        let all = form(&[
            ("start", "1970-01-01T00:00:02Z"),
            ("end", "1970-01-01T00:00:08.5Z"),
            ("after-id", &a.to_string()),
            ("before-id", &b.to_string()),
            ("include-groupchat", "false"),
            ("with", "juliet@example.org"),
        ]);
        let mut query = read(&all).unwrap();
        assert_eq!((query.set, query.max), ((Id::at(2000), Id::at(8501)), 50));
        let named = std::mem::take(&mut query.named);
        assert_eq!(named, [(Use::SetAfter, a.to_string()), (Use::SetBefore, b.to_string())]);
        query.place(Use::SetAfter, Id::at(3000));
        query.place(Use::SetBefore, b);
        assert_eq!(query.set, (Id::at(3000).following(), Id::at(8501)));
        let query = read("<set xmlns='http://jabber.org/protocol/rsm'><max>7</max><before/></set>").unwrap();
        assert_eq!((query.max, query.back, query.bounds), (7, true, (Id::default(), Id::END)));
        let after = format!("<set xmlns='{}'><max>70</max><after>{a}</after></set><flip-page/>", ns::RSM);
        let mut query = read(&after).unwrap();
        assert_eq!((query.max, query.flip, query.named.as_slice()), (50, true, &[(Use::PageAfter, a.to_string())][..]));
        query.place(Use::PageAfter, a);
        query.place(Use::PageBefore, b);
        assert_eq!(query.bounds, (a.following(), b));
        let mut query = read(&form(&[("ids", "x")])).unwrap();
        assert_eq!((query.ids.as_deref(), query.named.as_slice()), (Some(&[][..]), &[(Use::Wanted, "x".into())][..]));
        [b, a, b].into_iter().for_each(|id| query.place(Use::Wanted, id));
        assert_eq!(query.ids, Some(vec![a, b]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(read(&form(&[("start", "yesterday")])).unwrap_err(), Condition::BadRequest);
        assert_eq!(read(&form(&[("with", "@")])).unwrap_err(), Condition::BadRequest);
        assert_eq!(read(&form(&[("include-groupchat", "perhaps")])).unwrap_err(), Condition::BadRequest);
        assert_eq!(read(&form(&[("full-text", "x")])).unwrap_err(), Condition::FeatureNotImplemented);
        assert_eq!(read("<x xmlns='jabber:x:data' type='submit'/>").unwrap_err(), Condition::BadRequest);
        let index = format!("<set xmlns='{}'><index>3</index></set>", ns::RSM);
        assert_eq!(read(&index).unwrap_err(), Condition::FeatureNotImplemented);
    }
}
