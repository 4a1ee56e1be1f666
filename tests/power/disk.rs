//! A disk that keeps what a program has written apart from what it would have after a power cut.
//!
//! POSIX promises of a write that it is there after a cut when the file was synced behind it, and of a name when its
//! folder was. Everything else a cut may drop, keep or tear, in units of a sector, each by itself. Two writes to one
//! sector cannot change places, as the cache of the system holds one version of it: whichever comes to the disk last is
//! the newer. So a subset of the sectors, taken in order, is any outcome there is, reordering included.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// Blocks in which room is counted, in bytes.
pub const BLOCK: u64 = 4096;

pub const ROOT: u64 = 1;

/// Number of an error, as the system has it.
pub type Errno = i32;
pub const ENOENT: Errno = 2;
pub const EIO: Errno = 5;
pub const EACCES: Errno = 13;
pub const EEXIST: Errno = 17;
pub const ENOTDIR: Errno = 20;
pub const EISDIR: Errno = 21;
pub const ENOSPC: Errno = 28;
pub const EROFS: Errno = 30;
pub const ENOSYS: Errno = 38;
pub const ENOTEMPTY: Errno = 39;
pub const EOPNOTSUPP: Errno = 95;

pub const S_IFMT: u32 = 0o170_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFREG: u32 = 0o100_000;

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    Nothing,
    /// Reading fails.
    Reads,
    /// Writing and growing fail.
    Writes,
    /// Syncs fail.
    Syncs,
    /// Files cannot be opened or made.
    Permission,
    /// Nothing can be changed, as after an error that the system has answered by mounting it read-only.
    ReadOnly,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { at, data } => {
                if content.len() < at + data.len() {
                    content.resize(at + data.len(), 0);
                }
                content[*at..at + data.len()].copy_from_slice(data);
            }
            Change::Len(len) => content.resize(*len, 0),
        }
    }

    /// Some sectors of it.
    fn apply_torn(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        let Change::Write { at, data } = self else { return self.apply(content) };
        let mut done = 0;
        while done < data.len() {
            let n = (SECTOR - (at + done) % SECTOR).min(data.len() - done);
            if rng.percent(50) {
                Change::Write { at: at + done, data: data[done..done + n].to_vec() }.apply(content);
            }
            done += n;
        }
    }
}

/// A change of a folder: names that are set or removed in one step.
type Names = Vec<(String, Option<u64>)>;

#[derive(Clone, Debug, Default)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: Vec<u8>,
    /// Bytes behind the end that are allocated to it.
    beyond: u64,
    durable: Vec<u8>,
    changes: Vec<Change>,
    pub names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<Names>,
}

impl Inode {
    pub fn is_folder(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    pub fn blocks(&self) -> u64 {
        (self.content.len() as u64 + self.beyond).div_ceil(BLOCK)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.changes.push(change);
    }

    fn name(&mut self, names: Names) {
        rename_all(&mut self.names, &names);
        self.name_changes.push(names);
    }
}

fn rename_all(map: &mut BTreeMap<String, u64>, names: &Names) {
    for (name, inode) in names {
        match inode {
            Some(inode) => map.insert(name.clone(), *inode),
            None => map.remove(name),
        };
    }
}

/// What there was of writes when the power went, for those who want to know that a run has met everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes that no sync had made durable, and those of them that were dropped and torn.
    pub open: u64,
    pub dropped: u64,
    pub torn: u64,
    /// Changes of folders that were dropped.
    pub names_dropped: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.open += other.open;
        self.dropped += other.dropped;
        self.torn += other.torn;
        self.names_dropped += other.names_dropped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { open, dropped, torn, names_dropped } = self;
        write!(f, "{open} writes, of which {dropped} were dropped and {torn} torn; {names_dropped} names dropped")
    }
}

#[derive(Debug)]
pub struct Disk {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    /// Bytes that it has place for.
    pub capacity: u64,
    pub trouble: Trouble,
    /// Calls that change something, or sync, until the power goes.
    pub cut_in: Option<u64>,
    /// Syncs of files since it was made.
    pub syncs: u64,
}

impl Disk {
    pub fn new(capacity: u64) -> Self {
        let root = Inode { mode: S_IFDIR | 0o755, ..Inode::default() };
        let inodes = BTreeMap::from([(ROOT, root)]);
        Self { inodes, next: ROOT + 1, capacity, trouble: Trouble::Nothing, cut_in: None, syncs: 0 }
    }

