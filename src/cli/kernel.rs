//! `normative kernel`

use std::path::{Path, PathBuf};

use candle_core::DType;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use crate::cli::request::Format;
use crate::cli::{Outcome, output};
use crate::error::{Error, Result, nearest};
use crate::kernels::Cast;
use crate::op::{Registry, Role};
use crate::verify::Verdict;
use crate::verify::conformance::{
    CANDLE, Check, Counterexample, Demand, Formula, Group, KERNELS, OfOp, Part, Probe, Recording, Report, Request,
    Subject, corpus, examine, write_probes,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A normalizer of the registry, candle:layer_norm, candle:rms_norm (and ..._slow), kernel:layer_norm,
    /// kernel:rms_norm, or a file recorded from any framework (benches/peer/record_norm.py).
    #[arg(required_unless_present = "write_probes")]
    subject: Option<String>,
    /// What it should compute [default: what its name says, else whatever convention is found].
    #[arg(long = "as")]
    expected: Option<Expected>,
    /// eps that it is given.
    #[arg(long, default_value_t = 1e-5)]
    eps: f64,
    /// Types to judge, repeated or separated by commas [default: all].
    #[arg(long, value_delimiter = ',')]
    dtype: Vec<KernelType>,
    /// One group of probes only, such as "large mean".
    #[arg(long)]
    check: Option<String>,
    /// One row instead of the corpus.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    row: Vec<f64>,
    /// Write the probes to a file for another framework to answer, and stop.
    #[arg(long, value_name = "FILE", conflicts_with = "subject")]
    write_probes: Option<PathBuf>,
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "the normalizers' own names")]
enum Expected {
    LayerNorm,
    RmsNorm,
    GemmaNorm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KernelType {
    F64,
    F32,
    F16,
    Bf16,
}

impl KernelType {
    const ALL: [KernelType; 4] = [KernelType::F64, KernelType::F32, KernelType::F16, KernelType::Bf16];

    fn dtype(self) -> DType {
        match self {
            KernelType::F64 => DType::F64,
            KernelType::F32 => DType::F32,
            KernelType::F16 => DType::F16,
            KernelType::Bf16 => DType::BF16,
        }
    }
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    if !(args.eps.is_finite() && args.eps >= 0.0) {
        return Err(Error::Option {
            message: format!("eps is {}", args.eps),
            help: "give a finite eps, not negative".into(),
        });
    }
    if let Some(path) = &args.write_probes {
        write_probes(&probes(args)?, args.eps, path)?;
        return Ok(Outcome::Held);
    }
    let name = args.subject.as_deref().unwrap_or_default();
    let file = name.contains('/') || name.ends_with(".safetensors");
    let (subject, recorded): (Box<dyn Subject>, Option<Vec<Probe>>) = match file {
        true => {
            let recording = Recording::read(Path::new(name))?;
            let probes = recording.probes.clone();
            (Box::new(recording), Some(probes))
        }
        false => (live(name, registry)?, None),
    };
    let probes = match recorded {
        Some(probes) => probes.into_iter().filter(|p| wanted(args, p)).collect(),
        None => probes(args)?,
    };
    let eps = probes.first().map_or(args.eps, |probe: &Probe| probe.eps);
    let expected = args.expected.or_else(|| Expected::from_str(name.rsplit(':').next().unwrap_or(name), false).ok());
    let mut command = format!("normative kernel {name}");
    if let Some(expected) = args.expected.and_then(|e| e.to_possible_value()) {
        command += &format!(" --as {}", expected.get_name());
    }
    if !file {
        command += &format!(" --eps {}", args.eps);
    }
    let expected = expected.map(|expected| match expected {
        Expected::LayerNorm => Formula::layer_norm(eps),
        Expected::RmsNorm => Formula::rms_norm(eps),
        Expected::GemmaNorm => Formula::gemma_norm(eps),
    });
    let report = examine(subject.as_ref(), &Request { expected, eps, probes, command })?;
    match args.format {
        Format::Table => output::print(&table(&report))?,
        Format::Json => output::print_json(&record(&report))?,
    }
    Ok(match report.verdict() {
        Verdict::Refuted => Outcome::Refuted,
        Verdict::Undecided | Verdict::NotApplicable => Outcome::Undecided,
        Verdict::Verified => Outcome::Held,
    })
}

/// A subject that can be asked anything.
fn live(name: &str, registry: &Registry) -> Result<Box<dyn Subject>> {
    if let Some(own) = CANDLE.into_iter().chain(KERNELS).find(|subject| subject.name == name) {
        return Ok(Box::new(own));
    }
    if name.contains(':') {
        let known = CANDLE.iter().chain(&KERNELS).map(|subject| subject.name);
        return Err(Error::Option {
            message: format!("unknown implementation \"{name}\""),
            help: match nearest(name, known.clone()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
            },
        });
    }
    Ok(Box::new(OfOp(registry.get(name, Role::Normalizer)?)))
}

/// The corpus of the types asked for, or one row; rows that tell the convention are always among them.
fn probes(args: &Args) -> Result<Vec<Probe>> {
    if let Some(check) = &args.check
        && !Group::ALL.iter().any(|group| group.word() == check)
    {
        let words = Group::ALL.map(Group::word);
        return Err(Error::Option {
            message: format!("unknown check \"{check}\""),
            help: match nearest(check, words) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known are {}", words.join(", ")),
            },
        });
    }
    let types = if args.dtype.is_empty() { KernelType::ALL.to_vec() } else { args.dtype.clone() };
    let mut all = Vec::new();
    for dtype in types.into_iter().map(KernelType::dtype) {
        all.extend(corpus(dtype, args.eps)?.into_iter().filter(|probe| wanted(args, probe)));
        if !args.row.is_empty() {
            all.push(Probe::new(Group::Recorded, dtype, args.row.len(), args.eps, args.row.clone())?);
        }
    }
    Ok(all)
}

