//! `normative report`

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::cli::request::Format;
use crate::cli::{Outcome, output, verdicts};
use crate::error::Result;
use crate::report::{self, Records};

#[derive(ClapArgs)]
pub struct Args {
    /// The folder that `verify --report` wrote.
    folder: PathBuf,
    /// Recompute every verdict from the raw numbers of its record, and write nothing.
    #[arg(long)]
    check: bool,
    #[arg(long, default_value = "table")]
    format: Format,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let records = Records::read(&args.folder)?;
    if args.check {
        let checked = report::check(&records);
        output::print(&checked.text())?;
        return Ok(if checked.differences.is_empty() { Outcome::Held } else { Outcome::Refuted });
    }
    report::write(&args.folder, &records)?;
    match args.format {
        Format::Table => output::print(&verdicts::text(&records))?,
        Format::Json => output::print_json(&report::json(&records))?,
    }
    Ok(verdicts::outcome(&records))
}
