//! Documents of XEP-0227, with those that they include.

use super::{Importer, prepared};
use crate::core::moving::Piece;
use crate::encoding::percent_decoded;
use crate::jid::Jid;
use crate::moving::pie::{Event, Found, Reader, Walker};
use crate::storage::StoreError;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

/// Documents in documents: the main one, that of a host, that of a user, that of something of a user.
const DEPTH_MAX: usize = 4;

/// A document that is being read.
struct Open {
    path: PathBuf,
    reader: Reader<File>,
    /// What was open when it began.
    depth: usize,
}

/// Takes in everything.
///
/// # Errors
/// When it cannot go on.
pub fn run(importer: &mut Importer, from: &Path, only: &[String]) -> Result<(), String> {
    let only = prepared(only);
    if !from.is_dir() {
        return document(importer, from, &only);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(from)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| format!("{} cannot be read: {error}", from.display()))?;
    files.sort();
    let mut found = false;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "xml")) {
        // The others are included by it.
        let main = File::open(file).ok().and_then(|file| Reader::new(file).next().ok().flatten());
        if matches!(main, Some(Event::Open(root)) if root.root().name() == "server-data") {
            found = true;
            document(importer, file, &only)?;
        }
    }
    if found { Ok(()) } else { Err(format!("{} has no file with <server-data/>", from.display())) }
}

fn document(importer: &mut Importer, file: &Path, only: &BTreeSet<String>) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{}: it cannot be read: {error}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(cannot)?;
    let first = Open { path: file.to_path_buf(), reader: Reader::new(File::open(file).map_err(cannot)?), depth: 0 };
    let (mut walker, mut open, mut terms) = (Walker::default(), vec![first], importer.terms());
    // Whose archive is being filled.
    let mut archive = None;
    // A list of what is open stands in for recursion.
    while let Some(last) = open.last_mut() {
        let place = last.path.display().to_string();
        let event = match last.reader.next() {
            Ok(Some(event)) => event,
            Ok(None) => {
                open.pop();
                continue;
            }
            Err(error) => {
                let given_up = walker.unwind(last.depth);
                let of = given_up.map(|jid| format!("; {jid} was not taken, or not all of it")).unwrap_or_default();
                importer.report.line(format!("{place}: byte {}: {error}{of}", last.reader.position()));
                open.pop();
                continue;
            }
        };
        match walker.take(event) {
            Found::Nothing => {}
            Found::Skipped(why) => importer.report.unknown(why),
            Found::Include(href) => {
                if open.len() >= DEPTH_MAX {
                    importer.report.line(format!("{place}: {href:?} was left out: too many files in files"));
                    continue;
                }
                match included(&folder, Path::new(&place), &href) {
                    Ok((path, file)) => {
                        let reader =
                            if walker.within() == Some("user") { Reader::part(file) } else { Reader::new(file) };
                        open.push(Open { path, reader, depth: walker.depth() });
                    }
                    Err(why) => importer.report.line(format!("{place}: {href:?} was left out: {why}")),
                }
            }
            Found::Pieces(jid, pieces, is_first) => {
                let host = jid.domain();
                if !only.is_empty() && !only.contains(host) {
                    continue;
                }
                if !importer.engine.keeps(host) {
                    importer.report.foreign(&place, host, "hosts");
                    continue;
                }
                if is_first {
                    terms = importer.terms();
                }
                let has_archived = pieces.iter().any(|piece| matches!(piece, Piece::Archived(_)));
                let is_open = has_archived || archive.as_ref() == Some(&jid);
                let taken = archive_of(importer, &mut archive, Some(&jid).filter(|_| is_open))
                    .and_then(|()| importer.take(&jid, &place, &pieces, &mut terms));
                taken.map_err(|error| error.to_string())?;
            }
        }
    }
    archive_of(importer, &mut archive, None).map_err(|error| error.to_string())
}

/// From now on the archive of another account is filled, or none.
fn archive_of(importer: &mut Importer, now: &mut Option<Jid>, next: Option<&Jid>) -> Result<(), StoreError> {
    if now.as_ref() != next {
        now.take().map_or(Ok(()), |jid| importer.archive_closes(&jid))?;
        next.map_or(Ok(()), |jid| importer.archive_opens(jid))?;
        *now = next.cloned();
    }
    Ok(())
}

/// The file that a relative reference names (XEP-0227 section 5). What leads out of the folder is not read.
fn included(folder: &Path, from: &Path, href: &str) -> Result<(PathBuf, File), String> {
    let name = percent_decoded(href.split(['#', '?']).next().unwrap_or_default());
    let name = name.filter(|name| !name.contains('\0')).ok_or("it is no name of a file")?;
    let relative = Path::new(&name);
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain || name.is_empty() || name.contains(':') {
        return Err("it leads out of the folder".to_string());
    }
    let path = from.parent().unwrap_or(Path::new("")).join(relative);
    let cannot = |error: std::io::Error| format!("it cannot be read: {error}");
    let real = fs::canonicalize(&path).map_err(cannot)?;
    if !real.starts_with(folder) || !real.is_file() {
        return Err("it leads out of the folder, or is no file".to_string());
    }
    let file = File::open(&real).map_err(cannot)?;
    Ok((path, file))
}