fn wanted(args: &Args, probe: &Probe) -> bool {
    let group = probe.group == Group::Convention
        || match &args.check {
            Some(check) => probe.group.word() == check,
            None => args.row.is_empty(),
        };
    group && (args.dtype.is_empty() || args.dtype.iter().any(|d| d.dtype() == probe.dtype))
}

fn table(report: &Report) -> String {
    let mut text = format!("{}: {}\n", report.subject, report.verdict().word());
    text += &convention(report);
    let mut table = output::table(&["check", "type", "error/bound", "verdict"]);
    let shown = |check: &&Check| check.name != "type";
    for check in report.checks.iter().filter(shown) {
        let verdict = match (check.demand, check.verdict) {
            (Demand::Limit, Verdict::Refuted) => "limit",
            (_, verdict) => verdict.word(),
        };
        table.add_row([
            check.name.as_str().into(),
            check.dtype.map_or("", |d| d.as_str()).into(),
            output::number(check.ratio.map_or(String::new(), ratio)),
            verdict.into(),
        ]);
    }
    text += &format!("{table}\n");
    text += &widths(report);
    for check in report.checks.iter().filter(|check| check.verdict != Verdict::Verified) {
        text += &detail(check);
    }
    text + "bound: of a two-pass implementation with f32 statistics (f64 for f64) in any order of summation; limit: beyond what is demanded of all\n"
}

fn convention(report: &Report) -> String {
    let found = match (report.found(), &report.identified) {
        (Some(found), _) => found.to_string(),
        (None, Some(_)) => "none known here".into(),
        (None, None) => "not asked".into(),
    };
    let mut text = format!("convention: {found}\n");
    let others = report.identified.as_ref().map_or(&[][..], |i| &i.fits);
    let others: Vec<String> = others.iter().filter(|f| Some(**f) != report.found()).map(Formula::to_string).collect();
    if !others.is_empty() {
        text += &format!("  not told apart from: {}\n", others.join(" | "));
    }
    for (dtype, cast) in &report.casts {
        text += &format!("  {}: {}\n", dtype.as_str(), cast_words(*cast));
    }
    text
}

fn cast_words(cast: Cast) -> &'static str {
    match cast {
        Cast::AfterGain => "rounds to storage once, after gain and bias",
        Cast::BeforeGain => "rounds to storage before the gain, too",
    }
}

