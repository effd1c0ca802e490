//! Faults 80-90: records, reports, baselines and specifications that are read for what they are not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device};
use normative::claims::{Battery, Lab, Tier};
use normative::execute::{Measurement, measure};
use normative::op::Registry;
use normative::profile::Profile;
use normative::report::{
    Baseline, Entry, Environment, FILE, Header, How, Journal, Outcome, Records, Score, Stated, Summary, Work, check,
    run,
};
use normative::spec::{File, Placement, Shape};
use normative::verify::{Evidence, Finding, Interval, Verdict};

use crate::networks::pre_ln;
use crate::{Fault, Judged};

pub fn faults() -> Vec<Fault> {
    vec![
        rounded(),
        dropped_row(),
        repeated_item(),
        torn_tail(),
        another_run(),
        accepted_snapshots(),
        nothing_judged(),
        silent_fallback(),
        wrong_unit(),
        overwritten_baseline(),
        misspelt_key(),
    ]
}

fn header(seed: u64) -> Header {
    let stated = Stated {
        id: "planted.figure.is_one".into(),
        statement: "The figure is 1.".into(),
        source: "this test".into(),
        domain: "everywhere".into(),
        expected: Verdict::Verified,
    };
    Header {
        schema: "normative/records/1".into(),
        environment: Environment::here("cpu", "f32"),
        score: Score::known().unwrap(),
        command: "normative verify".into(),
        tier: Tier::Quick,
        seed,
        families: Vec::new(),
        claims: vec![stated],
        subjects: Vec::new(),
        items: ["a", "b", "c"].map(String::from).to_vec(),
    }
}

/// Eight seeds around a value.
fn evidence(around: f64) -> Evidence {
    let values: Vec<f64> = (0..8).map(|i| around + 0.01 * f64::from(i) - 0.035).collect();
    Evidence::mean("figure", &values, Interval::within(1.0, 0.2), 1e-3)
}

/// One verified and two refuted findings, written and read.
fn written(folder: &Path) -> Records {
    let (mut journal, mut records) = Journal::open(folder, header(0)).unwrap();
    for (item, around) in [("a", 1.0), ("b", 3.0), ("c", 4.0)] {
        let finding = Finding::of("planted.figure.is_one", vec![evidence(around)]);
        let outcome = Outcome::Done(vec![Entry::Finding(finding)]);
        journal.append(item, &outcome).unwrap();
        records.outcomes.insert(item.into(), outcome);
    }
    journal.finish(&records).unwrap();
    drop(journal);
    Records::read(folder).unwrap()
}

fn in_folder(judge: impl Fn(&Path) -> Judged) -> Judged {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path())
}

/// What computing every verdict again says of records whose evidence was altered.
fn recomputed(alter: impl Fn(&mut Evidence)) -> Judged {
    in_folder(|folder| {
        let mut records = written(folder);
        for outcome in records.outcomes.values_mut() {
            let Outcome::Done(entries) = outcome else { continue };
            for entry in entries {
                if let Entry::Finding(finding) = entry {
                    finding.evidence.iter_mut().for_each(&alter);
                }
            }
        }
        match check(&records).differences.first() {
            None => Ok(()),
            Some(difference) => Err(difference.clone()),
        }
    })
}

/// 80: raw numbers of two digits do not give the interval that was judged.
fn rounded() -> Fault {
    let round = |e: &mut Evidence| e.raw.iter_mut().for_each(|v| *v = (*v * 100.0).round() / 100.0 + 0.0);
    Fault::new(
        80,
        "verdict recomputed from rounded numbers",
        "recomputation",
        || recomputed(|_| ()),
        move || recomputed(round),
    )
}

/// 88: a spread printed as its root.
fn wrong_unit() -> Fault {
    let root = |e: &mut Evidence| {
        e.interval = Interval::new(e.interval.from.sqrt(), e.interval.to.sqrt());
        e.found = e.found.sqrt();
    };
    Fault::new(
        88,
        "variance printed as standard deviation",
        "recomputation",
        || recomputed(|_| ()),
        move || recomputed(root),
    )
}

/// 81: as many rows, and as many refuted ones, as the records have.
fn dropped_row() -> Fault {
    let judge = |count: &dyn Fn(&Records) -> (usize, usize)| -> Judged {
        in_folder(|folder| {
            let records = written(folder);
            let verdicts: Vec<Verdict> = records.findings().map(|finding| finding.verdict).collect();
            let refuted = verdicts.iter().filter(|v| **v == Verdict::Refuted).count();
            match count(&records) {
                (all, failing) if (all, failing) == (verdicts.len(), refuted) => Ok(()),
                (all, failing) => {
                    Err(format!("{all} rows, {failing} refuted, of {} findings, {refuted} refuted", verdicts.len()))
                }
            }
        })
    };
    let summary = |records: &Records| {
        let counts = Summary::of(records).counts();
        (counts.all(), counts.refuted)
    };
    Fault::new(
        81,
        "failing row dropped from the summary",
        "count identity",
        move || judge(&summary),
        move || {
            judge(&|records| {
                let (all, refuted) = summary(records);
                (all - 1, refuted - 1)
            })
        },
    )
}

