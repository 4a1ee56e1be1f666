//! What archives cost, in a store of its own: what a commit costs with and without the second row of each message, and
//! what processor time a page costs where the archive is small and where it is large. `make archive`.
//!
//! | variable | what |
//! |---|---|
//! | `ARCHIVE_MESSAGES` | messages of the large archive; 1 000 000 |
//! | `ARCHIVE_FOLDER` | where its file is made, and deleted again; that of the build |

use couplet::core::archive::{self, Done, Id, Job, Mark, Marks, Page, Query, Reading, Row, Rows, Work, mark_key};
use couplet::jid::Jid;
use couplet::stanza::Stanza;
use couplet::storage::{Reader, Store, View, Writer, redb};
use couplet::xml::{self, ns};
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const OWNER: &str = "juliet@example.org";

/// Messages of one commit, and how often each kind of commit is measured.
const COMMIT: usize = 1000;
const COMMITS: usize = 20;

/// Contacts that the messages are with; the first has each tenth of all, the last one message alone.
const CONTACTS: u64 = 1000;

/// How often a page is read.
const PAGES: u32 = 200;

fn contact(n: u64) -> String {
    match n {
        0 => "rare@example.net".to_owned(),
        n if n % 10 == 0 => "romeo@example.net".to_owned(),
        n => format!("friend{}@example.net", n % CONTACTS),
    }
}

struct Archive {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
    view: View,
    last: Id,
    number: u64,
    sum_bytes: u64,
}

impl Archive {
    fn new((reader, writer): Store) -> Result<Self, String> {
        let view = View::new(reader.another()).map_err(|e| e.to_string())?;
        Ok(Self { reader, writer, view, last: Id::default(), number: 0, sum_bytes: 0 })
    }

    /// One commit of so many messages, a millisecond apart.
    fn fill(&mut self, messages: usize, marked: bool, owner: impl Fn(u64) -> String) -> Result<f64, String> {
        self.view.begin();
        for _ in 0..messages {
            let n = self.number;
            let with = contact(n);
            let xml = format!(
                "<message to='{OWNER}/balcony' xmlns='jabber:client' from='{with}/orchard' id='m{n}' type='chat' \
                 xml:lang='en'><body>{}</body></message>",
                "x".repeat(100)
            );
            self.number += 1;
            self.sum_bytes += xml.len() as u64;
            self.last = Id::next(self.last, 1_795_305_540_000 + n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (number, sum_bytes) = (self.number, self.sum_bytes);
            let key = mark_key(&with, self.last);
            let row =
                Row { number, sum_bytes, with, who: String::new(), standing: String::new(), xml, name: String::new() };
            let owner = owner(n);
            self.view.put::<Rows>(&owner, &self.last.key(), &row);
            if marked {
                self.view.put::<Marks>(&owner, &key, &Mark {});
            }
        }
        self.view.join();
        let batch = self.view.close_batch().ok_or("nothing was written")?;
        let ticket = batch.ticket;
        let begin = Instant::now();
        self.writer.commit(&[batch]).map_err(|e| e.to_string())?;
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        self.view.committed(ticket).map_err(|e| e.to_string())?;
        Ok(ms)
    }

    /// Processor time of one page, in microseconds, and what it held.
    fn page(&self, inner: &str) -> Result<(f64, Page), String> {
        let mut last = None;
        let begin = cpu_us();
        for _ in 0..PAGES {
            let job = Job { id: 1, work: Work::Page(query(inner)?) };
            match archive::whole(&*self.reader, job).map_err(|e| e.to_string())? {
                Done::Page(Ok(page)) => last = Some(page),
                other => return Err(format!("no page: {other:?}")),
            }
        }
        Ok(((cpu_us() - begin) / f64::from(PAGES), last.ok_or("no page")?))
    }

    fn pages(&self, name: &str) -> Result<(), String> {
        let with = |jid: &str| {
            format!(
                "<x xmlns='{}' type='submit'><field var='FORM_TYPE'><value>{}</value></field><field \
                 var='with'><value>{jid}</value></field></x>",
                ns::DATA,
                ns::MAM
            )
        };
        let last = format!("<set xmlns='{}'><max>50</max><before/></set>", ns::RSM);
        let first = format!("<set xmlns='{}'><max>50</max></set>", ns::RSM);
        let kinds = [
            ("the first page", first.clone()),
            ("the last page", last.clone()),
            ("the last page of a common contact", with("romeo@example.net") + &last),
            ("the first page of a contact among a thousand", with("friend7@example.net") + &first),
            ("all of a contact with one message", with("rare@example.net")),
            ("all of nobody", with("nobody@example.net")),
        ];
        println!("{name}:");
        for (what, inner) in kinds {
            let (us, page) = self.page(&inner)?;
            println!("  {what}: {us:.0} us of processor time, {} messages, count {:?}", page.tails.len(), page.count);
        }
        Ok(())
    }
}

fn query(inner: &str) -> Result<Query, String> {
    let iq = format!("<iq xmlns='jabber:client' type='set' id='q'><query xmlns='{}'>{inner}</query></iq>", ns::MAM);
    let request = Stanza::read(xml::parse(&iq).map_err(|e| format!("{e:?}"))?).map_err(|e| format!("{e:?}"))?;
    let owner = Jid::parse(OWNER).map_err(|e| format!("{e:?}"))?;
    let reading =
        Reading { owner: &owner, is_room: false, sees_addresses: false, page_max: 50, page_bytes_max: 131_072 };
    Query::read(&request, reading).map_err(|e| format!("{e:?}"))
}

fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// A new file; deleted with the folder.
fn store(folder: &tempdir::Folder, name: &str) -> Result<Archive, String> {
    let store = redb::open(&folder.0.join(name), redb::RedbOptions::default()).map_err(|e| e.to_string())?;
    Archive::new(store)
}

mod tempdir {
    use std::path::PathBuf;

