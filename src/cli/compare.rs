//! `normative compare`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use comfy_table::Cell;
use serde_json::json;

use crate::cli::request::{Format, ShapeArgs, placements};
use crate::cli::{Outcome, output};
use crate::error::Result;
use crate::execute::{Measurement, measure_on_same_weights};
use crate::fold::Graph;
use crate::op::Registry;
use crate::predict::predict;
use crate::profile::{Draws, Place, Profile, Quantity};
use crate::report::comparison::{self, Compared};
use crate::report::{BAND, Candidate, Fitness, band, write_file};
use crate::sample::sample;

#[derive(ClapArgs)]
pub struct Args {
    /// Two or more built-in placements or files.
    #[arg(required = true, num_args = 2..)]
    specs: Vec<String>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Draws from the exact law, for the bands in which single networks lie; 0 leaves them out.
    #[arg(long, default_value_t = 32)]
    draws: u32,
    /// The root of all random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Networks measured on the same weights, for differences; 0 leaves them out.
    #[arg(long, default_value_t = 16)]
    seeds: u32,
    /// Write the comparison as a page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[arg(long, default_value = "table")]
    format: Format,
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let placements = placements(&args.specs, registry)?;
    let resolved = placements.iter().map(|placement| args.shape.resolve(placement)).collect::<Result<Vec<_>>>()?;
    let graphs =
        placements.iter().map(|placement| args.shape.graph(placement, registry)).collect::<Result<Vec<_>>>()?;
    let mut measured = measured(args, &graphs)?.into_iter();
    let mut all = Vec::new();
    for case in placements.iter().zip(&resolved).zip(&graphs) {
        let ((placement, (setting, shape)), graph) = case;
        let sampled = match args.draws {
            0 => None,
            // What cannot be sampled is compared by its prediction alone.
            draws => sample(graph, draws as usize, args.seed).ok(),
        };
        let candidate = Candidate { placement, setting, shape: *shape };
        all.push(Compared { candidate, predicted: predict(graph)?, sampled, measured: measured.next() });
    }
    let sentences = comparison::sentences(&all, registry)?;
    if let Some(file) = &args.report {
        write_file(file, &comparison::page(&all, &sentences, &command(args))?)?;
    }
    match args.format {
        Format::Table => output::print(&format!("{}\n{}", table(&all), listed(&sentences)))?,
        Format::Json => output::print_json(&json!({
            "schema": "normative/comparison/1",
            "profiles": all.iter().map(|c| c.predicted.to_json()).collect::<Vec<_>>(),
            "sampled": all.iter().map(|c| c.sampled.as_ref().map(|d| d.profile().to_json())).collect::<Vec<_>>(),
            "measured": all.iter().map(|c| c.measured.as_ref().map(|d| d.profile().to_json())).collect::<Vec<_>>(),
            "fitness": all.iter().map(|c| Fitness::of(&c.predicted)).collect::<Vec<_>>(),
            "sentences": sentences,
        }))?,
    }
    Ok(Outcome::Held)
}

/// All networks on the same weights, where they have one shape; else none.
fn measured(args: &Args, graphs: &[Graph]) -> Result<Vec<Draws>> {
    let same = graphs.iter().all(|graph| graph.network.shape == graphs[0].network.shape);
    if args.seeds < 2 || !same {
        return Ok(Vec::new());
    }
    let how = Measurement { seeds: args.seeds as usize, first_seed: args.seed, ..Measurement::default() };
    measure_on_same_weights(&graphs.iter().collect::<Vec<_>>(), &how)
}

/// The command that gives the same.
fn command(args: &Args) -> String {
    let options = args.shape.given().into_iter().map(|(name, value)| format!(" --{name}={value}"));
    let options: String = options.collect();
    format!(
        "normative compare {}{options} --draws={} --seeds={} --seed={}",
        args.specs.join(" "),
        args.draws,
        args.seeds,
        args.seed
    )
}

fn listed(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("- {sentence}\n")).collect()
}

/// One row a quantity, one column a placement.
fn table(all: &[Compared]) -> String {
    let names = all.iter().map(|c| c.predicted.layout.placement.as_str());
    let mut table = output::table(&[""].into_iter().chain(names).collect::<Vec<_>>());
    let mut row = |name: &str, value: &dyn Fn(&Compared) -> Option<String>| {
        let cells = all.iter().map(|c| output::number(value(c).unwrap_or_else(|| "-".into())));
        table.add_row([Cell::new(name)].into_iter().chain(cells));
    };
    for (word, quantity) in [("second moment", Quantity::SecondMoment), ("overlap", Quantity::Overlap)] {
        row(&format!("{word} of x after the last block"), &|c| {
            Some(output::digits(*stream(&c.predicted, quantity).last()?))
        });
        row("  from block to block", &|c| Some(chart(&stream(&c.predicted, quantity))));
    }
    row("gradient at the raw input", &|c| {
        Some(output::digits(c.predicted.get(Place::Input, Quantity::Gradient)?.value?))
    });
    row(&format!("  {:.0}% of networks, sampled", 100.0 * BAND), &|c| {
        let [low, high] = band(c.sampled.as_ref()?, Place::Input, Quantity::Gradient)?;
        Some(format!("{} to {}", output::digits(low), output::digits(high)))
    });
    row("gradient of x from block to block", &|c| Some(chart(&stream(&c.predicted, Quantity::Gradient))));
    for name in ["w_2", "w_o", "w_q"] {
        row(&format!("gradient of {name}, first block over last"), &|c| {
            let all = parameter(&c.predicted, name);
            Some(output::digits(all.first()? / all.last()?))
        });
        row("  from block to block", &|c| Some(chart(&parameter(&c.predicted, name))));
    }
    let shape = all[0].predicted.layout.shape;
    format!(
        "{table}\npredicted at width {}, {} blocks, {} tokens; charts run from their own smallest to largest value, on a log scale\n",
        shape.width, shape.blocks, shape.tokens,
    )
}

/// The figures of stream x after each block's last statement, its start first.
fn stream(profile: &Profile, quantity: Quantity) -> Vec<f64> {
    let sites = &profile.layout.sites;
    let last = |s: usize| !sites[s + 1..].iter().any(|t| t.stream == "x" && t.block == sites[s].block);
    let chosen = (0..sites.len()).filter(|s| sites[*s].stream == "x" && last(*s));
    chosen.filter_map(|s| profile.get(Place::Site(s), quantity)?.value).collect()
}

/// The gradients of the matrix of this name, in order of evaluation.
fn parameter(profile: &Profile, name: &str) -> Vec<f64> {
    let points = profile.layout.parameters.iter().enumerate().filter(|(_, p)| p.parameter.name == name);
    points.filter_map(|(i, _)| profile.get(Place::Parameter(i), Quantity::Gradient)?.value).collect()
}

/// A line of at most 24 bars, on a log scale where all values are positive.
fn chart(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let log = values.iter().all(|v| *v > 0.0);
    let height = |v: f64| if log { v.ln() } else { v };
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(height(*v)), high.max(height(*v))));
    // Values that differ by rounding only are drawn flat.
    let span = (high - low).max(1e-3);
    let columns = values.len().min(24);
    let bar = |c: usize| {
        let v = values[c * (values.len() - 1) / columns.max(2).saturating_sub(1)];
        BARS[(((height(v) - low) / span * 7.0).round() as usize).min(7)]
    };
    (0..columns).map(bar).collect()
}
