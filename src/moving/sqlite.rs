//! Tables of an SQLite file (<https://www.sqlite.org/fileformat2.html>), read and never written.
//!
//! A reader of our own, because all that is wanted is the rows of two tables, one after the other and by their numbers,
//! in every tier that moves data. SQLite itself is in a binary only where it keeps the store (feature `sqlite`): it is
//! C, and larger than all of this folder. What it would do beyond that is asked of it: a file with a write-ahead log or
//! a journal that is not empty has to be opened by SQLite once.
//!
//! Every offset is checked, trees have a greatest depth, and no page of a tree is looked at more often than there are
//! pages in the file. Memory is one page for each level, and one row.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Levels of a tree: three of them hold more than any disk.
const DEPTH_MAX: usize = 24;
/// Bytes of one row.
const ROW_BYTES_MAX: u64 = 1 << 24;
/// Columns of one row.
const COLUMNS_MAX: usize = 256;

/// Why a file cannot be read on.
#[derive(Debug)]
pub enum SqliteError {
    /// The system says so.
    Io(io::Error),
    /// It is no file of SQLite, or of a kind that is not read.
    Foreign(&'static str),
    /// It is damaged, near that page.
    Damaged(u32),
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Foreign(what) => f.write_str(what),
            Self::Damaged(page) => write!(f, "it is damaged, near page {page}"),
        }
    }
}

impl std::error::Error for SqliteError {}

impl From<io::Error> for SqliteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes, or a text that is no UTF-8.
    Blob(Vec<u8>),
}

impl Cell {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Cell::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Int(n) => Some(*n as f64),
            Cell::Float(n) => Some(*n),
            Cell::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The page of its root.
    root: u32,
    /// Names of its columns, in their order.
    pub columns: Vec<String>,
}