/// 82: each item is judged once, however often a run goes on.
fn repeated_item() -> Fault {
    let judge = |forgets: bool| -> Judged {
        in_folder(|folder| {
            let judged: &'static [AtomicUsize; 3] = Box::leak(Box::new([const { AtomicUsize::new(0) }; 3]));
            let work = |(index, key): (usize, &str)| Work {
                key: key.into(),
                work: Box::new(move |_| {
                    judged[index].fetch_add(1, Ordering::SeqCst);
                    Ok(vec![Entry::Finding(Finding::of("planted.figure.is_one", vec![evidence(1.0)]))])
                }),
            };
            let works: Vec<Work> = ["a", "b", "c"].into_iter().enumerate().map(work).collect();
            let registry = Registry::builtin();
            let lab = Lab {
                registry: &registry,
                subjects: &[],
                device: Device::Cpu,
                dtype: DType::F32,
                tier: Tier::Quick,
                seed: 0,
                seeds: 2,
                seeds_per_shape: 2,
                times: 1,
                experiments: Default::default(),
            };
            for part in [1, 3] {
                let (mut journal, mut records) = Journal::open(folder, header(0)).unwrap();
                if forgets {
                    records.outcomes.clear();
                }
                run(&works[..part], &lab, &mut records, Some(&mut journal), |_| ()).unwrap();
            }
            let counts = judged.each_ref().map(|count| count.load(Ordering::SeqCst));
            match counts {
                [1, 1, 1] => Ok(()),
                counts => Err(format!("items were judged {counts:?} times")),
            }
        })
    };
    Fault::new(82, "resume repeats a work item", "every item once", move || judge(false), move || judge(true))
}

fn text(folder: &Path) -> (PathBuf, String) {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// Lines as JSON with no look at their seals.
fn trusting(folder: &Path) -> Vec<serde_json::Value> {
    let repaired = |line: &str| {
        let body = line.split(",\"crc\"").next().unwrap_or(line).trim_end_matches('}');
        serde_json::from_str(&format!("{body}}}}}")).or_else(|_| serde_json::from_str(&format!("{body}}}"))).ok()
    };
    text(folder).1.lines().filter_map(repaired).collect()
}

/// 83: the item whose last line was cut off is not done.
fn torn_tail() -> Fault {
    let judge = |done: &dyn Fn(&Path) -> usize| -> Judged {
        in_folder(|folder| {
            written(folder);
            let (path, text) = text(folder);
            // The seal of the last item's last line, and the footer behind it, never reached the disk.
            let line = text.rfind("{\"done\"").unwrap();
            let seal = line + text[line..].find(",\"crc\"").unwrap();
            std::fs::write(path, &text[..seal + 20]).unwrap();
            match done(folder) {
                2 => Ok(()),
                done => Err(format!("{done} items count as done after a cut in the third")),
            }
        })
    };
    let read = |folder: &Path| Records::read(folder).unwrap().outcomes.len();
    Fault::new(
        83,
        "torn last record accepted",
        "torn tail",
        move || judge(&read),
        move || judge(&|folder| trusting(folder).iter().filter(|line| line.get("done").is_some()).count()),
    )
}

/// 84: records in which the device or the seed was changed by hand are not read.
fn another_run() -> Fault {
    let judge = |reads: &dyn Fn(&Path) -> bool| -> Judged {
        in_folder(|folder| {
            written(folder);
            let (path, text) = text(folder);
            for (from, to) in [("\"device\":\"cpu\"", "\"device\":\"cuda:0\""), ("\"seed\":0", "\"seed\":7")] {
                assert!(text.contains(from));
                std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
                if reads(folder) {
                    return Err(format!("records with {to} for {from} are read"));
                }
            }
            // Nor are those of another seed gone on with.
            std::fs::write(&path, &text).unwrap();
            match Journal::open(folder, header(1)) {
                Err(_) => Ok(()),
                Ok(_) => Err("the records of seed 0 are gone on with at seed 1".into()),
            }
        })
    };
    let reads = |folder: &Path| Records::read(folder).is_ok();
    Fault::new(
        84,
        "report shows another run's device or seed",
        "hash chain",
        move || judge(&reads),
        move || judge(&|folder| !trusting(folder).is_empty()),
    )
}

/// 85: the gate never writes a snapshot.
fn accepted_snapshots() -> Fault {
    let judge = |script: &str| -> Judged {
        let code: Vec<&str> = script.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let never = code.iter().any(|line| line.contains("INSTA_UPDATE=no"));
        let accepts = code.iter().find(|line| {
            line.contains("insta accept") || line.contains("INSTA_UPDATE=always") || line.contains("--accept")
        });
        match (never, accepts) {
            (true, None) => Ok(()),
            (_, Some(line)) => Err(format!("the gate accepts snapshots: {}", line.trim())),
            (false, None) => Err("the gate does not set INSTA_UPDATE=no".into()),
        }
    };
    let script = || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
        std::fs::read_to_string(path).unwrap()
    };
    Fault::new(
        85,
        "snapshots accepted in CI",
        "the gate's script",
        move || judge(&script()),
        move || judge(&script().replace("INSTA_UPDATE=no", "INSTA_UPDATE=always")),
    )
}

