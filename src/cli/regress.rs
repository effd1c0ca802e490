//! `normative regress`

use std::path::PathBuf;

use candle_core::{DType, Device};
use clap::{Args as ClapArgs, FromArgMatches};
use serde_json::json;

use crate::cli::baseline::file_of;
use crate::cli::request::{Format, ShapeArgs, device, dtype, placements};
use crate::cli::{Outcome, output};
use crate::error::{Error, Result};
use crate::execute::{Measurement, measure};
use crate::op::Registry;
use crate::report::words::digits;
use crate::report::{Baseline, How, Moved};
use crate::spec::Placement;

#[derive(ClapArgs)]
pub struct Args {
    /// Built-in placements or files; all built-in ones if none is given.
    specs: Vec<String>,
    /// The file, or the folder of files, that `normative baseline save` wrote.
    #[arg(long, value_name = "PATH")]
    baseline: PathBuf,
    /// Other networks than the baseline's: compared by overlap of intervals, which shows less.
    #[arg(long)]
    seed: Option<u64>,
    /// How many of them [default: as many as the baseline has].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    seeds: Option<u32>,
    /// cpu or cuda:0.
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, default_value = "table")]
    format: Format,
}

/// A variant against its baseline.
struct Compared {
    placement: String,
    figures: usize,
    same_networks: bool,
    moved: Vec<Moved>,
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let placements = placements(&args.specs, registry)?;
    let device = device(&args.device)?;
    // Every baseline is read before anything is measured.
    let read = |placement| Kept::read(args, placement, placements.len());
    let kept = placements.iter().map(read).collect::<Result<Vec<_>>>()?;
    let all = kept.iter().map(|kept| compare(args, kept, &device, registry)).collect::<Result<Vec<_>>>()?;
    match args.format {
        Format::Table => output::print(&all.iter().map(text).collect::<String>())?,
        Format::Json => output::print_json(&json!({
            "schema": "normative/regression/1",
            "variants": all.iter().map(|c| json!({
                "placement": c.placement, "figures": c.figures, "same_networks": c.same_networks, "moved": c.moved,
            })).collect::<Vec<_>>(),
        }))?,
    }
    Ok(if all.iter().any(|compared| !compared.moved.is_empty()) { Outcome::Refuted } else { Outcome::Held })
}

/// A variant with its baseline, as it was read.
struct Kept<'a> {
    placement: &'a Placement,
    baseline: Baseline,
    shape: ShapeArgs,
    dtype: DType,
}

impl<'a> Kept<'a> {
    fn read(args: &Args, placement: &'a Placement, placements: usize) -> Result<Kept<'a>> {
        let file = file_of(&args.baseline, placement, placements)?;
        let baseline = Baseline::read(&file)?;
        let wrong = |cause: String| Error::File {
            path: file.clone(),
            cause,
            help: "write it anew with `normative baseline save --replace`".into(),
        };
        if baseline.placement != placement.name {
            return Err(wrong(format!("this is the baseline of {}, not of {}", baseline.placement, placement.name)));
        }
        let how = &baseline.measured;
        let shape = shape(&how.options).map_err(wrong)?;
        let dtype = dtype(&how.dtype).ok_or_else(|| wrong(format!("unknown dtype \"{}\"", how.dtype)))?;
        Ok(Kept { placement, baseline, shape, dtype })
    }
}

fn compare(args: &Args, kept: &Kept, device: &Device, registry: &Registry) -> Result<Compared> {
    let Kept { placement, baseline, shape, dtype } = kept;
    let before = &baseline.measured;
    let how = How {
        seed: args.seed.unwrap_or(before.seed),
        seeds: args.seeds.map_or(before.seeds, |seeds| seeds as usize),
        ..before.clone()
    };
    let measurement = Measurement { seeds: how.seeds, first_seed: how.seed, device: device.clone(), dtype: *dtype };
    let now = measure(&shape.graph(placement, registry)?, &measurement)?.profile();
    Ok(Compared {
        placement: placement.name.clone(),
        figures: baseline.figures.len(),
        same_networks: (how.seed, how.seeds) == (before.seed, before.seeds),
        moved: baseline.moved(&now, &how),
    })
}

/// The shape and setting that a baseline's options give, read as the command line is.
fn shape(options: &[String]) -> std::result::Result<ShapeArgs, String> {
    let command = ShapeArgs::augment_args(clap::Command::new("baseline").no_binary_name(true));
    let matches = command.try_get_matches_from(options).map_err(|e| e.to_string())?;
    ShapeArgs::from_arg_matches(&matches).map_err(|e| e.to_string())
}

fn text(compared: &Compared) -> String {
    let Compared { placement, figures, same_networks, moved } = compared;
    let networks = if *same_networks { "the same networks" } else { "other networks" };
    let Some(first) = moved.first() else {
        return format!("{placement}: unchanged, {figures} figures of {networks}\n");
    };
    let number = |value: Option<f64>| value.map_or("no number".into(), digits);
    let change = match (first.before, first.now) {
        (Some(before), Some(now)) if before != 0.0 => format!(" ({:+.2}%)", 100.0 * (now / before - 1.0)),
        _ => String::new(),
    };
    format!(
        "{placement}: moved first at {}: {} -> {}{change}, more than the {} that {} explains; {} of {figures} figures moved\n",
        first.figure,
        number(first.before),
        number(first.now),
        digits(first.reach),
        if *same_networks { "rounding" } else { "chance" },
        moved.len(),
    )
}
