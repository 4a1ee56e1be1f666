//! Slots for files (XEP-0363): what the server has promised to take, in a form that it recognises and nobody can make.
//!
//! The module that grants slots and the part of the shell that takes files share nothing but a key.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;

use crate::encoding::{percent_decoded, percent_encoded};

/// The folder of the site in which files are.
pub const FOLDER: &str = "/upload/";

/// The folder of the site in which Prosody has had them: what has moved in from there keeps its URL.
pub const MOVED_FOLDER: &str = "/file_share/";

/// Bytes of a file's name.
pub const NAME_BYTES_MAX: usize = 128;

const TYPE_BYTES_MAX: usize = 80;

/// Ids are as long as [`crate::clock::token`] makes them.
const ID_BYTES: usize = 24;

/// A slot for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Unguessable; the file's name on the disk.
    pub id: String,
    /// The name that its owner has given the file, tidy.
    pub name: String,
    /// Bytes of the file.
    pub size: u64,
    /// Its media type, tidy; empty where nothing was said.
    pub media_type: String,
    /// The account that it was granted to, by its bare address.
    pub owner: String,
    /// Until when it can be used, in seconds since 1970.
    pub expires_s: u64,
}

/// A file on the disk, as far as it matters to whom it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its id.
    pub id: String,
    /// The account that its slot was granted to.
    pub owner: String,
    /// When that was, in seconds since 1970.
    pub granted_s: u64,
}

/// How long a slot can be used (XEP-0363 section 6), in seconds.
pub const SLOT_S: u64 = 300;

impl Slot {
    /// Where the file will be, percent-encoded, with a slash at the start.
    pub fn path(&self) -> String {
        format!("{FOLDER}{}/{}", self.id, percent_encoded(&self.name, b""))
    }

    /// What proves that the slot was granted.
    pub fn token(&self, key: &[u8; 32]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), self.signed().as_bytes());
        let tag = BASE64_URL_SAFE_NO_PAD.encode(tag);
        let text = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let (media_type, owner) = (text(&self.media_type), text(&self.owner));
        format!("{}.{}.{media_type}.{owner}.{tag}", self.expires_s, self.size)
    }

    /// The slot of an id and a name, if that token was made for it.
    pub fn proved(id: &str, name: &str, token: &str, key: &[u8; 32]) -> Option<Self> {
        let mut parts = token.split('.');
        let number = |part: Option<&str>| part?.parse::<u64>().ok();
        let (expires_s, size) = (number(parts.next())?, number(parts.next())?);
        let text = |part: Option<&str>| BASE64_URL_SAFE_NO_PAD.decode(part?).ok();
        let media_type = String::from_utf8(text(parts.next())?).ok()?;
        let owner = String::from_utf8(text(parts.next())?).ok()?;
        let tag = text(parts.next())?;
        let slot = Self { id: id.to_owned(), name: name.to_owned(), size, media_type, owner, expires_s };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let is_ours = parts.next().is_none() && is_id(id);
        (is_ours && hmac::verify(&key, slot.signed().as_bytes(), &tag).is_ok()).then_some(slot)
    }

    /// To whom the file will belong.
    pub fn owned(&self) -> Owned {
        let granted_s = self.expires_s.saturating_sub(SLOT_S);
        Owned { id: self.id.clone(), owner: self.owner.clone(), granted_s }
    }

    /// No part of it can be taken for another: none holds a line's end.
    fn signed(&self) -> String {
        let Self { id, name, size, media_type, owner, expires_s } = self;
        format!("{id}\n{name}\n{size}\n{media_type}\n{owner}\n{expires_s}")
    }
}

/// True for what can be the id of a slot: nothing that a file system or a shell could misread.
pub fn is_id(id: &str) -> bool {
    id.len() == ID_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Id and name of a path in the folder of files, decoded.
pub fn read_path(path: &str) -> Option<(&str, String)> {
    let (id, encoded) = path.strip_prefix(FOLDER)?.split_once('/')?;
    let name = percent_decoded(encoded)?;
    (is_id(id) && tidy_name(&name).as_ref() == Some(&name)).then_some((id, name))
}

/// The id of a file that Prosody has had in that slot.
pub fn moved_id(slot: &str) -> String {
    // As ids of ours, it does not start with a dash.
    let mut id = String::from("M");
    id.push_str(&BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, slot.as_bytes())));
    id.truncate(ID_BYTES);
    id
}

/// Id and name of a file that somebody asks for.
pub fn asked(path: &str) -> Option<(String, String)> {
    let Some(moved) = path.strip_prefix(MOVED_FOLDER) else {
        return read_path(path).map(|(id, name)| (id.to_owned(), name));
    };
    let (slot, encoded) = moved.split_once('/')?;
    Some((moved_id(slot), tidy_name(&percent_decoded(encoded)?)?))
}

