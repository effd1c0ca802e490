//! `regress` sees a real change and names where it begins, and sees none where there is none.

use std::path::Path;
use std::process::{Command, Output};

use candle_core::{DType, Device};
use normative::execute::{Measurement, measure};
use normative::fold::Graph;
use normative::op::Registry;
use normative::profile::Profile;
use normative::report::{Baseline, How, Moved};
use normative::spec::{File, Overrides, Placement, Setting};

const VARIANT: &str = "name = \"mine\"\nlet = { alpha = \"0.8\" }\nlayer = \"\"\"\nx = x + alpha*attn(norm(x))\n\
                       x = x + 0.7*ffn(norm(x))\n\"\"\"\noutput = \"norm(x)\"\n";

fn profile(text: &str, how: &How) -> Profile {
    let registry = Registry::builtin();
    let file = File::parse("mine.toml", text).unwrap();
    let placement = Placement::new(file, &registry.vocabulary()).unwrap();
    let network = placement.at(Overrides::default().shape(64, 6, 8).unwrap()).unwrap();
    let graph = Graph::new(&network, &Setting::standard(), &registry).unwrap();
    let how = Measurement { seeds: how.seeds, first_seed: how.seed, device: Device::Cpu, dtype: DType::F32 };
    measure(&graph, &how).unwrap().profile()
}

fn how(seeds: usize, seed: u64) -> How {
    How { options: Vec::new(), dtype: "f32".into(), seeds, seed }
}

fn moved(text: &str, baseline: &Baseline, now: &How) -> Vec<Moved> {
    baseline.moved(&profile(text, now), now)
}

fn first(moved: &[Moved]) -> &str {
    moved.first().map_or("nothing", |moved| &moved.figure)
}

#[test]
fn one_percent_of_one_scale_is_seen_and_its_first_site_named() {
    let how = how(8, 0);
    let baseline = Baseline::new("mine", how.clone(), &profile(VARIANT, &how));
    assert_eq!(moved(VARIANT, &baseline, &how), Vec::new());
    for (was, is, site) in [
        ("0.8", "0.808", "x block 1 step 1 second_moment"),
        ("0.7*ffn", "0.707*ffn", "x block 1 step 2 second_moment"),
        ("let = {", "init = { w_2 = \"1.01\" }\nlet = {", "x block 1 step 2 second_moment"),
        ("\"norm(x)\"", "\"1.01*norm(x)\"", "output second_moment"),
        // Where a scale is only one block's, the site is that block's.
        ("\"0.8\"", "\"0.8*(1 + 0.01*max(0, 1 - (l - 4)*(l - 4)))\"", "x block 4 step 1 second_moment"),
    ] {
        let changed = VARIANT.replace(was, is);
        assert_ne!(changed, VARIANT);
        assert_eq!(first(&moved(&changed, &baseline, &how)), site, "{was} -> {is}");
    }
}

#[test]
fn the_same_equations_written_otherwise_are_unchanged() {
    let how = how(8, 0);
    let baseline = Baseline::new("mine", how.clone(), &profile(VARIANT, &how));
    for same in [
        VARIANT.replace("alpha = \"0.8\"", "alpha = \"4/5\""),
        VARIANT.replace("x = x + 0.7*ffn(norm(x))", "y = ffn(norm(x))\nx = 0.7*y + x"),
        VARIANT.replace("x + alpha*attn(norm(x))", "(x/alpha + attn(norm(x)))*alpha"),
    ] {
        assert_ne!(same, VARIANT);
        // Steps are numbered by statements: only figures of sites that are still there are compared here.
        let all = moved(&same, &baseline, &how);
        let changed: Vec<&Moved> = all.iter().filter(|moved| moved.before.is_some() && moved.now.is_some()).collect();
        assert_eq!(changed, Vec::<&Moved>::new());
    }
}

