//! The admin socket: how commands of the operator reach the running server.
//!
//! A unix socket in the data folder. Its mode keeps other users out, and the peer's user is checked as well, because a
//! folder may have been opened by mistake: root and the server's own user may ask. One request a connection, in the
//! form of [`core::admin`](crate::core::admin).

use std::fmt;
use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::core::admin::{COMMAND_BYTES_MAX, Command, LENGTH_BYTES, REPLY_BYTES_MAX, Reply};
use crate::net::shell::guard::guarded;

/// Bytes of the longest path that the system takes for a socket.
const PATH_BYTES_MAX: usize = 107;

/// How long a peer may take to send its request or to take its answer, so that a stuck one does not lock others out.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a command waits for its answer: password hashing on the smallest machine, behind a full queue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a command about all of the store waits for its answer: gigabytes on slow flash.
const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(1200);

/// How long either end of a backup may rest. A reader that rests keeps pages of the store from being used again.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a backup, in a thread of its own.
pub type TakeOver = Box<dyn FnOnce(UnixStream)>;

/// The socket of a running server. Dropping it removes the file.
#[derive(Debug)]
pub struct AdminSocket {
    listener: Async<UnixListener>,
    path: PathBuf,
}

/// Refuses when a server listens at `path`.
///
/// # Errors
/// Then; and when no socket can have that path.
pub fn refuse_second(path: &Path) -> Result<(), AdminError> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(AdminError::TooLong(path.to_path_buf()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(AdminError::Taken(path.to_path_buf())),
        Err(_) => Ok(()),
    }
}

/// Why the socket cannot be made, and what to do.
#[derive(Debug)]
pub enum AdminError {
    /// A server listens there already.
    Taken(PathBuf),
    /// The path is longer than the system allows.
    TooLong(PathBuf),
    /// The system says no.
    Io(PathBuf, io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(path) => write!(
                f,
                "another server uses this data folder (it answers at {}, `couplet status` asks it): \
                 stop it first, or set storage.path",
                path.display()
            ),
            Self::TooLong(path) => write!(
                f,
                "the path of the admin socket, {}, has more than {PATH_BYTES_MAX} bytes: \
                 set admin.socket to a shorter one such as \"/run/couplet/couplet.sock\"",
                path.display()
            ),
            Self::Io(path, error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => write!(
                f,
                "cannot make the admin socket {}: {error}; look at the disk (dmesg), then mount it for writing, or set \
                 storage.path",
                path.display()
            ),
            Self::Io(path, error) if error.kind() == io::ErrorKind::StorageFull => {
                write!(f, "cannot make the admin socket {}: {error}; free some space on its disk", path.display())
            }
            Self::Io(path, error) => write!(
                f,
                "cannot make the admin socket {}: {error}; make its folder writable for the user that runs couplet, \
                 or set admin.socket",
                path.display()
            ),
        }
    }
}

impl std::error::Error for AdminError {}

