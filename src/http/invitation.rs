//! The page of an invitation: a link and a code for applications, and a form for those who have none yet. Plain HTML
//! without scripts; what it may load and where its form goes is fixed by its policy.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcodegen::{QrCode, QrCodeEcc};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::answer::{Answer, Status};
use super::clerk::{Entry, Outcome};
use super::head::Head;
use crate::core::invites::registration_uri;
use crate::encoding::percent_decoded;

/// Where it is, as in Prosody: `/invite?TOKEN`. Without a token it is for those who may register without one.
pub const PATH: &str = "/invite";

/// Bytes of a form that is filled in.
pub const FORM_BYTES_MAX: u64 = 4096;

const STYLE: &str = "body{font-family:sans-serif;line-height:1.5;max-width:26em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}a.app,button{display:block;width:100%;box-sizing:border-box;padding:.7em;margin:1em 0;\
border:0;border-radius:.4em;background:#1b5e9c;color:#fff;font-size:1em;text-align:center;text-decoration:none}\
input{display:block;width:100%;box-sizing:border-box;padding:.6em;margin:.2em 0 1em;border:1px solid #888;\
border-radius:.4em;font-size:1em}svg{display:block;width:60%;margin:1em auto}.no{color:#a00}.host{color:#666}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.host{color:#999}.no{color:#f77}}";

/// What somebody has sent.
pub struct Filled {
    /// The token, or none.
    pub token: String,
    /// What he wants; or what is to be mended.
    pub entry: Result<Entry, &'static str>,
}

/// The token that a request names: all of the query, as Prosody's pages have it.
pub fn token(head: &Head) -> String {
    decoded(&head.query).unwrap_or_default()
}

/// Whether a form that was sent comes from this very site (RFC 6454 section 7.2): another's has no business here.
pub fn is_own(head: &Head, url: &str) -> bool {
    let site = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/").to_ascii_lowercase();
    match head.field("origin") {
        None => head.field("sec-fetch-site").is_none_or(|from| matches!(from, "same-origin" | "none")),
        // The name that was asked for stands in for an address that only a proxy knows.
        Some(origin) => site(origin) == site(url) || site(origin).split("//").nth(1).map(name) == Some(&*head.host),
    }
}

fn name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// Reads a form.
///
/// # Errors
/// What it is when it is no form of this page.
pub fn filled(head: &Head, content: &[u8]) -> Result<Filled, (Status, &'static str)> {
    let is_form = |kind: &str| kind.split(';').next().map(str::trim) == Some("application/x-www-form-urlencoded");
    if !head.field("content-type").is_some_and(is_form) {
        return Err((Status::UnsupportedMediaType, "This page takes forms."));
    }
    let (mut token, mut user) = (String::new(), String::new());
    let (mut password, mut again) = (Zeroizing::new(String::new()), Zeroizing::new(String::new()));
    let text = std::str::from_utf8(content).map_err(|_| (Status::BadRequest, "This is not text."))?;
    for pair in text.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or((Status::BadRequest, "This is not text."))?;
        match key {
            "token" => token = value,
            "user" => user = value,
            "password" => *password = value,
            "again" => *again = value,
            _ => {}
        }
    }
    // Some type their whole address.
    let user = user.split('@').next().unwrap_or_default().trim().to_string();
    let entry = match () {
        () if password.is_empty() => Err("Choose a password."),
        () if *password != *again => Err("The two passwords are not the same."),
        () => Ok(Entry { user, password }),
    };
    Ok(Filled { token, entry })
}

/// A value of `application/x-www-form-urlencoded`.
fn decoded(value: &str) -> Option<String> {
    // It may be a password.
    percent_decoded(&Zeroizing::new(value.replace('+', " ")))
}

/// The page that says what came of a visit.
pub fn page(host: &str, token: &str, outcome: &Outcome) -> Answer {
    let mut body = String::new();
    let status = match outcome {
        Outcome::Form { user } => {
            form(&mut body, host, token, user.as_deref(), None);
            Status::Ok
        }
        Outcome::Refused { status, why, again: Some(user) } => {
            form(&mut body, host, token, user.as_deref(), Some(why));
            *status
        }
        Outcome::Refused { status, why, again: None } => {
            let _ = write!(body, "<h1>Sorry</h1><p class=\"no\">{}</p>", escaped(why));
            *status
        }
        Outcome::Done { user } => {
            let _ = write!(
                body,
                "<h1>Welcome</h1><p>Your address is <strong>{}@{}</strong>. Log in with it, and with the password that \
                 you have just chosen, in any XMPP application.</p>",
                escaped(user),
                escaped(host)
            );
            Status::Ok
        }
    };
    answer(status, host, &body)
}

/// A page that says no.
pub fn refusal(status: Status, host: &str, why: &str) -> Answer {
    page(host, "", &Outcome::Refused { status, why: why.to_string(), again: None })
}

fn answer(status: Status, host: &str, body: &str) -> Answer {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{0}</title><style>{STYLE}</style></head>\
         <body><p class=\"host\">{0}</p>{body}</body></html>\n",
        escaped(host)
    );
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    Answer::text(status, "text/html; charset=utf-8", html)
        .with("Content-Security-Policy", policy)
        .with("Cache-Control", "no-store")
}

