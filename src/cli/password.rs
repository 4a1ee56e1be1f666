//! Where a password comes from: the terminal without echo, the standard input, a file. Never an argument, which every
//! user of the machine can read.

use super::Exit;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the longest password.
const PASSWORD_BYTES_MAX: usize = 1023;

/// Why there is no password.
#[derive(Debug)]
pub struct PasswordError {
    /// What the program returns.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub text: String,
}

impl PasswordError {
    fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    fn io(what: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Interrupted => Self::new(Exit::Failed, "nothing was changed"),
            io::ErrorKind::UnexpectedEof => Self::new(Exit::Failed, format!("{what} ends before the password does")),
            _ => Self::new(Exit::Failed, format!("cannot read the password from {what}: {error}")),
        }
    }
}

/// Reads the password for `address`.
///
/// # Errors
/// When there is none where it should be, the two that were typed differ, or it cannot be one.
pub fn read(address: &str, from_stdin: bool, file: Option<&Path>) -> Result<Zeroizing<String>, PasswordError> {
    let line = match (from_stdin, file) {
        (true, Some(_)) => {
            let text = "give either --password-stdin or --password-file, not both";
            return Err(PasswordError::new(Exit::Usage, text));
        }
        (true, None) => first_line(input().map_err(|e| PasswordError::io("the standard input", &e))?)
            .map_err(|e| PasswordError::io("the standard input", &e))?,
        (false, Some(path)) => {
            let what = path.display().to_string();
            File::open(path).and_then(first_line).map_err(|e| PasswordError::io(&what, &e))?
        }
        (false, None) if io::stdin().is_terminal() => typed_twice(address)?,
        (false, None) => {
            let text = "there is no terminal to ask for the password: use --password-stdin or --password-file FILE";
            return Err(PasswordError::new(Exit::Usage, text));
        }
    };
    usable(&line)
}

/// The standard input without the buffer that the library keeps, and which nobody wipes.
fn input() -> io::Result<File> {
    let fd: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(File::from(fd))
}

fn usable(line: &[u8]) -> Result<Zeroizing<String>, PasswordError> {
    let refuse = |text: &str| Err(PasswordError::new(Exit::Failed, text));
    match std::str::from_utf8(line) {
        Err(_) => refuse("the password is not UTF-8"),
        Ok("") => refuse("the password is empty"),
        Ok(text) if text.chars().any(char::is_control) => refuse("the password has a control character"),
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
    }
}

/// The bytes up to the first line break, or to the end.
fn first_line(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With room for all of it: growing would leave a copy behind.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX));
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte != *b"\n" {
        push(&mut line, byte[0])?;
    }
    byte.zeroize();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn push(line: &mut Vec<u8>, byte: u8) -> io::Result<()> {
    if line.len() == PASSWORD_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {PASSWORD_BYTES_MAX} bytes")));
    }
    line.push(byte);
    Ok(())
}

fn typed_twice(address: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    let failed = |e: io::Error| PasswordError::io("the terminal", &e);
    let mut input = input().map_err(failed)?;
    let _quiet = Quiet::new().map_err(failed)?;
    let mut ask = |prompt: &str| {
        let mut terminal = io::stderr();
        write!(terminal, "{prompt}: ")?;
        let line = edited_line(&mut input);
        writeln!(terminal)?;
        line
    };
    let first = ask(&format!("Password for {address}")).map_err(failed)?;
    if first.is_empty() {
        return Ok(first);
    }
    let second = ask("The same again").map_err(failed)?;
    if first == second {
        return Ok(first);
    }
    Err(PasswordError::new(Exit::Failed, "the two passwords differ; nothing was changed"))
}

/// A line as somebody types it who does not see it: backspace and Ctrl-U work, Ctrl-C and Ctrl-D give up.
fn edited_line(from: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX));
    let mut byte = [0];
    loop {
        if from.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match byte[0] {
            b'\n' | b'\r' => return Ok(line),
            // Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-\.
            3 | 4 | 26 | 28 => return Err(io::ErrorKind::Interrupted.into()),
            // Ctrl-U.
            21 => line.clear(),
            // Backspace takes a whole character: all continuation bytes and the byte that leads them.
            8 | 127 => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            byte => push(&mut line, byte)?,
        }
    }
}

/// Turns the terminal's echo and its keys for signals off, and on again when dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_the_line() {
        for (typed, line) in [
            (&b"secret\n"[..], Some("secret")),
            (b"sex\x7fcret\r", Some("secret")),
            ("caf\u{e9}\u{8}e\n".as_bytes(), Some("cafe")),
            (b"wrong\x15right\n", Some("right")),
            (b"\x7f\x7fx\n", Some("x")),
            (b"\n", Some("")),
            (b"half", None),
            (b"give up\x03", None),
        ] {
            let read = edited_line(&mut &*typed).ok();
            assert_eq!(read.as_ref().map(|l| l.as_slice()), line.map(str::as_bytes), "{typed:?}");
        }
        assert!(edited_line(&mut [b'x'; 5000].as_slice()).is_err());
    }

    #[test]
    fn the_first_line_counts() {
        for (text, line) in [
            ("secret\nmore\n", "secret"),
            ("secret", "secret"),
            ("secret\r\n", "secret"),
            ("", ""),
            (" a b \n", " a b "),
        ] {
            assert_eq!(first_line(text.as_bytes()).unwrap().as_slice(), line.as_bytes(), "{text:?}");
        }
        assert!(first_line([b'x'; 5000].as_slice()).is_err());
    }

    #[test]
    fn what_nobody_can_type_is_refused() {
        for (line, text) in [
            (&b""[..], "the password is empty"),
            (b"a\0b", "the password has a control character"),
            (b"\xff", "the password is not UTF-8"),
        ] {
            assert_eq!(usable(line).unwrap_err().text, text);
        }
        assert_eq!(usable(b"a b").unwrap().as_str(), "a b");
    }
}