impl AdminSocket {
    /// Listens at `path`, whose folder exists. A socket that a killed server left there is replaced.
    ///
    /// # Errors
    /// When a server listens there, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, AdminError> {
        refuse_second(path)?;
        let failed = |error| AdminError::Io(path.to_path_buf(), error);
        // A file that is no socket refuses, too, and is not ours to remove.
        let refused = UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if refused && is_socket(path) {
            fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // From here on the file is ours to remove.
        let socket = Self { listener: Async::new(listener).map_err(failed)?, path: path.to_path_buf() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }

    /// Serves for ever, one request after another; several tasks may do that. `ask` hands a command to the engine; what
    /// it returns becomes the answer, or `None` when the server goes down. `back_up` gives what takes a connection over
    /// to send a backup, or says why there is none.
    pub async fn serve<A: Future<Output = Option<Reply>>>(
        &self,
        mut ask: impl FnMut(Command) -> A,
        mut back_up: impl FnMut() -> Result<TakeOver, String>,
    ) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(Err(error)) = guarded(answer(stream, &mut ask, &mut back_up)).await {
                        log::info!("admin socket: {error}");
                    }
                }
                Err(error) => {
                    log::warn!("admin socket: {error}");
                    // Out of file descriptors: trying at once would spin.
                    Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Gone already, or in a folder that is gone: nothing to be done.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

async fn answer<A: Future<Output = Option<Reply>>>(
    mut stream: Async<UnixStream>,
    ask: &mut impl FnMut(Command) -> A,
    back_up: &mut impl FnMut() -> Result<TakeOver, String>,
) -> io::Result<()> {
    if !may_ask(&stream)? {
        let reply = Reply::failed("only root and the user that runs the server may do this");
        return within(PEER_TIMEOUT, write_frame(&mut stream, &reply.to_wire())).await;
    }
    let request = within(PEER_TIMEOUT, read_frame(&mut stream)).await?;
    let reply = match Command::from_wire(&request) {
        Ok(Command::Backup) => match back_up() {
            Ok(take_over) => {
                within(PEER_TIMEOUT, write_frame(&mut stream, &Reply::ok("").to_wire())).await?;
                let stream = stream.into_inner()?;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(BACKUP_TIMEOUT))?;
                take_over(stream);
                return Ok(());
            }
            Err(text) => Reply::failed(text),
        },
        Ok(command) => {
            log::debug!("admin socket: {command:?}");
            let reply = within(answer_timeout(&command), async { Ok(ask(command).await) }).await;
            let silent = || Reply::failed("the server does not answer; its log may say why");
            reply.ok().flatten().unwrap_or_else(silent)
        }
        Err(error) => Reply::failed(error.to_string()),
    };
    within(PEER_TIMEOUT, write_frame(&mut stream, &reply.to_wire())).await
}

/// Root, or the user whose process we are.
fn may_ask(stream: &impl AsFd) -> io::Result<bool> {
    let uid = rustix::net::sockopt::socket_peercred(stream)?.uid;
    Ok(uid.is_root() || uid == rustix::process::geteuid())
}

async fn read_frame(stream: &mut Async<UnixStream>) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await?;
    let length = bounded(length, COMMAND_BYTES_MAX)?;
    let mut body = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn write_frame(stream: &mut Async<UnixStream>, body: &[u8]) -> io::Result<()> {
    stream.write_all(&length_of(body)).await?;
    stream.write_all(body).await
}

async fn within<T>(time: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    smol::future::or(what, async {
        Timer::after(time).await;
        Err(ErrorKind::TimedOut.into())
    })
    .await
}

fn answer_timeout(command: &Command) -> Duration {
    match command {
        Command::Compact | Command::Flush => LONG_ANSWER_TIMEOUT,
        #[cfg(feature = "acme")]
        Command::CertRenew { .. } => LONG_ANSWER_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    }
}

/// Both ends bound what they write far below this.
fn length_of(body: &[u8]) -> [u8; LENGTH_BYTES] {
    u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn bounded(length: [u8; LENGTH_BYTES], max: usize) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length <= max { Ok(length) } else { Err(io::Error::new(ErrorKind::InvalidData, "a frame is too long")) }
}

/// Why a command did not get an answer from a running server.
#[derive(Debug)]
pub enum CallError {
    /// No server listens there.
    NotRunning,
    /// One may, but this user may not ask it.
    Denied,
    /// The command does not fit the wire form, or the server hung up.
    Failed(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the server is not running"),
            Self::Denied => f.write_str("only root and the user that runs the server may do this"),
            Self::Failed(why) => write!(f, "the running server does not answer: {why}"),
        }
    }
}

impl std::error::Error for CallError {}

/// Asks the server that listens at `path`, and waits for its answer.
///
/// # Errors
/// When none listens there, or it does not answer.
pub fn call(path: &Path, command: &Command) -> Result<Reply, CallError> {
    exchange(path, command).map(|(reply, _)| reply)
}

/// Asks the server that listens at `path` for a backup. What it gives beside an answer of
/// [`OK`](crate::core::admin::OK) is the backup, to be read to its end.
///
/// # Errors
/// As [`call`].
pub fn call_for_backup(path: &Path) -> Result<(Reply, UnixStream), CallError> {
    let (reply, stream) = exchange(path, &Command::Backup)?;
    stream.set_read_timeout(Some(BACKUP_TIMEOUT)).map_err(|error| CallError::Failed(error.to_string()))?;
    Ok((reply, stream))
}

