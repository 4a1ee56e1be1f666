//! A file system in this process (the FUSE protocol of Linux, version 7.31), so that a test can play the disk.
//!
//! One thread answers one request after the other. The kernel keeps nothing: neither names, nor attributes, nor pages;
//! every call of the program under test arrives here as it was made. Locks are the kernel's own.

use crate::disk::{BLOCK, Disk, EIO, ENOSYS, EOPNOTSUPP, Errno, Inode, ROOT, S_IFDIR, S_IFMT, S_IFREG, Tally, Trouble};
use crate::rng::Rng;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of one write at most.
const WRITE_MAX: u32 = 1024 * 1024;
const HEAD: usize = 40;

/// A disk that is mounted for as long as this lives.
pub struct Mounted {
    pub path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when the power goes, and when nobody is left who waits for it.
    changed: Condvar,
}

struct State {
    disk: Disk,
    power: Power,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing is answered.
    Gone,
    /// Every call fails.
    Off,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mounted {
    /// Mounts an empty disk with place for so many bytes. An error says why that cannot be done here.
    pub fn new(name: &str, capacity: u64) -> Result<Self, String> {
        let failed = |what: &str, error: io::Error| format!("{what}: {error}; it takes Linux, root, and /dev/fuse");
        let path = std::env::temp_dir().join(format!("couplet-disk-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| failed("the mount point cannot be made", error))?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| failed("/dev/fuse cannot be opened", error))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).map_err(|error| error.to_string())?;
        let mounted = mount("couplet-test", &path, "fuse", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str());
        mounted.map_err(|error| failed("a file system cannot be mounted", error.into()))?;
        let state = State { disk: Disk::new(capacity), power: Power::On };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let answering = shared.clone();
        let thread = thread::spawn(move || serve(device, &answering));
        Ok(Self { path, shared, thread: Some(thread) })
    }

    /// Cuts the power at that call from now that changes something, and gives true once it has gone, or false when
    /// there were not so many in that time.
    pub fn cut_in(&self, calls: u64, patience: Duration) -> bool {
        let mut state = self.shared.state();
        state.disk.cut_in = Some(calls);
        let on = |state: &mut State| state.power == Power::On;
        let waited = self.shared.changed.wait_timeout_while(state, patience, on);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let gone = state.power == Power::Gone;
        // Whether it was reached or not: it is gone now.
        state.power = Power::Gone;
        gone
    }

    /// Lets go of those who wait for an answer. They have been killed.
    pub fn dead(&self) {
        self.shared.state().power = Power::Off;
        self.shared.changed.notify_all();
    }

    /// The power comes back, to a disk that has lost what it may lose.
    pub fn power_on(&self, rng: &mut Rng) -> Tally {
        let mut state = self.shared.state();
        state.power = Power::On;
        state.disk.cut_in = None;
        state.disk.lose(rng)
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.shared.state().disk.trouble = trouble;
    }

    pub fn with<T>(&self, call: impl FnOnce(&mut Disk) -> T) -> T {
        call(&mut self.shared.state().disk)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.dead();
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Answers until it is unmounted.
fn serve(mut device: File, shared: &Shared) {
    let mut buffer = vec![0; WRITE_MAX as usize + 4096];
    loop {
        let read = match device.read(&mut buffer) {
            Ok(read) => read,
            // A request that was taken back, or a signal.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
            Err(_) => return,
        };
        let Some(request) = Request::read(&buffer[..read]) else { return };
        let Some(answer) = request.answer(shared) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error, Vec::new()),
        };
        let mut out = Vec::with_capacity(16 + body.len());
        put32(&mut out, 16 + body.len() as u32);
        out.extend(error.to_ne_bytes());
        put64(&mut out, request.unique);
        out.extend(body);
        // Whoever asked may be dead.
        let _ = device.write(&out);
    }
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_ne_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_ne_bytes());
}

fn get32(from: &[u8], at: usize) -> u32 {
    from.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn get64(from: &[u8], at: usize) -> u64 {
    from.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The name at that place, and what is behind it.
fn get_name(from: &[u8], at: usize) -> (String, usize) {
    let rest = from.get(at..).unwrap_or_default();
    let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    (String::from_utf8_lossy(&rest[..len]).into_owned(), at + len + 1)
}

struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    owner: (u32, u32),
    body: &'a [u8],
}

type Answer = Result<Vec<u8>, Errno>;

impl<'a> Request<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(HEAD..)?;
        let (opcode, unique, node) = (get32(bytes, 4), get64(bytes, 8), get64(bytes, 16));
        Some(Self { opcode, unique, node, owner: (get32(bytes, 24), get32(bytes, 28)), body })
    }

    /// Calls that change something, or make it durable.
    fn matters(&self) -> bool {
        matches!(self.opcode, 4 | 8 | 9 | 10 | 11 | 12 | 13 | 16 | 20 | 30 | 35 | 43 | 45)
    }

    /// None when it wants no answer.
    fn answer(&self, shared: &Shared) -> Option<Answer> {
        // FORGET, INTERRUPT, BATCH_FORGET.
        if matches!(self.opcode, 2 | 36 | 42) {
            return None;
        }
        let mut state = shared.state();
        if self.matters()
            && state.power == Power::On
            && let Some(calls) = &mut state.disk.cut_in
        {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                state.power = Power::Gone;
                shared.changed.notify_all();
            }
        }
        // RELEASE, FLUSH and RELEASEDIR come from the dead, too.
        if !matches!(self.opcode, 18 | 25 | 29) {
            let waited = shared.changed.wait_while(state, |state| state.power == Power::Gone);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.power == Power::Off {
                return Some(Err(EIO));
            }
        }
        Some(self.perform(&mut state.disk))
    }