/// A file's name without what is none of a name: folders, control characters, what makes a text run the other way. One
/// that is too long loses its middle, so that its ending stays. None when nothing is left.
pub fn tidy_name(name: &str) -> Option<String> {
    let own = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_odd = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut own: String = own.chars().filter(|c| !is_odd(*c)).collect();
    own = own.trim().to_owned();
    if own.len() > NAME_BYTES_MAX {
        let ending =
            own.rfind('.').map(|at| own[at..].to_owned()).filter(|ending| ending.len() <= 16).unwrap_or_default();
        let mut end = NAME_BYTES_MAX - ending.len();
        while !own.is_char_boundary(end) {
            end -= 1;
        }
        own.truncate(end);
        own.push_str(&ending);
    }
    (!own.is_empty() && own != "." && own != "..").then_some(own)
}

/// A media type (RFC 9110 section 8.3.1) without its parameters, in lower case; empty when it is none.
pub fn tidy_type(text: &str) -> String {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    let is_type = essence.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    if is_type && essence.len() <= TYPE_BYTES_MAX { essence } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot {
            id: "abcdefghijklmnopqrstuv-_".to_owned(),
            name: "tr\u{e8}s cool.jpg".to_owned(),
            size: 23456,
            media_type: "image/jpeg".to_owned(),
            owner: "romeo@montague.example".to_owned(),
            expires_s: 1_000_000,
        }
    }

    #[test]
    fn a_slot_is_known_again_and_no_other_is() {
        let (slot, key) = (slot(), [7; 32]);
        assert_eq!(slot.path(), "/upload/abcdefghijklmnopqrstuv-_/tr%C3%A8s%20cool.jpg");
        let path = slot.path();
        let (id, name) = read_path(&path).unwrap();
        let token = slot.token(&key);
        assert_eq!(Slot::proved(id, &name, &token, &key), Some(slot.clone()));
        assert_eq!(Slot::proved(id, "other.jpg", &token, &key), None);
        assert_eq!(Slot::proved("bbcdefghijklmnopqrstuv-_", &name, &token, &key), None);
        assert_eq!(Slot::proved(id, &name, &token, &[8; 32]), None);
        assert_eq!(Slot::proved(id, &name, &token.replace("23456", "23457"), &key), None);
        assert_eq!(Slot::proved(id, &name, &token.replace("1000000", "2000000"), &key), None);
        let of_other = Slot { owner: "juliet@capulet.example".to_owned(), ..slot }.token(&[8; 32]);
        let forged = format!("{}.{}", of_other.rsplit_once('.').unwrap().0, token.rsplit_once('.').unwrap().1);
        for wrong in ["", "1.2", &format!("{token}."), &token[..token.len() - 1], &forged] {
            assert_eq!(Slot::proved(id, &name, wrong, &key), None, "{wrong}");
        }
    }

    #[test]
    fn paths_lead_nowhere_else() {
        for wrong in [
            "/upload/",
            "/upload/x/y",
            "/upload/abcdefghijklmnopqrstuv-_",
            "/upload/abcdefghijklmnopqrstuv-_/",
            "/upload/abcdefghijklmnopqrstuv-_/..",
            "/upload/abcdefghijklmnopqrstuv-_/%2e%2e",
            "/upload/abcdefghijklmnopqrstuv-_/a%2Fb",
            "/upload/abcdefghijklmnopqrstuv-_/a/b",
            "/upload/abcdefghijklmnopqrstuv-_/a%0",
            "/upload/abcdefghijklmnopqrstuv-_/a%00",
            "/upload/abcdefghijklmnopqrstuv-_/%ff",
            "/upload/../../../../etc/abc/d",
            "/upload/..cdefghijklmnopqrstuv-_/a",
        ] {
            assert_eq!(read_path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn files_of_prosody_keep_their_paths() {
        let (id, name) = asked("/file_share/0197c4b5-9d10-7000-8000-000000000001/a%20b.jpg").unwrap();
        assert!(is_id(&id) && name == "a b.jpg");
        assert_eq!(id, moved_id("0197c4b5-9d10-7000-8000-000000000001"));
        assert_ne!(id, moved_id("0197c4b5-9d10-7000-8000-000000000002"));
        assert_eq!(asked(&slot().path()), Some((slot().id, slot().name)));
        for wrong in
            ["/file_share/", "/file_share/x", "/file_share/x/", "/file_share/x/..", "/file_share/x/%ff", "/y/x/a"]
        {
            assert_eq!(asked(wrong), None, "{wrong}");
        }
        assert_eq!(read_path("/file_share/x/a"), None, "nothing is brought there");
    }

    #[test]
    fn names_and_types_become_tidy() {
        let name = |name: &str| tidy_name(name);
        assert_eq!(name("C:\\photos\\a.jpg").as_deref(), Some("a.jpg"));
        assert_eq!(name("../../a\n.jpg ").as_deref(), Some("a.jpg"));
        assert_eq!(name("gpj.\u{202e}exe").as_deref(), Some("gpj.exe"));
        assert_eq!([name(""), name("a/"), name(".."), name("\u{1}")], [None, None, None, None]);
        let long = name(&format!("{}.tar.gz", "\u{e4}".repeat(200))).unwrap();
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("\u{e4}.gz"), "{long}");
        assert_eq!(tidy_type("Image/JPEG; charset=x"), "image/jpeg");
        for wrong in ["", "image", "image/", "a b/c", "text/html\r\nX: y", "/x"] {
            assert_eq!(tidy_type(wrong), "", "{wrong}");
        }
    }
}