impl TableInfo {
    /// Where a column stands.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// An open file.
#[derive(Debug)]
pub struct Database<R> {
    from: R,
    page_bytes: usize,
    /// Of a page, without what is reserved at its end.
    usable: usize,
    pages: u32,
}

/// A place in a tree: a page, and which of its cells comes next.
struct Level {
    page: Vec<u8>,
    number: u32,
    next: usize,
}

/// The rows of a table in the order of their numbers.
pub struct Rows {
    levels: Vec<Level>,
    seen: u32,
}

impl<R: Read + Seek> Database<R> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is none of SQLite's in UTF-8.
    pub fn open(mut from: R) -> Result<Self, SqliteError> {
        let mut head = [0; 100];
        from.seek(SeekFrom::Start(0))?;
        from.read_exact(&mut head).map_err(|_| SqliteError::Foreign("it is no file of SQLite"))?;
        if !head.starts_with(b"SQLite format 3\0") {
            return Err(SqliteError::Foreign("it is no file of SQLite"));
        }
        let page_bytes = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65_536,
            bytes => usize::from(bytes),
        };
        let usable = page_bytes.saturating_sub(usize::from(head[20]));
        if !page_bytes.is_power_of_two() || page_bytes < 512 || usable < 480 {
            return Err(SqliteError::Foreign("it is no file of SQLite"));
        }
        if head[56..60] != [0, 0, 0, 1] {
            return Err(SqliteError::Foreign("its texts are not UTF-8"));
        }
        let len = from.seek(SeekFrom::End(0))?;
        let pages = u32::try_from(len / page_bytes as u64).unwrap_or(u32::MAX);
        Ok(Self { from, page_bytes, usable, pages })
    }

    /// A table by its name; none when there is none of that name.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn table(&mut self, name: &str) -> Result<Option<TableInfo>, SqliteError> {
        let mut schema = self.rows_of(1)?;
        while let Some((_, row)) = self.next(&mut schema)? {
            // type, name, tbl_name, rootpage, sql
            let text = |at: usize| row.get(at).and_then(Cell::text).unwrap_or_default();
            if text(0) == "table" && text(1) == name {
                let root = if let Some(Cell::Int(root)) = row.get(3) { u32::try_from(*root).ok() } else { None };
                let root = root.ok_or(SqliteError::Damaged(1))?;
                return Ok(Some(TableInfo { root, columns: columns(text(4)) }));
            }
        }
        Ok(None)
    }

    /// The rows of a table, from the first.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn rows(&mut self, table: &TableInfo) -> Result<Rows, SqliteError> {
        self.rows_of(table.root)
    }

    fn rows_of(&mut self, root: u32) -> Result<Rows, SqliteError> {
        let page = self.page(root)?;
        Ok(Rows { levels: vec![Level { page, number: root, next: 0 }], seen: 0 })
    }

    /// The next row, with its number.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn next(&mut self, rows: &mut Rows) -> Result<Option<(i64, Vec<Cell>)>, SqliteError> {
        while let Some(level) = rows.levels.last_mut() {
            let head = Head::of(&level.page, level.number)?;
            let at = level.next;
            level.next += 1;
            if head.is_leaf {
                if at < head.cells {
                    let (page, number) = (std::mem::take(&mut level.page), level.number);
                    let row = self.row(&page, number, head.cell(&page, at));
                    if let Some(level) = rows.levels.last_mut() {
                        level.page = page;
                    }
                    return row.map(Some);
                }
                rows.levels.pop();
                continue;
            }
            let child = if at < head.cells {
                head.cell(&level.page, at).and_then(|cell| number(&level.page, cell))
            } else if at == head.cells {
                head.last
            } else {
                rows.levels.pop();
                continue;
            };
            let child = child.ok_or(SqliteError::Damaged(level.number))?;
            rows.seen += 1;
            if rows.levels.len() >= DEPTH_MAX || rows.seen > self.pages {
                return Err(SqliteError::Damaged(child));
            }
            let page = self.page(child)?;
            rows.levels.push(Level { page, number: child, next: 0 });
        }
        Ok(None)
    }

    /// The row of a number; none when there is none.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn row_of(&mut self, table: &TableInfo, wanted: i64) -> Result<Option<Vec<Cell>>, SqliteError> {
        let mut at = table.root;
        for _ in 0..DEPTH_MAX {
            let page = self.page(at)?;
            let head = Head::of(&page, at)?;
            let damaged = || SqliteError::Damaged(at);
            let key = |index: usize| {
                let cell = head.cell(&page, index)?;
                let start = if head.is_leaf { cell + varint(&page, cell)?.1 } else { cell + 4 };
                Some(varint(&page, start)?.0 as i64)
            };
            // The first cell whose number is not below the one that is wanted.
            let (mut low, mut high) = (0, head.cells);
            while low < high {
                let middle = usize::midpoint(low, high);
                if key(middle).ok_or_else(damaged)? < wanted { low = middle + 1 } else { high = middle }
            }
            if head.is_leaf {
                if low >= head.cells || key(low) != Some(wanted) {
                    return Ok(None);
                }
                return self.row(&page, at, head.cell(&page, low)).map(|(_, row)| Some(row));
            }
            let child =
                if low < head.cells { head.cell(&page, low).and_then(|cell| number(&page, cell)) } else { head.last };
            at = child.ok_or_else(damaged)?;
        }
        Err(SqliteError::Damaged(at))
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, SqliteError> {
        if number == 0 || number > self.pages {
            return Err(SqliteError::Damaged(number));
        }
        let mut page = vec![0; self.page_bytes];
        self.from.seek(SeekFrom::Start(u64::from(number - 1) * self.page_bytes as u64))?;
        self.from.read_exact(&mut page)?;
        Ok(page)
    }

    /// A row of a leaf (sections 1.6 and 2.1).
    fn row(&mut self, page: &[u8], number_of: u32, cell: Option<usize>) -> Result<(i64, Vec<Cell>), SqliteError> {
        let damaged = || SqliteError::Damaged(number_of);
        let cell = cell.ok_or_else(damaged)?;
        let (len, len_bytes) = varint(page, cell).ok_or_else(damaged)?;
        let (row, row_bytes) = varint(page, cell + len_bytes).ok_or_else(damaged)?;
        if len > ROW_BYTES_MAX {
            return Err(damaged());
        }
        let len = len as usize;
        let start = cell + len_bytes + row_bytes;
        // How much of it stands here.
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = match len {
            len if len <= most => len,
            len => Some(least + (len - least) % (self.usable - 4)).filter(|here| *here <= most).unwrap_or(least),
        };
        let mut payload = page.get(start..start + here).ok_or_else(damaged)?.to_vec();
        let mut next = if here < len { number(page, start + here) } else { None };
        while payload.len() < len {
            let page = self.page(next.ok_or_else(damaged)?)?;
            let more = (len - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(page.get(4..4 + more).ok_or_else(damaged)?);
            next = number(&page, 0);
        }
        let cells = cells(&payload).ok_or_else(damaged)?;
        Ok((row as i64, cells))
    }
}

