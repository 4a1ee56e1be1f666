//! `[sqlite]`: what SQLite is told beside what the store's promises ask for.

use crate::setting::{nearest, quote, section, words};
use crate::storage::sqlite::Tuning;

section! {
    /// What SQLite is told, with storage.backend = "sqlite". Its log (couplet.sqlite-wal) is synced before anything is
    /// acknowledged, unless storage.durability says something else; nothing here changes that. Changed only by a
    /// restart.
    pub struct Sqlite in "sqlite" {
        /// "safe" is for small machines: the log is taken into the file from 256 pages (1 MB) on. "fast" does that from
        /// 4096 on, which is more seldom; the log and the room that is held for it then have 16 MB each, and a start
        /// after a crash takes longer. What is acknowledged survives a power cut with either.
        pub preset: Preset = Preset::Safe,
        /// Pragmas, such as "secure_delete = on": wal_autocheckpoint (pages, in place of the preset's),
        /// journal_size_limit (bytes), secure_delete, cell_size_check, and page_size, of a file that is made from then
        /// on, by `couplet backup restore` for instance.
        pub pragmas: Vec<String> = Vec::new() => |rows| rows.iter().try_for_each(|row| pragma(row).map(drop)),
    }
}

words! {
    /// How large the log may become.
    pub enum Preset {
        /// As small machines like it.
        Safe = "safe",
        /// As busy ones do.
        Fast = "fast",
    }
}

impl Sqlite {
    /// What SQLite is told.
    pub fn tuning(&self) -> Tuning {
        let mut tuning = Tuning {
            wal_pages: match self.preset {
                Preset::Safe => Tuning::WAL_PAGES,
                Preset::Fast => Tuning::WAL_PAGES_FAST,
            },
            pragmas: Vec::new(),
        };
        // The check has refused rows that are none.
        for (name, value) in self.pragmas.iter().filter_map(|row| pragma(row).ok()) {
            match value.parse() {
                Ok(pages) if name == "wal_autocheckpoint" => tuning.wal_pages = pages,
                _ => tuning.pragmas.push((name, value)),
            }
        }
        tuning
    }
}

/// Whether a value fits, and what to write.
type Values = (fn(&str) -> bool, &'static str);

const SWITCH: Values = (|value| matches!(value, "on" | "off"), "on or off");

/// Those that cannot weaken a promise, nor make it slow to keep.
const KNOWN: [(&str, Values); 5] = [
    ("wal_autocheckpoint", (|value| is_within(value, 64, 65_536), "a number of pages from 64 to 65536")),
    ("journal_size_limit", (|value| is_within(value, 0, 1 << 30), "a number of bytes up to 1073741824")),
    ("secure_delete", (|value| matches!(value, "on" | "off" | "fast"), "on, off or fast")),
    ("cell_size_check", SWITCH),
    (
        "page_size",
        (
            |value| is_within(value, 1024, 65_536) && value.parse().is_ok_and(u64::is_power_of_two),
            "1024, 2048, 4096, 8192, 16384, 32768 or 65536",
        ),
    ),
];

/// Those that are said elsewhere, or are as they are for a reason.
const OTHERS: [(&str, &str); 9] = [
    (
        "synchronous",
        "is what storage.durability says: \"batched\" with promises = \"early\" is NORMAL, others are FULL",
    ),
    ("journal_mode", "is always WAL: leave it out"),
    ("locking_mode", "is always exclusive: leave it out"),
    ("mmap_size", "is always 0, as a disk that fails would end the server at once: leave it out"),
    ("cache_size", "is what storage.cache says: set that"),
    ("max_page_count", "is what storage.size_max says: set that"),
    ("temp_store", "is always MEMORY: leave it out"),
    ("busy_timeout", "has no use, as no other program can open the file: leave it out"),
    ("auto_vacuum", "is always INCREMENTAL, and `couplet compact` makes the file small: leave it out"),
];

/// Takes `secure_delete = on` apart.
fn pragma(row: &str) -> Result<(String, String), String> {
    let text = row.trim().to_ascii_lowercase();
    let text = text.strip_prefix("pragma ").unwrap_or(&text).trim_end_matches(';');
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{} has no value; write for example \"secure_delete = on\"", quote(row)))?;
    let (name, value) = (name.trim(), value.trim());
    if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Err(format!("{name} {why}"));
    }
    let Some((_, (fits, what))) = KNOWN.iter().find(|(known, _)| *known == name) else {
        let names = || KNOWN.iter().map(|(known, _)| *known);
        let hint = nearest(name, names()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let names = names().collect::<Vec<_>>().join(", ");
        return Err(format!("{} is none of the pragmas that can be set ({names}){hint}", quote(name)));
    };
    match fits(value) {
        true => Ok((name.to_string(), value.to_string())),
        false => Err(format!("{} does not fit {name}; write {what}", quote(value))),
    }
}

fn is_within(value: &str, least: u64, most: u64) -> bool {
    value.parse().is_ok_and(|number| (least..=most).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pragmas_that_keep_the_promises_are_taken() {
        assert_eq!(pragma(" PRAGMA Secure_Delete=ON; "), Ok(("secure_delete".into(), "on".into())));
        assert_eq!(pragma("page_size = 8192"), Ok(("page_size".into(), "8192".into())));
        for (row, said) in [
            ("synchronous = OFF", "storage.durability"),
            ("journal_mode = DELETE", "leave it out"),
            ("cache_size = -2000", "storage.cache"),
            ("secure_delet = on", "did you mean secure_delete?"),
            ("writable_schema = on", "none of the pragmas that can be set"),
            ("page_size = 5000", "write 1024, 2048"),
            ("page_size = 8192; PRAGMA synchronous = OFF", "does not fit"),
            ("wal_autocheckpoint = 0", "from 64 to 65536"),
            ("secure_delete", "has no value"),
        ] {
            let error = pragma(row).unwrap_err();
            assert!(error.contains(said), "{row}: {error}");
        }
    }

    #[test]
    fn what_is_told_follows_preset_and_pragmas() {
        let told = |preset, pragmas: &[&str]| {
            let pragmas = pragmas.iter().map(|row| row.to_string()).collect();
            Sqlite { preset, pragmas }.tuning()
        };
        assert_eq!(told(Preset::Safe, &[]), Tuning::default());
        assert_eq!(told(Preset::Fast, &[]).wal_pages, Tuning::WAL_PAGES_FAST);
        let tuned = told(Preset::Fast, &["wal_autocheckpoint = 1000", "secure_delete = fast"]);
        assert_eq!((tuned.wal_pages, tuned.pragmas), (1000, vec![("secure_delete".into(), "fast".into())]));
    }
}