    fn perform(&self, disk: &mut Disk) -> Answer {
        let (node, body) = (self.node, self.body);
        match self.opcode {
            1 => disk.lookup(node, &get_name(body, 0).0).and_then(|id| entry(disk, id)),
            3 => attributes(disk, node),
            4 => {
                let valid = get32(body, 0);
                let given = |bit: u32, at: usize| (valid & bit != 0).then(|| get32(body, at));
                let len = (valid & 8 != 0).then(|| get64(body, 16));
                disk.set(node, given(1, 68), (given(2, 76), given(4, 80)), len)?;
                attributes(disk, node)
            }
            8 => {
                let id = disk.make(node, &get_name(body, 16).0, get32(body, 0), self.owner)?;
                entry(disk, id)
            }
            9 => {
                let id = disk.make(node, &get_name(body, 8).0, S_IFDIR | get32(body, 0), self.owner)?;
                entry(disk, id)
            }
            10 => disk.unlink(node, &get_name(body, 0).0, false).map(|()| Vec::new()),
            11 => disk.unlink(node, &get_name(body, 0).0, true).map(|()| Vec::new()),
            12 | 45 => {
                let (from, next) = get_name(body, if self.opcode == 12 { 8 } else { 16 });
                let (to, _) = get_name(body, next);
                if self.opcode == 45 && get32(body, 8) != 0 {
                    return Err(EOPNOTSUPP);
                }
                disk.rename((node, &from), (get64(body, 0), &to)).map(|()| Vec::new())
            }
            13 => {
                let id = get64(body, 0);
                disk.link(id, node, &get_name(body, 8).0)?;
                entry(disk, id)
            }
            14 => {
                disk.may_open(get32(body, 0) & 3 != 0)?;
                Ok(opened())
            }
            15 => disk.read(node, get64(body, 8), get32(body, 16) as usize).map(<[u8]>::to_vec),
            16 => {
                let size = get32(body, 16);
                disk.write(node, get64(body, 8), body.get(40..40 + size as usize).ok_or(EIO)?)?;
                Ok([size, 0].into_iter().flat_map(u32::to_ne_bytes).collect())
            }
            17 => Ok(room(disk)),
            18 | 25 | 29 => Ok(Vec::new()),
            20 | 30 => disk.sync(node).map(|()| Vec::new()),
            26 => Ok(greeting(body)),
            27 => Ok(vec![0; 16]),
            28 => listing(disk, node, get64(body, 8), get32(body, 16) as usize),
            35 => {
                let id = disk.make(node, &get_name(body, 16).0, S_IFREG | get32(body, 4), self.owner)?;
                let mut out = entry(disk, id)?;
                out.extend(opened());
                Ok(out)
            }
            43 => {
                let (offset, len, mode) = (get64(body, 8), get64(body, 16), get32(body, 24));
                match mode {
                    0 | 1 => disk.allocate(node, offset + len, mode == 1).map(|()| Vec::new()),
                    _ => Err(EOPNOTSUPP),
                }
            }
            _ => Err(ENOSYS),
        }
    }
}