    pub fn inode(&self, id: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&id).ok_or(ENOENT)
    }

    fn inode_mut(&mut self, id: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&id).ok_or(ENOENT)
    }

    pub fn lookup(&self, folder: u64, name: &str) -> Result<u64, Errno> {
        self.inode(folder)?.names.get(name).copied().ok_or(ENOENT)
    }

    pub fn links(&self, id: u64) -> u32 {
        self.inodes.values().flat_map(|folder| folder.names.values()).filter(|named| **named == id).count() as u32
    }

    /// Blocks that are free.
    pub fn free(&self) -> u64 {
        let mut named: Vec<u64> = self.inodes.values().flat_map(|folder| folder.names.values().copied()).collect();
        named.sort_unstable();
        named.dedup();
        let used: u64 = named.iter().filter_map(|id| self.inodes.get(id)).map(Inode::blocks).sum();
        (self.capacity / BLOCK).saturating_sub(used)
    }

    /// Refuses what the trouble of the day refuses to a call that changes something.
    fn may_change(&self) -> Result<(), Errno> {
        match self.trouble {
            Trouble::Writes => Err(EIO),
            Trouble::ReadOnly => Err(EROFS),
            _ => Ok(()),
        }
    }

    /// Refuses to open what exists, for reading alone or not.
    pub fn may_open(&self, for_writing: bool) -> Result<(), Errno> {
        match self.trouble {
            Trouble::Permission => Err(EACCES),
            Trouble::ReadOnly if for_writing => Err(EROFS),
            _ => Ok(()),
        }
    }

    pub fn make(&mut self, folder: u64, name: &str, mode: u32, owner: (u32, u32)) -> Result<u64, Errno> {
        self.may_change()?;
        if self.trouble == Trouble::Permission {
            return Err(EACCES);
        }
        let id = self.next;
        let parent = self.inode_mut(folder)?;
        if parent.names.contains_key(name) {
            return Err(EEXIST);
        }
        parent.name(vec![(name.to_owned(), Some(id))]);
        self.next += 1;
        self.inodes.insert(id, Inode { mode, uid: owner.0, gid: owner.1, ..Inode::default() });
        Ok(id)
    }

    pub fn link(&mut self, id: u64, folder: u64, name: &str) -> Result<(), Errno> {
        self.may_change()?;
        self.inode(id)?;
        let parent = self.inode_mut(folder)?;
        if parent.names.contains_key(name) {
            return Err(EEXIST);
        }
        parent.name(vec![(name.to_owned(), Some(id))]);
        Ok(())
    }

    pub fn unlink(&mut self, folder: u64, name: &str, is_folder: bool) -> Result<(), Errno> {
        self.may_change()?;
        let inode = self.inode(self.lookup(folder, name)?)?;
        match inode.is_folder() {
            true if !is_folder => return Err(EISDIR),
            false if is_folder => return Err(ENOTDIR),
            true if !inode.names.is_empty() => return Err(ENOTEMPTY),
            _ => {}
        }
        self.inode_mut(folder)?.name(vec![(name.to_owned(), None)]);
        Ok(())
    }

    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        self.may_change()?;
        let id = self.lookup(from.0, from.1)?;
        if from.0 == to.0 {
            self.inode_mut(from.0)?.name(vec![(from.1.to_owned(), None), (to.1.to_owned(), Some(id))]);
        } else {
            self.inode_mut(to.0)?.name(vec![(to.1.to_owned(), Some(id))]);
            self.inode_mut(from.0)?.name(vec![(from.1.to_owned(), None)]);
        }
        Ok(())
    }

    pub fn set(
        &mut self,
        id: u64,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
        len: Option<u64>,
    ) -> Result<(), Errno> {
        self.may_change()?;
        if let Some(len) = len {
            self.make_room(id, len, 0)?;
        }
        let inode = self.inode_mut(id)?;
        inode.mode = mode.map_or(inode.mode, |mode| inode.mode & S_IFMT | mode & !S_IFMT);
        inode.uid = owner.0.unwrap_or(inode.uid);
        inode.gid = owner.1.unwrap_or(inode.gid);
        if let Some(len) = len {
            inode.beyond = 0;
            inode.change(Change::Len(len as usize));
        }
        Ok(())
    }

    pub fn read(&self, id: u64, at: u64, len: usize) -> Result<&[u8], Errno> {
        if self.trouble == Trouble::Reads {
            return Err(EIO);
        }
        let content = &self.inode(id)?.content;
        let start = content.len().min(at as usize);
        Ok(&content[start..content.len().min(start + len)])
    }

    pub fn write(&mut self, id: u64, at: u64, data: &[u8]) -> Result<(), Errno> {
        self.may_change()?;
        self.make_room(id, at + data.len() as u64, 0)?;
        let inode = self.inode_mut(id)?;
        let old = inode.content.len();
        inode.change(Change::Write { at: at as usize, data: data.to_vec() });
        inode.beyond = inode.beyond.saturating_sub((inode.content.len() - old) as u64);
        Ok(())
    }

    pub fn allocate(&mut self, id: u64, end: u64, keeps_size: bool) -> Result<(), Errno> {
        self.may_change()?;
        let len = self.inode(id)?.content.len() as u64;
        self.make_room(id, len, end.saturating_sub(len))?;
        let inode = self.inode_mut(id)?;
        if keeps_size {
            inode.beyond = inode.beyond.max(end.saturating_sub(len));
        } else if end > len {
            inode.beyond = inode.beyond.saturating_sub(end - len);
            inode.change(Change::Len(end as usize));
        }
        Ok(())
    }

    /// Refuses what there is no place for.
    fn make_room(&self, id: u64, len: u64, beyond: u64) -> Result<(), Errno> {
        let inode = self.inode(id)?;
        let wanted = (len.max(inode.content.len() as u64) + beyond).div_ceil(BLOCK);
        if wanted.saturating_sub(inode.blocks()) > self.free() { Err(ENOSPC) } else { Ok(()) }
    }

    pub fn sync(&mut self, id: u64) -> Result<(), Errno> {
        self.syncs += 1;
        if matches!(self.trouble, Trouble::Syncs | Trouble::Writes) {
            return Err(EIO);
        }
        let inode = self.inode_mut(id)?;
        for change in std::mem::take(&mut inode.changes) {
            change.apply(&mut inode.durable);
        }
        for names in std::mem::take(&mut inode.name_changes) {
            rename_all(&mut inode.durable_names, &names);
        }
        Ok(())
    }

    /// Makes everything durable, as a good shutdown of the machine does.
    pub fn sync_all(&mut self) {
        for id in self.inodes.keys().copied().collect::<Vec<_>>() {
            let _ = self.sync(id);
        }
    }

    /// What is there when the power comes back. Nothing is open then.
    pub fn lose(&mut self, rng: &mut Rng) -> Tally {
        let mut tally = Tally::default();
        for inode in self.inodes.values_mut() {
            inode.lose(rng, &mut tally);
        }
        // What has no name any more is gone.
        let mut kept = vec![ROOT];
        let mut next = 0;
        while let Some(id) = kept.get(next) {
            kept.extend(self.inodes.get(id).into_iter().flat_map(|inode| inode.names.values()));
            next += 1;
        }
        self.inodes.retain(|id, _| kept.contains(id));
        tally
    }
}

