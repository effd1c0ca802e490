//! Instructions that the kernels and a small network take, counted under valgrind: the same on a busy machine and a quiet one.
//!
//! A count may differ from benches/instructions.json by 1 %, more or less: less is recorded anew, so that it is kept.
//! Other compilers give other counts, so counts are compared only for the compiler that is recorded beside them.
//!
//!     cargo bench --bench instructions                 compares
//!     cargo bench --bench instructions -- record       records

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use normative::execute::{Measurement, measure};
use normative::fold::Graph;
use normative::kernels::slices::{Affine, Cotangents, Norm, Real, Statistics, Storage};
use normative::kernels::{softmax, squares};
use normative::op::Registry;
use normative::random::Stream;
use normative::spec::{Overrides, Setting};
use normative::zoo;
use serde::{Deserialize, Serialize};

/// The part of a recorded count by which another may differ.
const GATE: f64 = 0.01;
const ROWS: usize = 64;

/// The counts of a compiler.
#[derive(Deserialize, Serialize)]
struct Counts {
    compiler: String,
    instructions: BTreeMap<String, u64>,
}

/// The function whose instructions valgrind counts; what follows the call keeps it from being jumped out of.
#[inline(never)]
fn measured(case: &mut dyn FnMut()) -> u8 {
    case();
    black_box(0)
}

/// Gives every case with its name to `count`.
fn cases(mut count: impl FnMut(String, &mut dyn FnMut())) -> Result<(), Box<dyn Error>> {
    norms::<f32>("f32", 768, &mut count)?;
    norms::<f32>("f32", 64, &mut count)?;
    norms::<f64>("f64", 768, &mut count)?;
    norms::<bf16>("bf16", 768, &mut count)?;
    norms::<f16>("f16", 768, &mut count)?;
    let numbers: Vec<f32> = (0..ROWS * 128).map(|i| (i % 1009) as f32 / 500.0 - 1.0).collect();
    let x = Tensor::from_vec(numbers, (ROWS, 128), &Device::Cpu)?;
    count("softmax f32 64x128".into(), &mut || drop(black_box(softmax(&x).expect("it has a last axis"))));
    count("squares f32 64x128".into(), &mut || drop(black_box(squares(&x, 1).expect("it has squares"))));
    let mut normals = vec![0.0; 8192];
    count("8192 normals".into(), &mut || Stream::new(0, &[]).fill_normal(black_box(&mut normals)));
    let registry = Registry::builtin();
    let shape = Overrides::default().shape(64, 2, 16)?;
    let placement = zoo::placement("pre-ln", &registry.vocabulary())?;
    let graph = Graph::new(&placement.at(shape)?, &Setting::standard(), &registry)?;
    let how = Measurement { seeds: 1, ..Measurement::default() };
    count("pre-ln 64x2x16".into(), &mut || drop(black_box(measure(&graph, &how).expect("it is small"))));
    Ok(())
}

/// Both norms, forward and back.
fn norms<S: Storage>(
    dtype: &str,
    width: usize,
    count: &mut impl FnMut(String, &mut dyn FnMut()),
) -> Result<(), Box<dyn Error>> {
    let numbers = |k: usize| -> Vec<S> {
        (0..ROWS * width).map(|i| S::narrow(Real::of(((i * 7919 + k) % 1009) as f64 / 500.0 - 1.0))).collect()
    };
    let (x, dy, mut out) = (numbers(0), numbers(1), numbers(2));
    let mut statistics = vec![Statistics::default(); ROWS];
    for (name, centred) in [("layer_norm", true), ("rms_norm", false)] {
        let norm = Norm::new(width, centred, 1e-5)?;
        let affine = Affine::new::<S>(width, norm.convention, Some(&x[..width]), centred.then_some(&dy[..width]));
        count(format!("{name} forward {dtype} {ROWS}x{width}"), &mut || {
            norm.forward(black_box(&x), &affine, &mut out, Some(&mut statistics)).expect("one shape");
        });
        count(format!("{name} backward {dtype} {ROWS}x{width}"), &mut || {
            let dy = Cotangents { output: &dy[..], sum: None };
            drop(black_box(norm.backward(black_box(&x), &affine, dy, Some(&statistics), &mut out).expect("one shape")));
        });
    }
    Ok(())
}

/// One case, warmed up and then counted; on this thread alone, since valgrind does not count the work of others.
fn run_case(wanted: &str) -> Result<(), Box<dyn Error>> {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    cases(|name, case| {
        if name == wanted {
            case();
            black_box(measured(black_box(case)));
        }
    })
}

/// Runs this program under valgrind, once a case.
fn counted() -> Result<Counts, Box<dyn Error>> {
    let mut names = Vec::new();
    cases(|name, _| names.push(name))?;
    let program = std::env::current_exe()?;
    let count = |name: String| -> Result<(String, u64), Box<dyn Error>> {
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", "--toggle-collect=*instructions::measured*", "--callgrind-out-file=/dev/null"])
            .arg(&program)
            .args(["case", &name])
            .envs([("RAYON_NUM_THREADS", "1"), ("CANDLE_NUM_THREADS", "1")])
            .output()?;
        let told = String::from_utf8_lossy(&run.stderr);
        let total = told.lines().find_map(|line| line.split_once("Collected :"));
        match total {
            Some((_, total)) if run.status.success() => Ok((name, total.trim().parse()?)),
            _ => Err(format!("valgrind ended with {}: {told}", run.status).into()),
        }
    };
    let instructions = names.into_iter().map(count).collect::<Result<_, _>>()?;
    let version = Command::new("rustc").arg("--version").output()?.stdout;
    Ok(Counts { compiler: String::from_utf8(version)?.trim().to_owned(), instructions })
}

/// Prints each count beside the recorded one; whether all that can be compared are within the gate.
fn compared(found: &Counts, recorded: &Counts) -> bool {
    let same = found.compiler == recorded.compiler;
    if !same {
        println!("recorded with {}, this is {}: counts are shown, not compared", recorded.compiler, found.compiler);
    }
    let mut within = true;
    for name in recorded.instructions.keys().filter(|name| !found.instructions.contains_key(*name)) {
        println!("{name}: recorded, and no longer counted");
        within = false;
    }
    for (name, count) in &found.instructions {
        let Some(known) = recorded.instructions.get(name) else {
            println!("{name}: {count}, not recorded");
            within = false;
            continue;
        };
        let change = *count as f64 / *known as f64 - 1.0;
        let beyond = same && change.abs() > GATE;
        within &= !beyond;
        println!("{name}: {count} ({:+.2} %){}", 100.0 * change, if beyond { "  beyond 1 %" } else { "" });
    }
    within
}

fn gate(record: bool) -> Result<bool, Box<dyn Error>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: instructions are not counted");
        return Ok(true);
    }
    let found = counted()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    if record {
        std::fs::write(&file, serde_json::to_string_pretty(&found)? + "\n")?;
        return Ok(true);
    }
    let recorded: Counts = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    Ok(compared(&found, &recorded))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let done = match &arguments[1..] {
        [word, name] if word == "case" => run_case(name).map(|()| true),
        asked => gate(asked.iter().any(|word| word == "record")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("more than 1 % from benches/instructions.json: mend it, or record what is meant with");
            println!("cargo bench --bench instructions -- record");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("instructions were not counted: {error}");
            ExitCode::FAILURE
        }
    }
}
