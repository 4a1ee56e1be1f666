//! Answers (RFC 9110 section 15, RFC 9112 section 4), and what every one of them says for the safety of browsers.

use std::fmt::Write as _;

use crate::clock::civil;

macro_rules! statuses {
    ($( $(#[$doc:meta])* $name:ident $code:literal $reason:literal, )*) => {
        /// Status codes that are used (RFC 9110 section 15).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status { $( $(#[$doc])* $name, )* }

        impl Status {
            /// Three digits.
            pub fn code(self) -> u16 {
                match self { $( Self::$name => $code, )* }
            }

            /// The words behind them.
            pub fn reason(self) -> &'static str {
                match self { $( Self::$name => $reason, )* }
            }
        }
    };
}

statuses! {
    /// The connection speaks another protocol from here on.
    SwitchingProtocols 101 "Switching Protocols",
    /// It went well.
    Ok 200 "OK",
    /// It is stored.
    Created 201 "Created",
    /// It went well, and there is nothing to say.
    NoContent 204 "No Content",
    /// A part of it.
    PartialContent 206 "Partial Content",
    /// The client has it already.
    NotModified 304 "Not Modified",
    /// Not HTTP, or not what the resource understands.
    BadRequest 400 "Bad Request",
    /// Not for this client.
    Forbidden 403 "Forbidden",
    /// No such resource.
    NotFound 404 "Not Found",
    /// The resource does not do that.
    MethodNotAllowed 405 "Method Not Allowed",
    /// The request did not come in time.
    RequestTimeout 408 "Request Timeout",
    /// It is there already.
    Conflict 409 "Conflict",
    /// It was there.
    Gone 410 "Gone",
    /// A content without its length.
    LengthRequired 411 "Length Required",
    /// More content than is taken.
    ContentTooLarge 413 "Content Too Large",
    /// A target longer than any here.
    UriTooLong 414 "URI Too Long",
    /// A content of another type than the resource takes.
    UnsupportedMediaType 415 "Unsupported Media Type",
    /// No such part.
    RangeNotSatisfiable 416 "Range Not Satisfiable",
    /// Something is expected that cannot be met.
    ExpectationFailed 417 "Expectation Failed",
    /// Not for this host.
    MisdirectedRequest 421 "Misdirected Request",
    /// Another protocol, or version of one, is needed.
    UpgradeRequired 426 "Upgrade Required",
    /// Too many requests in too short a time.
    TooManyRequests 429 "Too Many Requests",
    /// Too many, or too long, fields.
    FieldsTooLarge 431 "Request Header Fields Too Large",
    /// Our own fault.
    InternalError 500 "Internal Server Error",
    /// No such method.
    NotImplemented 501 "Not Implemented",
    /// Not now.
    Unavailable 503 "Service Unavailable",
    /// Not that version.
    VersionNotSupported 505 "HTTP Version Not Supported",
    /// No room.
    InsufficientStorage 507 "Insufficient Storage",
}

/// What an answer carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Bytes(Vec<u8>),
    /// So many bytes, which follow.
    Later(u64),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub status: Status,
    /// Beside those that every answer has. Values hold no control characters.
    pub fields: Vec<(&'static str, String)>,
    /// What it carries.
    pub content: Content,
}

impl Answer {
    /// An answer without content.
    pub fn empty(status: Status) -> Self {
        Self { status, fields: Vec::new(), content: Content::Bytes(Vec::new()) }
    }

    /// An answer with a text of that media type.
    pub fn text(status: Status, media_type: &str, text: impl Into<Vec<u8>>) -> Self {
        Self { content: Content::Bytes(text.into()), ..Self::empty(status) }.with("Content-Type", media_type)
    }

    /// An error with a word for whoever looks at it.
    pub fn error(status: Status) -> Self {
        Self::text(status, "text/plain; charset=utf-8", format!("{} {}\n", status.code(), status.reason()))
    }

    /// With another field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// Writes the head, and the content as far as it is there; a request for the head alone gets no content.
    pub fn write(&self, wall_ms: i64, head_only: bool, keeps: bool, out: &mut Vec<u8>) {
        let mut head =
            format!("HTTP/1.1 {} {}\r\nDate: {}\r\n", self.status.code(), self.status.reason(), date(wall_ms));
        for (name, value) in &self.fields {
            // Writing to a String cannot fail, here and below.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Later(length) => *length,
        };
        match self.status {
            // RFC 9110 section 8.6: none here.
            Status::SwitchingProtocols | Status::NoContent | Status::NotModified => {}
            _ => _ = write!(head, "Content-Length: {length}\r\n"),
        }
        if self.status != Status::SwitchingProtocols {
            // Nothing that is served here is a page with parts, unless it says so.
            for (name, value) in [
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
                ("Referrer-Policy", "no-referrer"),
            ] {
                if !self.has(name) {
                    let _ = write!(head, "{name}: {value}\r\n");
                }
            }
            if !keeps {
                head.push_str("Connection: close\r\n");
            }
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if let Content::Bytes(bytes) = &self.content
            && !head_only
        {
            out.extend_from_slice(bytes);
        }
    }
}

/// RFC 9110 section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let name = DAYS.get(days.rem_euclid(7) as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    format!("{name}, {day:02} {month} {year:04} {:02}:{:02}:{:02} GMT", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_their_form() {
        assert_eq!(date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_399_999), "Mon, 28 Feb 2000 23:59:59 GMT");
    }

    #[test]
    fn answers_say_how_long_they_are() {
        let written = |answer: &Answer, head_only, keeps| {
            let mut out = Vec::new();
            answer.write(0, head_only, keeps, &mut out);
            String::from_utf8(out).unwrap()
        };
        let answer = Answer::text(Status::Ok, "text/plain", "abc").with("Vary", "Origin");
        let whole = written(&answer, false, true);
        assert!(
            whole.starts_with("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain")
        );
        assert!(whole.contains("\r\nVary: Origin\r\n") && whole.contains("\r\nContent-Length: 3\r\n"), "{whole}");
        assert!(whole.contains("nosniff") && whole.ends_with("\r\n\r\nabc") && !whole.contains("close"), "{whole}");
        let head = written(&answer, true, false);
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("Connection: close\r\n\r\n"), "{head}");
        let switch = written(&Answer::empty(Status::SwitchingProtocols), false, true);
        assert!(!switch.contains("Content-"), "{switch}");
        assert!(!written(&Answer::empty(Status::NoContent), false, true).contains("Content-Length"));
    }
}
