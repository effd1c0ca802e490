//! Results that people read, send and keep: records first, then pages made from records only.
//!
//! [`run`] judges the items of a plan and writes [`Journal`]; [`Records`] are what a page is made from. Knows nothing of
//! the command line.

mod advice;
mod baseline;
mod chain;
mod check;
pub mod comparison;
mod curves;
mod environment;
mod journal;
mod limits;
mod page;
mod plot;
mod record;
mod run;
mod score;
mod sheet;
mod summary;
mod view;
pub mod words;

pub use advice::{Candidate, Fitness, advice};
pub use baseline::{Baseline, How, Moved};
pub use check::{Checked, check};
pub use curves::{BAND, Curve, Curves, Point, band};
pub use environment::Environment;
pub use journal::{FILE, Journal, Outcome, Records};
pub use limits::Limit;
pub use page::{html, junit, markdown, write, write_file};
pub use record::{Entry, FamilyOfClaims, Header, Judged, Stated};
pub use run::{Work, curves_of, run};
pub use score::{Planted, Score};
pub use summary::{Cell, ClaimResult, Counts, Standing, Summary};
pub use view::json;
