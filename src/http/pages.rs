//! Pages that other parts of the program put up and take down while the server runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::answer::{Answer, Status};

/// A small resource that is served as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub media_type: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Page {
    /// A page of plain text.
    pub fn text(content: impl Into<Vec<u8>>) -> Self {
        Self { media_type: "text/plain; charset=utf-8".to_owned(), content: content.into() }
    }

    /// The answer with it.
    pub fn answer(&self) -> Answer {
        Answer::text(Status::Ok, &self.media_type, self.content.clone()).with("Cache-Control", "no-store")
    }
}

/// Pages by their path, such as `/.well-known/acme-challenge/TOKEN`, on every host and every HTTP port. Cheap to clone:
/// all clones are of the same pages. Who puts pages up bounds how many there are.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    all: Rc<RefCell<BTreeMap<String, Page>>>,
}

impl Pages {
    /// Puts a page up, in place of one that is there.
    pub fn put(&self, path: impl Into<String>, page: Page) {
        self.all.borrow_mut().insert(path.into(), page);
    }

    /// Takes a page down.
    pub fn remove(&self, path: &str) {
        self.all.borrow_mut().remove(path);
    }

    /// The page at a path.
    pub fn get(&self, path: &str) -> Option<Page> {
        self.all.borrow().get(path).cloned()
    }
}
