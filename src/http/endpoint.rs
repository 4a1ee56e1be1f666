//! Endpoints of applications (UnifiedPush) as resources: push resources of RFC 8030 section 5, without storage.

use super::answer::{Answer, Status};
use crate::core::endpoints::{Delivery, FOLDER};

/// What lies in the folder of endpoints.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// An endpoint, or what looks like one.
    Endpoint,
    /// What was said to be a message's place (RFC 8030 section 5): nothing is kept of any.
    Message,
}

/// What a path is; none when it is not in the folder.
pub fn place(path: &str) -> Option<Place> {
    match path.strip_prefix(FOLDER)? {
        "" => Some(Place::Endpoint),
        name if name.starts_with("/message/") => Some(Place::Message),
        name => name.starts_with('/').then_some(Place::Endpoint),
    }
}

/// How applications find out that it is one.
pub fn discovery() -> Answer {
    Answer::text(Status::Ok, "application/json", "{\"unifiedpush\":{\"version\":1}}")
}

/// What came of what was brought; each of it has a name that nothing else has.
pub fn answer(delivery: Delivery, name: &str) -> Answer {
    match delivery {
        // Nothing is stored: RFC 8030 section 5.2.
        Delivery::Done => {
            Answer::empty(Status::Created).with("TTL", "0").with("Location", format!("{FOLDER}/message/{name}"))
        }
        Delivery::Gone => Answer::error(Status::NotFound),
        Delivery::Away => Answer::error(Status::Unavailable).with("Retry-After", "60"),
        Delivery::TooMany => Answer::error(Status::TooManyRequests).with("Retry-After", "60"),
        Delivery::Failed => Answer::error(Status::InternalError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_folder() {
        assert_eq!((place("/push"), place("/push/abc")), (Some(Place::Endpoint), Some(Place::Endpoint)));
        assert_eq!(place("/push/message/abc"), Some(Place::Message));
        assert_eq!((place("/pushy"), place("/")), (None, None));
    }
}