impl Inode {
    fn lose(&mut self, rng: &mut Rng, tally: &mut Tally) {
        let changes = std::mem::take(&mut self.changes);
        tally.open += changes.len() as u64;
        self.content = std::mem::take(&mut self.durable);
        // How many are whole, out of a hundred; how many of the others are torn. All, none, and what is between.
        let (whole, torn) = (rng.pick(&[0, 0, 30, 70, 95, 100]), rng.pick(&[0, 50, 100]));
        // Up to here in order, as disks mostly do, or not at all.
        let prefix = if rng.percent(40) { rng.below(changes.len() + 1) } else { 0 };
        for (n, change) in changes.iter().enumerate() {
            if n < prefix || rng.percent(whole) {
                change.apply(&mut self.content);
            } else if rng.percent(torn) {
                tally.torn += 1;
                change.apply_torn(&mut self.content, rng);
            } else {
                tally.dropped += 1;
            }
        }
        self.durable = self.content.clone();
        self.beyond = 0;
        self.names = std::mem::take(&mut self.durable_names);
        let kept = rng.pick(&[0, 50, 100]);
        for names in std::mem::take(&mut self.name_changes) {
            if rng.percent(kept) {
                rename_all(&mut self.names, &names);
            } else {
                tally.names_dropped += 1;
            }
        }
        self.durable_names = self.names.clone();
    }
}