#[test]
fn fresh_seeds_of_an_unchanged_variant_raise_no_alarm() {
    let first = how(16, 0);
    let baseline = Baseline::new("mine", first.clone(), &profile(VARIANT, &first));
    let runs: u64 = std::env::var("NORMATIVE_REPETITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let alarms: Vec<(u64, Vec<Moved>)> = (1..=runs)
        .map(|run| (run, moved(VARIANT, &baseline, &how(16, 1000 * run))))
        .filter(|(_, moved)| !moved.is_empty())
        .collect();
    assert_eq!(alarms, Vec::new(), "{runs} runs");
    // Nor are they blind, at so few seeds, to a branch of ten times the size.
    let tenfold = VARIANT.replace("0.7*ffn", "7*ffn");
    assert_eq!(self::first(&moved(&tenfold, &baseline, &how(16, 1000))), "x block 1 step 2 second_moment");
}

fn normative(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_normative")).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn the_command_ends_with_one_on_a_change_and_never_writes_over_a_baseline() {
    let place = tempfile::tempdir().unwrap();
    let shape = ["--width", "32", "--blocks", "2", "--tokens", "4", "--seeds", "4", "--normalizer", "rms_norm"];
    let save = [&["baseline", "save", "baseline.toml", "mine.toml"], &shape[..]].concat();
    let regress = ["regress", "mine.toml", "--baseline", "baseline.toml"];
    let write = |text: &str| std::fs::write(place.path().join("mine.toml"), text).unwrap();
    write(VARIANT);
    assert_eq!(normative(place.path(), &regress).status.code(), Some(2), "there is no baseline yet");
    assert_eq!(normative(place.path(), &save).status.code(), Some(0));
    let kept = std::fs::read(place.path().join("baseline.toml")).unwrap();
    assert_eq!(normative(place.path(), &regress).status.code(), Some(0));
    write(&VARIANT.replace("0.7*ffn", "0.714*ffn"));
    let changed = normative(place.path(), &regress);
    assert_eq!(changed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&changed.stdout);
    assert!(said.contains("moved first at x block 1 step 2 second_moment"), "{said}");
    assert_eq!(normative(place.path(), &save).status.code(), Some(2), "a baseline is written over only when asked");
    assert_eq!(std::fs::read(place.path().join("baseline.toml")).unwrap(), kept);
    let replaced = normative(place.path(), &[&save[..], &["--replace"]].concat());
    assert_eq!(replaced.status.code(), Some(0));
    assert_eq!(normative(place.path(), &regress).status.code(), Some(0));
}

#[test]
fn several_baselines_are_all_written_or_none() {
    let place = tempfile::tempdir().unwrap();
    let shape = ["--width", "32", "--blocks", "1", "--tokens", "2", "--seeds", "2"];
    let save = |specs: &[&str]| normative(place.path(), &[&["baseline", "save", "kept"], specs, &shape[..]].concat());
    let kept = || std::fs::read_dir(place.path().join("kept")).unwrap().count();
    assert_eq!(save(&["post-ln"]).status.code(), Some(0), "the folder is made");
    assert_eq!(save(&["pre-ln", "post-ln"]).status.code(), Some(2));
    assert_eq!(kept(), 1);
    let regress = normative(place.path(), &["regress", "post-ln", "pre-ln", "--baseline", "kept"]);
    assert_eq!(regress.status.code(), Some(2), "pre-ln has none");
    assert!(regress.stdout.is_empty());
}

#[test]
fn the_built_in_placements_are_what_their_committed_baselines_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let regress = normative(root, &["regress", "--baseline", "reports/baseline"]);
    let said = String::from_utf8_lossy(&regress.stdout);
    assert_eq!(regress.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&regress.stderr));
    assert_eq!(said.matches(": unchanged, ").count(), normative::zoo::names().count(), "{said}");
}

#[test]
fn a_file_that_is_no_baseline_is_refused_with_its_place() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("mine.toml"), VARIANT).unwrap();
    let regress = ["regress", "mine.toml", "--baseline", "baseline.toml"];
    let sound = "schema = \"normative/baseline/1\"\nplacement = \"mine\"\n[measured]\noptions = []\ndtype = \"f32\"\nseeds = 4\n\
                 seed = 0\n[figures]\n";
    for (text, expected) in [
        ("schema = ", "baseline.toml"),
        (&sound.replace("seeds = 4", "sedes = 4"), "unknown field"),
        (&sound.replace("baseline/1", "baseline/9"), "normative/baseline/9"),
        (&sound.replace("\"mine\"", "\"yours\""), "the baseline of yours"),
        (&sound.replace("[]", "[\"--widht=3\"]"), "--widht"),
        (&sound.replace("f32", "f31"), "f31"),
    ] {
        std::fs::write(place.path().join("baseline.toml"), text).unwrap();
        let output = normative(place.path(), &regress);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains(expected), "{text}: {said}");
    }
}