/// 86: a choice of claims that judges nothing is an error, not a success.
fn nothing_judged() -> Fault {
    let judge = |choose: &dyn Fn(&str) -> Result<usize, String>| -> Judged {
        match (choose("init.*"), choose("innit.*")) {
            (Ok(some), Err(message)) if some > 0 && message.contains("no claim matches") => Ok(()),
            (_, Ok(none)) => Err(format!("{none} claims are judged, and nothing says that this is none")),
            (some, none) => Err(format!("{some:?}, {none:?}")),
        }
    };
    let choose = |glob: &str| {
        let battery = Battery::matching(Some(glob)).map_err(|error| error.to_string())?;
        Ok(battery.claims.len())
    };
    Fault::new(
        86,
        "nothing judged reported green",
        "minimum count",
        move || judge(&choose),
        move || judge(&|glob| Ok(choose(glob).unwrap_or(0))),
    )
}

/// 87: a device that is not there ends in code 4, never on another device.
fn silent_fallback() -> Fault {
    let judge = |device: &str| -> Judged {
        let mut command = Command::new(env!("CARGO_BIN_EXE_normative"));
        command.args(["measure", "pre-ln", "--width", "8", "--blocks", "1", "--tokens", "2", "--seeds", "2"]);
        command.args(["--device", device]).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status().unwrap().code() {
            Some(4) => Ok(()),
            code => Err(format!("asked for a device that no machine has, it ended with {code:?}")),
        }
    };
    // What a program that falls back does with its argument.
    Fault::new(87, "device falls back to the CPU", "device of the run", move || judge("cuda:99"), move || judge("cpu"))
}

/// 89: a comparison leaves its baseline as it was, so that a change shows every time.
fn overwritten_baseline() -> Fault {
    let shape = Shape { width: 8, blocks: 1, tokens: 2, heads: 1, ffn_width: 16, causal: false };
    let how = || How { options: Vec::new(), dtype: "f32".into(), seeds: 4, seed: 0 };
    let profile = move || -> Profile {
        let how = Measurement { seeds: 4, ..Measurement::default() };
        measure(&pre_ln().graph(shape), &how).unwrap().profile()
    };
    let judge = move |compare: &dyn Fn(&Path, &Profile) -> usize| -> Judged {
        in_folder(|folder| {
            let path = folder.join("baseline.toml");
            std::fs::write(&path, Baseline::new("pre-ln", how(), &profile()).text().unwrap()).unwrap();
            let mut changed = profile();
            changed.figures.iter_mut().for_each(|figure| figure.value = figure.value.map(|v| 2.0 * v + 1.0));
            let moved = [compare(&path, &changed), compare(&path, &changed)];
            match moved {
                [first, second] if first > 0 && first == second => Ok(()),
                moved => Err(format!("a change moves {moved:?} figures in two comparisons")),
            }
        })
    };
    let moved = move |path: &Path, now: &Profile| Baseline::read(path).unwrap().moved(now, &how()).len();
    Fault::new(
        89,
        "baseline overwritten by the run it judges",
        "baseline unchanged",
        move || judge(&moved),
        move || {
            judge(&|path, now| {
                std::fs::write(path, Baseline::new("pre-ln", how(), now).text().unwrap()).unwrap();
                moved(path, now)
            })
        },
    )
}
/// 90: `esp` for `eps` must not fall silent.
fn misspelt_key() -> Fault {
    const TEXT: &str = "name = \"mine\"\nlayer = \"x = norm(x + ffn(x))\"\n[setting]\nesp = 0.5\n";
    let read = |text: &str| -> Result<(), String> {
        let file = File::parse("mine.toml", text).map_err(|error| error.to_string())?;
        Placement::new(file, &Registry::builtin().vocabulary()).map(|_| ()).map_err(|error| error.to_string())
    };
    // Drops every line of a table that the reader does not know.
    let lenient = move |text: &str| {
        let known = |line: &&str| read(TEXT).is_ok() || !line.starts_with("esp");
        read(&text.lines().filter(known).collect::<Vec<_>>().join("\n"))
    };
    let judge = |read: &dyn Fn(&str) -> Result<(), String>| -> Judged {
        match read(TEXT) {
            Err(message) if message.contains("esp") => Ok(()),
            Err(message) => Err(format!("the error does not name the key: {message}")),
            Ok(()) => Err("a file with the key esp is read as if it were not there".into()),
        }
    };
    Fault::new(90, "unknown key of a file ignored", "misspelt key", move || judge(&read), move || judge(&lenient))
}
