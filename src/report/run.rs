//! Judges the items of a run on all cores, each written down as it is done.

use std::sync::Mutex;
use std::sync::mpsc;

use crate::claims::{Item, Lab};
use crate::error::{Error, Result};
use crate::report::curves;
use crate::report::journal::{Journal, Outcome, Records};
use crate::report::record::Entry;

/// A piece of work of a run.
pub struct Work {
    /// Unique in a run and the same in every run of one plan.
    pub key: String,
    pub work: Box<Task>,
}

/// Gives the entries of one item; may be called from any thread.
pub type Task = dyn Fn(&Lab) -> Result<Vec<Entry>> + Send + Sync;

impl From<Item> for Work {
    fn from(item: Item) -> Self {
        let key = item.key.clone();
        let work = move |lab: &Lab| Ok(item.judged(lab)?.into_iter().map(Entry::Finding).collect());
        Work { key, work: Box::new(work) }
    }
}

/// The curves of every placement of a run, for its report.
pub fn curves_of(lab: &Lab) -> Vec<Work> {
    let of = |index: usize| Work {
        key: format!("curves @ {}", lab.subjects[index].spec),
        work: Box::new(move |lab: &Lab| Ok(vec![Entry::Curves(curves::draw(lab, &lab.subjects[index])?)])),
    };
    (0..lab.subjects.len()).map(of).collect()
}

/// Judges what the records do not have yet; `report` is told of every item that is done.
///
/// As many items at once as there are threads, in the order of the plan. An item that ends in an error is recorded as
/// failed, and the others go on.
///
/// # Errors
/// Records that cannot be written; else the first error of an item, after all others are done.
pub fn run(
    works: &[Work],
    lab: &Lab,
    records: &mut Records,
    mut journal: Option<&mut Journal>,
    mut report: impl FnMut(&str),
) -> Result<()> {
    let done = |work: &&Work| matches!(records.outcomes.get(&work.key), Some(Outcome::Done(_)));
    let waiting = Mutex::new(works.iter().filter(|work| !done(work)).collect::<Vec<_>>().into_iter());
    let next = &|| waiting.lock().ok()?.next();
    let mut first: Option<Error> = None;
    let written = std::thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..rayon::current_num_threads() {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(work) = next() {
                    // A receiver that is gone has ended the run.
                    if sender.send((work, (work.work)(lab))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (work, result) in results {
            let outcome = match result {
                Ok(entries) => Outcome::Done(entries),
                Err(error) => {
                    let outcome = Outcome::Failed(error.to_string());
                    first.get_or_insert(error);
                    outcome
                }
            };
            if let Some(journal) = &mut journal {
                journal.append(&work.key, &outcome)?;
            }
            report(&work.key);
            records.outcomes.insert(work.key.clone(), outcome);
        }
        Ok(())
    });
    written?;
    if records.missing().next().is_none() {
        journal.map_or(Ok(()), |journal| journal.finish(records))?;
        records.complete = true;
    }
    first.map_or(Ok(()), Err)
}