/// What stands at the head of a page of a table (section 1.6).
struct Head {
    is_leaf: bool,
    cells: usize,
    /// Where the list of cells starts.
    list: usize,
    /// The page behind all cells, of one that is no leaf.
    last: Option<u32>,
}

impl Head {
    fn of(page: &[u8], number_of: u32) -> Result<Self, SqliteError> {
        // The first page has the head of the file before it.
        let at = if number_of == 1 { 100 } else { 0 };
        let head = page.get(at..at + 12).ok_or(SqliteError::Damaged(number_of))?;
        let is_leaf = match head[0] {
            0x0d => true,
            0x05 => false,
            _ => return Err(SqliteError::Damaged(number_of)),
        };
        let cells = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let last = (!is_leaf).then(|| u32::from_be_bytes([head[8], head[9], head[10], head[11]]));
        Ok(Self { is_leaf, cells, list: at + if is_leaf { 8 } else { 12 }, last })
    }

    fn cell(&self, page: &[u8], index: usize) -> Option<usize> {
        let at = self.list + index * 2;
        let bytes = page.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.last()?])))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// A number of one to nine bytes, and how many they are.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for index in 0..8 {
        let byte = *bytes.get(at + index)?;
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    Some(((value << 8) | u64::from(*bytes.get(at + 8)?), 9))
}

/// The values of a row (section 2.1).
fn cells(payload: &[u8]) -> Option<Vec<Cell>> {
    let (head_len, mut at) = varint(payload, 0)?;
    let head_len = usize::try_from(head_len).ok().filter(|len| *len <= payload.len())?;
    let (mut body, mut cells) = (head_len, Vec::new());
    while at < head_len {
        let (kind, bytes) = varint(payload, at)?;
        at += bytes;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        let value = payload.get(body..body.checked_add(len)?)?;
        body += len;
        // The sign stands in the first bit.
        let int = || {
            value.iter().fold(if value.first()? & 0x80 == 0 { 0_i64 } else { -1 }.into(), |n: Option<i64>, b| {
                Some((n? << 8) | i64::from(*b))
            })
        };
        cells.push(match kind {
            0 => Cell::Null,
            1..=6 => Cell::Int(int()?),
            7 => Cell::Float(f64::from_be_bytes(value.try_into().ok()?)),
            8 => Cell::Int(0),
            9 => Cell::Int(1),
            kind if kind % 2 == 1 => match std::str::from_utf8(value) {
                Ok(text) => Cell::Text(text.to_string()),
                Err(_) => Cell::Blob(value.to_vec()),
            },
            _ => Cell::Blob(value.to_vec()),
        });
        if cells.len() > COLUMNS_MAX {
            return None;
        }
    }
    Some(cells)
}

/// Names of the columns that `CREATE TABLE` names.
fn columns(sql: &str) -> Vec<String> {
    let Some((_, inside)) = sql.split_once('(') else { return Vec::new() };
    let (mut depth, mut names, mut start) = (0_u32, Vec::new(), 0);
    for (at, c) in inside.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => {
                let definition = inside.get(start..at).unwrap_or_default().trim();
                let quotes = ['"', '`', '[', ']', '\''];
                let name = definition.split_whitespace().next().unwrap_or_default().trim_matches(quotes);
                names.push(name.to_lowercase());
                start = at + 1;
                if c == ')' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}