/// The worst error over bound at every width, forward and backward.
fn widths(report: &Report) -> String {
    let mut sizes: Vec<usize> = report.widths.iter().map(|w| w.width).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut columns: Vec<(&str, DType)> = Vec::new();
    for at in &report.widths {
        if !columns.contains(&(at.pass, at.dtype)) {
            columns.push((at.pass, at.dtype));
        }
    }
    if sizes.is_empty() {
        return String::new();
    }
    let heads: Vec<String> = columns.iter().map(|(pass, dtype)| format!("{} {pass}", dtype.as_str())).collect();
    let heads: Vec<&str> = std::iter::once("width").chain(heads.iter().map(String::as_str)).collect();
    let mut table = output::table(&heads);
    for width in sizes {
        let cell = |(pass, dtype): &(&str, DType)| {
            let at = report.widths.iter().find(|w| w.width == width && w.pass == *pass && w.dtype == *dtype);
            output::number(at.map_or("-".into(), |w| ratio(w.ratio)))
        };
        table.add_row(std::iter::once(output::number(width)).chain(columns.iter().map(cell)));
    }
    format!("worst error/bound by width, tiny and huge rows aside\n{table}\n")
}

fn ratio(ratio: f64) -> String {
    match ratio {
        r if r.is_infinite() => "NaN".into(),
        // Exact.
        0.0 => "0".into(),
        r if r < 1000.0 => format!("{r:.3}"),
        r => format!("{r:.1e}"),
    }
}

fn detail(check: &Check) -> String {
    let dtype = check.dtype.map_or("", |d| d.as_str());
    let what = match (check.demand, check.verdict) {
        (Demand::Limit, Verdict::Refuted) => "limit",
        (_, verdict) => verdict.word(),
    };
    let mut text = format!("{what}: {} {dtype}", check.name);
    if let Some(reason) = &check.reason {
        text += &format!(": {reason}");
    }
    text.push('\n');
    if let Some(Counterexample { row, excess, replay }) = &check.counterexample {
        let numbers: Vec<String> = row.iter().take(8).map(f64::to_string).collect();
        let rest = if row.len() > 8 { format!(", ... {} numbers", row.len()) } else { String::new() };
        text += &format!(
            "  row [{}{rest}]: {} is {}, exactly {}, bound {}\n  replay: {replay}\n",
            numbers.join(", "),
            excess.element,
            output::digits(excess.computed),
            output::digits(excess.exact),
            output::digits(excess.bound),
        );
    }
    text
}

fn record(report: &Report) -> Value {
    let formula = |f: &Formula| {
        Value::Object(Part::ALL.iter().map(|p| (p.name().replace(' ', "_"), json!(p.words(f)))).collect())
    };
    let finite = |v: f64| v.is_finite().then_some(v);
    json!({
        "schema": "normative/kernel/1",
        "subject": report.subject,
        "verdict": report.verdict().word(),
        "convention": report.found().as_ref().map(formula),
        "eps": report.found().map(|f| f.eps),
        "fits": report.identified.iter().flat_map(|i| &i.fits).map(|f| f.to_string()).collect::<Vec<_>>(),
        "rounding": report.casts.iter().map(|(d, c)| json!({ "dtype": d.as_str(), "cast": cast_words(*c) })).collect::<Vec<_>>(),
        "checks": report.checks.iter().map(|c| json!({
            "name": c.name, "dtype": c.dtype.map(|d| d.as_str()), "demanded": c.demand == Demand::Always,
            "verdict": c.verdict.word(), "error_over_bound": c.ratio.and_then(finite), "reason": c.reason,
            "counterexample": c.counterexample.as_ref().map(|e| json!({
                "row": e.row, "element": e.excess.element, "computed": finite(e.excess.computed),
                "exact": e.excess.exact, "bound": e.excess.bound, "replay": e.replay,
            })),
        })).collect::<Vec<_>>(),
        "widths": report.widths.iter().map(|w| json!({
            "pass": w.pass, "dtype": w.dtype.as_str(), "width": w.width, "error_over_bound": finite(w.ratio),
        })).collect::<Vec<_>>(),
    })
}