fn form(body: &mut String, host: &str, token: &str, user: Option<&str>, wrong: Option<&str>) {
    let _ = match user {
        None => write!(body, "<h1>You are invited to chat</h1>"),
        Some(user) => write!(body, "<h1>Choose a password for {}@{}</h1>", escaped(user), escaped(host)),
    };
    if let Some(why) = wrong {
        let _ = write!(body, "<p class=\"no\">{}</p>", escaped(why));
    }
    if !token.is_empty() {
        let uri = registration_uri(host, user, token);
        let _ = write!(body, "<p>With an XMPP application on this device:</p>");
        let _ = write!(body, "<a class=\"app\" href=\"{}\">Open the application</a>", escaped(&uri));
        if let Ok(code) = QrCode::encode_text(&uri, QrCodeEcc::Low) {
            body.push_str("<p>On another device, scan this:</p>");
            drawing(body, &code);
        }
        body.push_str("<p>Or make the account here, and log in with any application:</p>");
    }
    let _ = write!(body, "<form method=\"post\" action=\"{PATH}\">");
    let _ = write!(body, "<input type=\"hidden\" name=\"token\" value=\"{}\">", escaped(token));
    if user.is_none() {
        body.push_str(
            "<label>Username <input name=\"user\" required autocomplete=\"username\" autocapitalize=\"none\" \
             spellcheck=\"false\"></label>",
        );
    }
    for (name, label) in [("password", "Password"), ("again", "The password once more")] {
        let _ = write!(
            body,
            "<label>{label} <input type=\"password\" name=\"{name}\" required autocomplete=\"new-password\"></label>"
        );
    }
    body.push_str("<button>Go</button></form>");
}

/// The code as a drawing: dark on white whatever the colours of the page are, with a margin of four modules.
fn drawing(body: &mut String, code: &QrCode) {
    let size = code.size();
    let _ = write!(
        body,
        "<svg viewBox=\"-4 -4 {0} {0}\" role=\"img\" aria-label=\"The invitation as a QR code\">\
         <rect x=\"-4\" y=\"-4\" width=\"{0}\" height=\"{0}\" fill=\"#fff\"/><path fill=\"#000\" d=\"",
        size + 8
    );
    for y in 0..size {
        for x in (0..size).filter(|x| code.get_module(*x, y)) {
            let _ = write!(body, "M{x} {y}h1v1h-1z");
        }
    }
    body.push_str("\"/></svg>");
}

/// A text in HTML, also between quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::answer::Content;
    use super::*;

    fn head(lines: &str) -> Head {
        let text = format!("POST /invite HTTP/1.1\r\nHost: chat.example\r\n{lines}\r\n\r\n");
        super::super::head::read(text.as_bytes()).unwrap().unwrap().0
    }

    const FORM: &str = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8";

    #[test]
    fn a_form_is_read_as_browsers_write_it() {
        let form = head(FORM);
        let filled = filled(&form, b"token=a%26b&user=+Romeo%40chat.example&password=p%C3%A4+%2B&again=p%C3%A4+%2B");
        let Ok(Filled { token, entry: Ok(entry) }) = filled else { panic!("refused") };
        assert_eq!((&*token, &*entry.user, &**entry.password), ("a&b", "Romeo", "pä +"));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let refused = |lines: &str, content: &[u8]| filled(&head(lines), content).err().map(|e| e.0);
        assert_eq!(refused("", b"password=x&again=x"), Some(Status::UnsupportedMediaType));
        for content in [&b"user=%ff&password=x&again=x"[..], b"user=%4&password=x&again=x", b"user=a\xff&password=x"] {
            assert_eq!(refused(FORM, content), Some(Status::BadRequest), "{content:?}");
        }
    }

    #[test]
    fn what_is_to_be_mended_keeps_its_token() {
        for content in [&b"token=t&user=a&password=x&again=y"[..], b"token=t&user=a&password=&again=", b"token=t"] {
            let Ok(Filled { token, entry: Err(_) }) = filled(&head(FORM), content) else { panic!("{content:?}") };
            assert_eq!(token, "t");
        }
    }

    #[test]
    fn forms_of_other_sites_are_not_taken() {
        let own = |lines: &str| is_own(&head(lines), "https://chat.example:5281/");
        assert!(own("X: y") && own("Origin: https://chat.example:5281") && own("Origin: https://chat.example"));
        assert!(own("Sec-Fetch-Site: same-origin") && !own("Sec-Fetch-Site: cross-site"));
        assert!(!own("Origin: https://chat.example.evil.example") && !own("Origin: null"));
    }

    #[test]
    fn nothing_that_was_sent_becomes_a_part_of_the_page() {
        let why = "<script>\"'&".to_string();
        let outcome = Outcome::Refused { status: Status::Conflict, why, again: Some(Some("<b>".to_string())) };
        let answer = page("h<ost", "t\"><i>", &outcome);
        let Content::Bytes(html) = &answer.content else { panic!("no content") };
        let html = String::from_utf8_lossy(html);
        for tag in ["<script", "<i>", "<b>", "h<ost"] {
            assert!(!html.contains(tag), "{tag}: {html}");
        }
        assert!(html.contains("xmpp:%3Cb%3E@h%3Cost?register;preauth=t%22%3E%3Ci%3E"), "{html}");
        let policy = answer.fields.iter().find(|field| field.0 == "Content-Security-Policy");
        assert!(policy.is_some_and(|policy| policy.1.starts_with("default-src 'none'; style-src 'sha256-")));
    }
}