fn exchange(path: &Path, command: &Command) -> Result<(Reply, UnixStream), CallError> {
    let failed = |error: &dyn fmt::Display| CallError::Failed(error.to_string());
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => CallError::NotRunning,
        ErrorKind::PermissionDenied => CallError::Denied,
        // A path that is too long for a socket has none.
        ErrorKind::InvalidInput => CallError::NotRunning,
        _ => failed(&error),
    })?;
    let body = command.to_wire().map_err(|error| failed(&error))?;
    let mut exchange = || -> io::Result<Vec<u8>> {
        stream.set_write_timeout(Some(PEER_TIMEOUT))?;
        // Others may be served before us.
        stream.set_read_timeout(Some(answer_timeout(command) * 2))?;
        stream.write_all(&length_of(&body))?;
        stream.write_all(&body)?;
        let mut length = [0; LENGTH_BYTES];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; bounded(length, REPLY_BYTES_MAX)?];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| failed(&error))?;
    let reply = Reply::from_wire(&answer).map_err(|error| failed(&error))?;
    Ok((reply, stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A folder that is removed with its content.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("couplet-admin-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Serves in this thread until `client` is done in another.
    fn serving<T: Send + 'static>(path: &Path, client: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let socket = AdminSocket::bind(path).unwrap();
        let (path, (done, wait)) = (path.to_path_buf(), smol::channel::bounded(1));
        let client = thread::spawn(move || {
            let result = client(path);
            done.send_blocking(()).unwrap();
            result
        });
        let answer = |command| async move {
            match command {
                Command::Status => Some(Reply::ok("fine")),
                Command::UserList { .. } => Some(Reply::ok("romeo@localhost\n".repeat(1 << 18))),
                _ => None,
            }
        };
        let mut backups = 0;
        let serve = socket.serve(answer, || {
            backups += 1;
            if backups > 1 {
                return Err("busy".to_string());
            }
            Ok(Box::new(|mut stream: UnixStream| stream.write_all(b"all of it").unwrap()) as TakeOver)
        });
        smol::block_on(smol::future::or(serve, async {
            wait.recv().await.unwrap();
        }));
        client.join().unwrap()
    }

    #[test]
    fn questions_are_answered_one_after_another() {
        let folder = Folder::new("answers");
        let path = folder.0.join("socket");
        let (mode, replies, list, silent) = serving(&path, |path| {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let replies: Vec<Reply> = (0..3).map(|_| call(&path, &Command::Status).unwrap()).collect();
            let list = call(&path, &Command::UserList { host: None }).unwrap();
            (mode, replies, list, call(&path, &Command::Reload).unwrap())
        });
        assert_eq!(mode, 0o600);
        assert_eq!(replies, vec![Reply::ok("fine"); 3]);
        assert!(list.text.len() <= REPLY_BYTES_MAX && list.text.ends_with("(more; ask for less)"));
        assert_eq!(silent.code, 1);
        assert!(!path.exists(), "the socket goes with the server");
        assert!(matches!(call(&path, &Command::Status), Err(CallError::NotRunning)));
    }

    #[test]
    fn a_backup_follows_its_answer() {
        let folder = Folder::new("backup");
        let (first, bytes, second) = serving(&folder.0.join("socket"), |path| {
            let (first, mut stream) = call_for_backup(&path).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            (first, bytes, call_for_backup(&path).unwrap().0)
        });
        assert_eq!((first.code, bytes.as_slice()), (0, &b"all of it"[..]));
        assert_eq!(second, Reply::failed("busy"));
    }

    #[test]
    fn bytes_that_are_no_request_do_no_harm() {
        let folder = Folder::new("noise");
        let reply = serving(&folder.0.join("socket"), |path| {
            for noise in [&[][..], &[0, 0], &[0, 0, 0, 2, 9, 9], &[255, 255, 255, 255, 1], &[0, 0, 0, 0]] {
                let mut stream = UnixStream::connect(&path).unwrap();
                stream.write_all(noise).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                // Reset or closed, with or without an answer.
                let _ = stream.read_to_end(&mut answer);
            }
            call(&path, &Command::Status).unwrap()
        });
        assert_eq!(reply, Reply::ok("fine"));
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_a_living_one_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "closing leaves the file");
        let living = AdminSocket::bind(&path).unwrap();
        let error = AdminSocket::bind(&path).unwrap_err();
        assert!(matches!(error, AdminError::Taken(_)), "{error}");
        drop(living);
        assert!(!path.exists());
        let long = folder.0.join("x".repeat(120));
        assert!(AdminSocket::bind(&long).unwrap_err().to_string().contains("set admin.socket to a shorter one"));
        assert!(matches!(call(&long, &Command::Status), Err(CallError::NotRunning)));
        let precious = folder.0.join("precious");
        fs::write(&precious, "text").unwrap();
        assert!(matches!(AdminSocket::bind(&precious), Err(AdminError::Io(..))));
        assert!(precious.exists());
        let nowhere = folder.0.join("no/such/folder");
        assert!(AdminSocket::bind(&nowhere).unwrap_err().to_string().contains("make its folder writable"));
    }
}
