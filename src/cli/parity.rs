//! `normative parity`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::cli::request::Format;
use crate::cli::{Outcome, output, request};
use crate::error::Result;
use crate::op::Registry;
use crate::verify::{Parity, parity};

#[derive(ClapArgs)]
pub struct Args {
    /// Fixtures: recorded weights, outputs and gradients (properties/fixtures/README.md has the format).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// cpu or cuda:0.
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value = "table")]
    format: Format,
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let device = request::device(&args.device)?;
    let all = args.files.iter().map(|file| parity(file, registry, &device)).collect::<Result<Vec<Parity>>>()?;
    match args.format {
        Format::Table => output::print(&table(&all))?,
        Format::Json => output::print_json(&json!({
            "schema": "normative/parity/1",
            "fixtures": all.iter().map(record).collect::<Vec<_>>(),
        }))?,
    }
    Ok(if all.iter().any(Parity::differs) { Outcome::Refuted } else { Outcome::Held })
}

fn table(all: &[Parity]) -> String {
    let mut table = output::table(&["fixture", "framework", "tensors", "worst tensor", "error", "bound", ""]);
    for parity in all {
        let Some(worst) = parity.worst() else { continue };
        table.add_row([
            parity.file.as_str().into(),
            parity.framework.as_str().into(),
            output::number(parity.tensors.len()),
            worst.name.as_str().into(),
            output::number(format!("{:.1e}", worst.error)),
            output::number(format!("{:.1e}", worst.bound)),
            if parity.differs() { "DIFFERS".into() } else { "agrees".into() },
        ]);
    }
    let differing: Vec<String> = all
        .iter()
        .flat_map(|p| p.tensors.iter().filter(|t| t.differs()).map(move |t| (p, t)))
        .map(|(p, t)| format!("{}: {} differs by {:.1e}, rounding explains {:.1e}", p.file, t.name, t.error, t.bound))
        .collect();
    format!("{table}\n{}", differing.join("\n"))
}

fn record(parity: &Parity) -> serde_json::Value {
    json!({
        "file": parity.file,
        "placement": parity.placement,
        "framework": parity.framework,
        "agrees": !parity.differs(),
        "tensors": parity.tensors.iter().map(|t| json!({
            "name": t.name, "error": t.error, "bound": t.bound, "agrees": !t.differs(),
        })).collect::<Vec<_>>(),
    })
}
