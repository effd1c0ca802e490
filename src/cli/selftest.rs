//! `normative selftest`

use std::path::PathBuf;

use candle_core::Device;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use crate::cli::request::Format;
use crate::cli::{Outcome, output, request};
use crate::error::{Error, Result};
use crate::execute::describe;
use crate::op::Registry;
use crate::verify::{Part, Probe, selftest};

#[derive(ClapArgs)]
pub struct Args {
    /// cpu or cuda:0.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The folder of recorded networks; left out where it does not exist and was not asked for.
    #[arg(long)]
    fixtures: Option<PathBuf>,
    /// Writes the record, as JSON, to a file as well.
    #[arg(long)]
    record: Option<PathBuf>,
    #[arg(long, default_value = "table")]
    format: Format,
}

/// Where the repository has its recorded networks.
const FIXTURES: &str = "properties/fixtures";

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let device = request::device(&args.device)?;
    let folder = match &args.fixtures {
        Some(folder) => Some(folder.clone()),
        None => Some(PathBuf::from(FIXTURES)).filter(|folder| folder.is_dir()),
    };
    let mut probes = selftest::weights(registry, &device)?;
    probes.extend(selftest::ops(registry, &device)?);
    probes.extend(selftest::placements(registry, &device)?);
    if let Some(folder) = &folder {
        probes.extend(selftest::fixtures(folder, registry, &device)?);
    }
    probes.extend(selftest::repeats(registry, &device)?);
    let record = record(args, &device, &probes);
    if let Some(path) = &args.record {
        let text = serde_json::to_string_pretty(&record).expect("a JSON value has only string keys");
        std::fs::write(path, text + "\n").map_err(|e| Error::File {
            path: path.clone(),
            cause: e.to_string(),
            help: "give a file in a folder that exists and can be written".into(),
        })?;
    }
    match args.format {
        Format::Table => output::print(&table(&device, &probes))?,
        Format::Json => output::print_json(&record)?,
    }
    Ok(if probes.iter().any(Probe::differs) { Outcome::Refuted } else { Outcome::Held })
}

fn table(device: &Device, probes: &[Probe]) -> String {
    let mut table = output::table(&["on the device", "compared", "differ", "nearest to its bound", "error", "bound"]);
    for part in Part::ALL {
        let of = || probes.iter().filter(|probe| probe.part == part);
        let Some(worst) = of().max_by(|a, b| a.ratio().total_cmp(&b.ratio())) else {
            table.add_row([part.word(), "not run", "", "", "", ""]);
            continue;
        };
        table.add_row([
            part.word().to_owned(),
            of().count().to_string(),
            of().filter(|probe| probe.differs()).count().to_string(),
            format!("{}: {}", worst.name, worst.result),
            format!("{:.1e}", worst.error),
            format!("{:.1e}", worst.bound),
        ]);
    }
    let mut text = format!("{}\n{table}\n", describe(device));
    for probe in probes.iter().filter(|probe| probe.differs()) {
        let Probe { name, result, error, bound, .. } = probe;
        text +=
            &format!("DIFFERS: {} {name}: {result} by {error:.1e}, rounding explains {bound:.1e}\n", probe.part.word());
    }
    text
}

fn record(args: &Args, device: &Device, probes: &[Probe]) -> Value {
    let one = |probe: &Probe| {
        json!({
            "part": probe.part.word(), "name": probe.name, "result": probe.result,
            "error": probe.error, "bound": probe.bound, "differs": probe.differs(),
        })
    };
    json!({
        "schema": "normative/selftest/1",
        "version": env!("CARGO_PKG_VERSION"),
        "device": args.device,
        "device_name": describe(device),
        "differ": probes.iter().filter(|probe| probe.differs()).count(),
        "probes": probes.iter().map(one).collect::<Vec<_>>(),
    })
}