/// The kernel's version of the protocol, and ours: big writes in one piece.
fn greeting(body: &[u8]) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut out = Vec::with_capacity(64);
    for value in [7, 31, get32(body, 8), get32(body, 12) & (BIG_WRITES | MAX_PAGES), 0, WRITE_MAX, 1] {
        put32(&mut out, value);
    }
    put32(&mut out, (WRITE_MAX / 4096) & 0xffff);
    out.resize(64, 0);
    out
}

/// A file whose pages the kernel does not keep.
fn opened() -> Vec<u8> {
    const DIRECT_IO: u32 = 1;
    let mut out = vec![0; 8];
    put32(&mut out, DIRECT_IO);
    out.resize(16, 0);
    out
}

fn attribute_bytes(out: &mut Vec<u8>, disk: &Disk, id: u64, inode: &Inode) {
    for value in [id, inode.content.len() as u64, inode.blocks() * (BLOCK / 512), 0, 0, 0] {
        put64(out, value);
    }
    let links = if inode.is_folder() { 2 } else { disk.links(id) };
    for value in [0, 0, 0, inode.mode, links, inode.uid, inode.gid, 0, BLOCK as u32, 0] {
        put32(out, value);
    }
}

fn attributes(disk: &Disk, id: u64) -> Answer {
    let mut out = vec![0; 16];
    attribute_bytes(&mut out, disk, id, disk.inode(id)?);
    Ok(out)
}

fn entry(disk: &Disk, id: u64) -> Answer {
    let mut out = Vec::with_capacity(128);
    put64(&mut out, id);
    out.resize(40, 0);
    attribute_bytes(&mut out, disk, id, disk.inode(id)?);
    Ok(out)
}

fn room(disk: &Disk) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    for value in [disk.capacity / BLOCK, disk.free(), disk.free(), 1 << 20, 1 << 20] {
        put64(&mut out, value);
    }
    for value in [BLOCK as u32, 255, BLOCK as u32] {
        put32(&mut out, value);
    }
    out.resize(80, 0);
    out
}

fn listing(disk: &Disk, id: u64, from: u64, size: usize) -> Answer {
    let own = [(".".to_owned(), id), ("..".to_owned(), ROOT)];
    let all = own.into_iter().chain(disk.inode(id)?.names.iter().map(|(name, id)| (name.clone(), *id)));
    let mut out = Vec::new();
    for (n, (name, id)) in all.enumerate().skip(from as usize) {
        let len = 24 + name.len().next_multiple_of(8);
        if out.len() + len > size {
            break;
        }
        let end = out.len() + len;
        put64(&mut out, id);
        put64(&mut out, n as u64 + 1);
        put32(&mut out, name.len() as u32);
        put32(&mut out, (disk.inode(id)?.mode & S_IFMT) >> 12);
        out.extend(name.as_bytes());
        out.resize(end, 0);
    }
    Ok(out)
}
