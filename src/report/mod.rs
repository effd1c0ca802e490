//! Results that people read, send and keep: records first, then pages made from records only.
//!
//! [`run`] judges the items of a plan and writes [`Journal`]; [`Records`] are what a page is made from. Knows nothing of
//! the command line.

mod chain;
mod check;
mod curves;
mod environment;
mod journal;
mod limits;
mod page;
mod record;
mod run;
mod sheet;
mod summary;
mod view;
pub mod words;

pub use check::{Checked, check};
pub use curves::{BAND, Curve, Curves, Point, band};
pub use environment::Environment;
pub use journal::{FILE, Journal, Outcome, Records};
pub use limits::Limit;
pub use page::{junit, markdown, write, write_file};
pub use record::{Entry, FamilyOfClaims, Header, Judged, Stated};
pub use run::{Work, curves_of, run};
pub use summary::{Cell, ClaimResult, Counts, Standing, Summary};
pub use view::json;