    pub struct Folder(pub PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn run() -> Result<(), String> {
    let messages: usize =
        std::env::var("ARCHIVE_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000).max(COMMIT);
    let folder = std::env::var_os("ARCHIVE_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempdir::Folder(folder.join(format!("couplet-archive-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).map_err(|e| format!("{}: {e}", folder.0.display()))?;

    // Accounts of a busy server, each with some messages in a commit.
    println!("a commit of {COMMIT} messages, median of {COMMITS}:");
    for accounts in [1, 100, 1000] {
        for (what, marked) in [("one row each", false), ("two rows each", true)] {
            let mut archive = store(&folder, &format!("commit-{accounts}-{marked}.redb"))?;
            let owner = |n: u64| format!("user{}@example.org", n % accounts);
            // An archive that is there already.
            for _ in 0..COMMITS {
                archive.fill(COMMIT, marked, owner)?;
            }
            let mut times = (0..COMMITS).map(|_| archive.fill(COMMIT, marked, owner)).collect::<Result<Vec<_>, _>>()?;
            times.sort_by(f64::total_cmp);
            println!("  {accounts} accounts, {what}: {:.1} ms", times[COMMITS / 2]);
        }
    }
    let mut small = store(&folder, "small.redb")?;
    small.fill(10, true, |_| OWNER.to_owned())?;
    small.pages("an archive of 10 messages")?;
    let mut large = store(&folder, "large.redb")?;
    let begin = Instant::now();
    for n in 0..messages / COMMIT {
        large.fill(COMMIT, true, |_| OWNER.to_owned())?;
        if n % 1000 == 999 {
            eprintln!("{} messages in {} s", (n + 1) * COMMIT, begin.elapsed().as_secs());
        }
    }
    large.pages(&format!("an archive of {} messages", messages / COMMIT * COMMIT))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("archive: {error}");
            ExitCode::FAILURE
        }
    }
}
