//! `normative verify`

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::claims::{Battery, Experiments, Lab, Subject, Tier};
use crate::cli::request::{DeviceArgs, Format, ShapeArgs, named, placements};
use crate::cli::{Outcome, output, verdicts};
use crate::error::Result;
use crate::op::Registry;
use crate::report::{self, Environment, Header, Journal, Records, Work, curves_of};
use crate::spec::Placement;
use crate::verify::generated_shapes;

/// Seeds at each generated shape.
const SEEDS_PER_SHAPE: usize = 32;

const SEEDS: u32 = 64;

#[derive(ClapArgs)]
pub struct Args {
    /// Built-in placements or files; all built-in ones if none is given.
    specs: Vec<String>,
    /// Only claims whose id is of this form, * for any text: growth.*
    #[arg(long, value_name = "GLOB")]
    claim: Option<String>,
    /// How much of each claim's domain is tried.
    #[arg(long, default_value = "quick")]
    tier: TierArg,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Networks measured at the shape asked for.
    #[arg(long, default_value_t = SEEDS, value_parser = clap::value_parser!(u32).range(2..))]
    seeds: u32,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Generated shapes at which each placement is tried besides, with tokens, heads, depth and causality varied
    /// [default: 12, in the full tier 40].
    #[arg(long)]
    shapes: Option<u32>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write records and a report there; a run that was cut off goes on from its records.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write the verdicts as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TierArg {
    Quick,
    Full,
}

impl TierArg {
    /// Shapes that are generated where the command line does not say how many.
    fn shapes(self) -> u32 {
        match self {
            TierArg::Quick => 12,
            TierArg::Full => 40,
        }
    }
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let (records, ran) = judged(args, registry)?;
    // Pages are written also where the run did not end; what stopped it is said first.
    let pages = pages(args, &records);
    ran?;
    pages?;
    match args.format {
        Format::Table => output::print(&verdicts::text(&records))?,
        Format::Json => output::print_json(&report::json(&records))?,
    }
    Ok(verdicts::outcome(&records))
}

/// The report's folder and the JUnit file, where they are asked for.
fn pages(args: &Args, records: &Records) -> Result<()> {
    if let Some(folder) = &args.report {
        report::write(folder, records)?;
    }
    match &args.junit {
        Some(file) => report::write_file(file, &report::junit(records)?),
        None => Ok(()),
    }
}

/// The records of the quick tier over the whole zoo on a device, as the command without further options has them.
///
/// # Errors
/// Those of the command.
pub fn whole_zoo(device: &str, registry: &Registry) -> Result<Records> {
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }
    let Alone { args } = clap::Parser::parse_from(["verify", "--device", device]);
    let (records, ran) = judged(&args, registry)?;
    ran.map(|()| records)
}

/// Plans, judges and records; what was judged is there also where an item failed.
fn judged(args: &Args, registry: &Registry) -> Result<(Records, Result<()>)> {
    let device = args.device.device()?;
    let subjects = subjects(args, placements(&args.specs, registry)?)?;
    let lab = Lab {
        registry,
        subjects: &subjects,
        device,
        dtype: args.device.dtype(),
        tier: match args.tier {
            TierArg::Quick => Tier::Quick,
            TierArg::Full => Tier::Full,
        },
        seed: args.seed,
        seeds: args.seeds as usize,
        seeds_per_shape: SEEDS_PER_SHAPE,
        times: 1,
        experiments: Experiments::default(),
    };
    let battery = Battery::matching(args.claim.as_deref())?;
    let items = battery.plan(&lab, args.specs.is_empty() || args.claim.is_some())?;
    let mut works: Vec<Work> = items.into_iter().map(Work::from).collect();
    if args.report.is_some() {
        works.extend(curves_of(&lab));
    }
    let keys = works.iter().map(|work| work.key.clone()).collect();
    let environment = Environment::here(&args.device.device, &named(args.device.dtype));
    let header = Header::new(environment, command(args), &lab, &battery.claims, keys)?;
    let (mut journal, mut records) = match &args.report {
        Some(folder) => {
            let (journal, records) = Journal::open(folder, header)?;
            (Some(journal), records)
        }
        None => (None, Records::new(header)),
    };
    let bar = ProgressBar::new(records.missing().count() as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} {wide_msg}").expect("the template is a constant"),
    );
    let ran = report::run(&works, &lab, &mut records, journal.as_mut(), |key| {
        bar.set_message(key.to_owned());
        bar.inc(1);
    });
    bar.finish_and_clear();
    Ok((records, ran))
}

/// The placements at the shape and in the setting asked for, each checked before anything runs.
fn subjects(args: &Args, placements: Vec<Placement>) -> Result<Vec<Subject>> {
    let shapes = generated_shapes(args.shapes.unwrap_or(args.tier.shapes()) as usize, args.seed);
    let subject = |(index, placement): (usize, Placement)| {
        let (setting, shape) = args.shape.resolve(&placement)?;
        let generated: Vec<_> = shapes.iter().map(|shape| args.shape.fixed(&placement, *shape)).collect();
        for shape in std::iter::once(&shape).chain(&generated) {
            placement.at(*shape)?;
        }
        let spec = args.specs.get(index).unwrap_or(&placement.name).clone();
        Ok(Subject { spec, placement, setting, shape, generated })
    };
    placements.into_iter().enumerate().map(subject).collect()
}

/// The command that makes the same records, without where it writes them.
fn command(args: &Args) -> String {
    let mut words = vec!["normative verify".to_owned()];
    words.extend(args.specs.iter().cloned());
    let mut option = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("--{name}={value}")));
    option("claim", args.claim.as_ref().map(|glob| format!("'{glob}'")));
    option("tier", (args.tier != TierArg::Quick).then(|| named(args.tier)));
    for (name, value) in args.shape.given().into_iter().chain(args.device.given()) {
        option(name, Some(value));
    }
    option("seeds", (args.seeds != SEEDS).then(|| args.seeds.to_string()));
    option("seed", (args.seed != 0).then(|| args.seed.to_string()));
    option("shapes", args.shapes.map(|shapes| shapes.to_string()));
    words.join(" ")
}
