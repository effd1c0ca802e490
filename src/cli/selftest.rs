//! `normative selftest`

use std::path::PathBuf;

use candle_core::Device;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use crate::cli::request::Format;
use crate::cli::{Outcome, output, request, verify};
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
    if !device.is_cpu() {
        probes.push(same_verdicts(&args.device, registry)?);
    }
    let timings = speed(&device)?;
    let record = record(args, &device, &probes, &timings);
    if let Some(path) = &args.record {
        let text = serde_json::to_string_pretty(&record).expect("a JSON value has only string keys");
        std::fs::write(path, text + "\n").map_err(|e| Error::File {
            path: path.clone(),
            cause: e.to_string(),
            help: "give a file in a folder that exists and can be written".into(),
        })?;
    }
    match args.format {
        Format::Table => output::print(&(table(&device, &probes) + &speeds(&timings)))?,
        Format::Json => output::print_json(&record)?,
    }
    Ok(if probes.iter().any(Probe::differs) { Outcome::Refuted } else { Outcome::Held })
}

/// The quick tier of claims over the whole zoo has the same verdicts on the device and on the host; on the host itself it
/// could not fail, and is not run.
fn same_verdicts(device: &str, registry: &Registry) -> Result<Probe> {
    let (ours, theirs) = (verify::whole_zoo(device, registry)?, verify::whole_zoo("cpu", registry)?);
    let pairs: Vec<_> = ours.findings().zip(theirs.findings()).collect();
    let different: Vec<String> = pairs
        .iter()
        .filter(|(a, b)| (&a.claim, &a.placement, a.verdict) != (&b.claim, &b.placement, b.verdict))
        .map(|(a, b)| {
            let place = a.placement.as_deref().unwrap_or("no placement");
            format!("{} on {place}: {} here, {} on the host", a.claim, a.verdict.word(), b.verdict.word())
        })
        .collect();
    let same_number = ours.findings().count() == theirs.findings().count();
    Ok(Probe {
        part: Part::Verdicts,
        name: format!("{} verdicts", pairs.len()),
        result: if different.is_empty() { "the same".into() } else { different.join("; ") },
        error: if same_number { different.len() as f64 } else { f64::NAN },
        bound: 0.0,
    })
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

/// What one kernel did on this device, beside a copy of the same bytes in the same run.
struct Speed {
    kernel: &'static str,
    dtype: &'static str,
    rows: usize,
    width: usize,
    /// Of the fewest bytes that the kernel reads and writes, a second.
    gigabytes: f64,
    /// Relative to the copy.
    of_copy: f64,
}

/// The kernels' speed; nothing on the host, where benches/kernels.rs measures it.
#[cfg(feature = "cuda")]
fn speed(device: &Device) -> Result<Vec<Speed>> {
    use crate::kernels::cuda::{Timing, bench};
    if device.is_cpu() {
        return Ok(Vec::new());
    }
    let timings = bench(device).map_err(Error::at("the kernels' speed"))?;
    let rate = |t: &Timing| t.bytes as f64 / t.seconds / 1e9;
    let copy = |t: &Timing| {
        let same = |c: &&Timing| c.kernel == "copy" && (c.dtype, c.width, c.rows) == (t.dtype, t.width, t.rows);
        timings.iter().find(same).map_or(f64::NAN, rate)
    };
    let one = |t: &Timing| Speed {
        kernel: t.kernel,
        dtype: t.dtype.as_str(),
        rows: t.rows,
        width: t.width,
        gigabytes: rate(t),
        of_copy: rate(t) / copy(t),
    };
    Ok(timings.iter().map(one).collect())
}

#[cfg(not(feature = "cuda"))]
fn speed(_: &Device) -> Result<Vec<Speed>> {
    Ok(Vec::new())
}

fn speeds(speeds: &[Speed]) -> String {
    if speeds.is_empty() {
        return String::new();
    }
    let mut table = output::table(&["kernel", "dtype", "rows", "width", "GB/s", "of a copy"]);
    for s in speeds {
        table.add_row([
            s.kernel.to_owned(),
            s.dtype.to_owned(),
            s.rows.to_string(),
            s.width.to_string(),
            format!("{:.0}", s.gigabytes),
            format!("{:.2}", s.of_copy),
        ]);
    }
    format!("\n{table}\n")
}

fn record(args: &Args, device: &Device, probes: &[Probe], speeds: &[Speed]) -> Value {
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
        "speeds": speeds.iter().map(|s| json!({
            "kernel": s.kernel, "dtype": s.dtype, "rows": s.rows, "width": s.width,
            "gigabytes_per_second": s.gigabytes, "of_copy": s.of_copy,
        })).collect::<Vec<_>>(),
    })
}
