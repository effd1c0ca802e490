//! The command line: one file per subcommand, which do not know each other.

mod baseline;
mod compare;
mod explain;
mod kernel;
mod list;
mod measure;
mod new;
mod output;
mod parity;
mod predict;
mod regress;
mod report;
mod request;
mod sample;
mod selftest;
mod verdicts;
mod verify;

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand};
use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::error::{Error, Result};
use crate::op::Registry;

/// Write the equations of a Transformer block as the paper prints them: normative runs them, samples them,
/// predicts them, explains them, and verifies them.
///
/// Exit codes: 0 done and nothing refuted, 1 refuted, 2 bad input, 3 undecided, 4 device not present.
#[derive(Parser)]
#[command(name = "normative", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the placements, normalizers, settings and claims there are.
    List(list::Args),
    /// Formula, Jacobian of the shortcut path and diagram of a placement.
    Explain(explain::Args),
    /// Second moments, overlaps and gradients in closed form, at once.
    Predict(predict::Args),
    /// The same figures drawn from the exact law, without weights, at any width and depth.
    Sample(sample::Args),
    /// The same figures of real networks, over seeds.
    Measure(measure::Args),
    /// Judge every claim about placements, with evidence: the main job.
    Verify(verify::Args),
    /// Replay recorded weights, outputs and gradients of any framework.
    Parity(parity::Args),
    /// Judge an implementation of a normalizer: an op, candle's own, or recorded tensors of any framework.
    Kernel(kernel::Args),
    /// Every op and placement on a device against the host.
    Selftest(selftest::Args),
    /// Render a report again from its records, or check them.
    Report(report::Args),
    /// Write a variant's figures into a small file to be committed.
    Baseline(baseline::Args),
    /// Say whether a variant's figures are still those of its baseline, and name the first site that moved.
    Regress(regress::Args),
    /// The predictions of two or more placements side by side.
    Compare(compare::Args),
    /// Write a placement's file to edit.
    New(new::Args),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How a command ended, when it ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, and nothing refuted.
    Held,
    Refuted,
    Undecided,
}

impl Outcome {
    fn exit_code(self) -> i32 {
        match self {
            Outcome::Held => 0,
            Outcome::Refuted => 1,
            Outcome::Undecided => 3,
        }
    }
}

/// The whole command over a registry of ops, one's own among them; returns the exit code.
///
/// ```no_run
/// use normative::op::Registry;
/// std::process::exit(normative::cli::main_with(Registry::builtin()));
/// ```
pub fn main_with(registry: Registry) -> i32 {
    run(&registry, std::env::args_os())
}

/// As [`main_with`], with the arguments given, the program's name first.
pub fn run(registry: &Registry, arguments: impl IntoIterator<Item = OsString>) -> i32 {
    set_threads();
    let parsed = match CommandLine::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    match dispatch(parsed.command, registry) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            show(&error);
            error.exit_code()
        }
    }
}

/// Normative parallelizes over draws and leaves candle one thread: candle's own pool spins, and in every matrix product it
/// reads RAYON_NUM_THREADS, or else /proc/cpuinfo, which costs more than a small product. So that variable is candle's, and
/// NORMATIVE_THREADS says how many threads draws are spread over.
fn set_threads() {
    for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread exists yet, and candle reads these when its first operation runs.
        unsafe { std::env::set_var(variable, "1") };
    }
    let asked = std::env::var("NORMATIVE_THREADS").ok().and_then(|n| n.parse().ok());
    let threads = asked.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    // An error says that the pool exists already, as it may where the command runs within another program.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

fn dispatch(command: Command, registry: &Registry) -> Result<Outcome> {
    match command {
        Command::List(args) => list::run(&args, registry),
        Command::Explain(args) => explain::run(&args, registry),
        Command::Predict(args) => predict::run(&args, registry),
        Command::Sample(args) => sample::run(&args, registry),
        Command::Measure(args) => measure::run(&args, registry),
        Command::Verify(args) => verify::run(&args, registry),
        Command::Parity(args) => parity::run(&args, registry),
        Command::Kernel(args) => kernel::run(&args, registry),
        Command::Selftest(args) => selftest::run(&args, registry),
        Command::Report(args) => report::run(&args),
        Command::Baseline(args) => baseline::run(&args, registry),
        Command::Regress(args) => regress::run(&args, registry),
        Command::Compare(args) => compare::run(&args, registry),
        Command::New(args) => new::run(&args, registry),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut CommandLine::command(), "normative", &mut std::io::stdout());
            Ok(Outcome::Held)
        }
    }
}

/// One clear error on stderr, with the place in the file where there is one.
fn show(error: &Error) {
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let _ = GraphicalReportHandler::new_themed(theme).with_width(100).render_report(&mut text, error);
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
