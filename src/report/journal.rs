//! Records as a file that is only ever appended to: `records.jsonl`.
//!
//! An item's lines are written at once and closed by a line `done`; what stands after the last closed item when a run
//! goes on was cut off while it was written, and is judged again. One writer at a time.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::report::chain::Chain;
use crate::report::record::{Entry, Header, Record};

/// The name of the file in a report's folder.
pub const FILE: &str = "records.jsonl";

/// What an item came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Done(Vec<Entry>),
    /// It ended in an error.
    Failed(String),
}

/// The records of a run, whole or up to where it was cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    pub header: Header,
    /// By the item's key.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// A file of records that is being written.
pub struct Journal {
    file: File,
    path: PathBuf,
    chain: Chain,
    /// Bytes up to the last closed item.
    length: u64,
    entries: usize,
    complete: bool,
}

/// What was read of a file.
struct Contents {
    records: Option<Records>,
    chain: Chain,
    /// Bytes up to the last closed item.
    length: u64,
    entries: usize,
    complete: bool,
}

impl Journal {
    /// Starts the records of a run in a folder, or goes on with those that are there.
    ///
    /// Gives what is done already. A tail that was cut off is dropped.
    ///
    /// # Errors
    /// A folder that cannot be written, records of another run, damaged records, another process that writes here.
    pub fn open(folder: &Path, header: Header) -> Result<(Journal, Records)> {
        std::fs::create_dir_all(folder).map_err(|e| file_error(folder, &e, WRITABLE))?;
        let path = folder.join(FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|e| file_error(&path, &e, WRITABLE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::File {
                    path,
                    cause: "another run is writing these records".into(),
                    help: "wait for it to end, or choose another folder".into(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(file_error(&path, &e, WRITABLE)),
        }
        let found = contents(&path, &mut file)?;
        let Contents { records, chain, length, entries, complete } = found;
        let mut journal = Journal { file, path, chain, length, entries, complete };
        journal.cut()?;
        let records = match records {
            Some(records) => match header.difference(&records.header) {
                None => records,
                Some(difference) => {
                    return Err(Error::File {
                        path: journal.path,
                        cause: format!("these are the records of another run: {difference}"),
                        help: "choose another folder for this run, or remove that file".into(),
                    });
                }
            },
            None => {
                journal.write(&[Record::Header(Box::new(header.clone()))])?;
                Records::new(header)
            }
        };
        Ok((journal, records))
    }

    /// Appends what an item came to; it is on the disk when this returns.
    pub fn append(&mut self, item: &str, outcome: &Outcome) -> Result<()> {
        let closing = match outcome {
            Outcome::Done(entries) => Record::Done { item: item.into(), entries: entries.len() },
            Outcome::Failed(message) => Record::Failed { item: item.into(), message: message.clone() },
        };
        let entries = match outcome {
            Outcome::Done(entries) => entries.as_slice(),
            Outcome::Failed(_) => &[],
        };
        let mut lines: Vec<Record> = entries.iter().map(|entry| Record::Result(Box::new(entry.clone()))).collect();
        lines.push(closing);
        self.write(&lines)?;
        self.entries += entries.len();
        Ok(())
    }

    /// Writes the last line, once every item is done.
    pub fn finish(&mut self, records: &Records) -> Result<()> {
        if !self.complete && records.missing().next().is_none() {
            self.write(&[Record::Footer { items: records.header.items.len(), entries: self.entries }])?;
            self.complete = true;
        }
        Ok(())
    }

    /// One write, then to the disk; after a failure the file is as before.
    fn write(&mut self, records: &[Record]) -> Result<()> {
        let before = self.chain.clone();
        let mut text = String::new();
        for record in records {
            let object = serde_json::to_string(record).map_err(|e| Error::File {
                path: self.path.clone(),
                cause: format!("a record cannot be written as JSON: {e}"),
                help: "this is a defect of normative".into(),
            })?;
            text += &self.chain.seal(&object);
            text.push('\n');
        }
        match self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(cause) => {
                self.chain = before;
                // What cannot be taken back now is dropped when the run goes on.
                let _ = self.cut();
                Err(file_error(&self.path, &cause, "free space, then run the same command: it goes on from here"))
            }
        }
    }

    /// Drops what stands after the last closed item.
    fn cut(&mut self) -> Result<()> {
        let cut = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        cut.map(drop).map_err(|e| file_error(&self.path, &e, WRITABLE))
    }
}

impl Records {
    /// Those of a run that has judged nothing yet.
    pub fn new(header: Header) -> Records {
        Records { header, outcomes: BTreeMap::new() }
    }

    /// The records of a folder.
    ///
    /// # Errors
    /// A folder without records, and records that are not as they were written.
    pub fn read(folder: &Path) -> Result<Records> {
        let path = folder.join(FILE);
        let mut file = File::open(&path)
            .map_err(|e| file_error(&path, &e, "`normative verify --report DIR` writes records into DIR"))?;
        contents(&path, &mut file)?.records.ok_or_else(|| Error::File {
            path,
            cause: "there is no whole line".into(),
            help: "run `normative verify --report DIR` again: it starts anew".into(),
        })
    }

    /// The keys of the items that are not done, failed ones among them.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let done = |key: &&String| matches!(self.outcomes.get(*key), Some(Outcome::Done(_)));
        self.header.items.iter().filter(move |key| !done(key)).map(String::as_str)
    }
}

/// Reads all lines up to a tail that was cut off: one without its end of line, or lines of an item that is not closed.
fn contents(path: &Path, file: &mut File) -> Result<Contents> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| file_error(path, &e, "the disk may be failing"))?;
    let damaged = |number: usize, what: &str| Error::File {
        path: path.into(),
        cause: format!("line {number} {what}"),
        help: "these records cannot be trusted; start again in another folder".into(),
    };
    let mut found = Contents { records: None, chain: Chain::default(), length: 0, entries: 0, complete: false };
    let mut chain = Chain::default();
    let mut open: Vec<Entry> = Vec::new();
    let mut at = 0;
    for (number, line) in (1..).zip(bytes.split_inclusive(|b| *b == b'\n')) {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        at += line.len() as u64 + 1;
        let object = chain.open(line).map_err(|broken| damaged(number, broken.words()))?;
        let record = serde_json::from_str(&object).map_err(|e| damaged(number, &format!("cannot be read: {e}")))?;
        let misplaced = || damaged(number, "stands where it cannot");
        match (record, &mut found.records) {
            (Record::Header(header), none @ None) => {
                *none = Some(Records::new(*header));
            }
            (Record::Result(entry), Some(_)) if !found.complete => {
                open.push(*entry);
                continue;
            }
            (Record::Done { item, entries }, Some(records)) if entries == open.len() && !found.complete => {
                found.entries += entries;
                records.outcomes.insert(item, Outcome::Done(std::mem::take(&mut open)));
            }
            (Record::Failed { item, message }, Some(records)) if open.is_empty() && !found.complete => {
                records.outcomes.insert(item, Outcome::Failed(message));
            }
            (Record::Footer { items, entries }, Some(records))
                if (items, entries) == (records.header.items.len(), found.entries)
                    && !found.complete
                    && records.missing().next().is_none() =>
            {
                found.complete = true;
            }
            _ => return Err(misplaced()),
        }
        (found.length, found.chain) = (at, chain.clone());
    }
    Ok(found)
}

const WRITABLE: &str = "choose a folder that can be written";

fn file_error(path: &Path, cause: &std::io::Error, help: &str) -> Error {
    Error::File { path: path.into(), cause: cause.to_string(), help: help.into() }
}
