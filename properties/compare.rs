//! `compare` answers with what the placements come to: which to use, what makes another hold, by how much they differ.

use std::process::Command;

use normative::execute::{Measurement, measure_on_same_weights};
use normative::fold::Graph;
use normative::op::Registry;
use normative::predict::predict;
use normative::profile::{Draws, Place, Quantity};
use normative::report::{Candidate, Fitness, advice};
use normative::spec::{File, Placement, Setting, Shape};
use serde_json::Value;

const SHAPE: Shape = Shape { width: 64, blocks: 24, tokens: 8, heads: 2, ffn_width: 256, causal: false };

/// Pre-LN and Post-LN with their branches' last matrices drawn a factor as wide, as a user would write it.
fn placement(name: &str, factor: f64) -> Placement {
    let layer = match name {
        "pre" => "x = x + attn(norm(x))\nx = x + ffn(norm(x))",
        _ => "x = norm(x + attn(x))\nx = norm(x + ffn(x))",
    };
    let output = if name == "pre" { "norm(x)" } else { "x" };
    let text = format!(
        "name = \"{name}\"\ninit = {{ w_o = \"{factor}\", w_2 = \"{factor}\" }}\nlayer = \"\"\"\n{layer}\n\"\"\"\noutput = \"{output}\"\n"
    );
    let file = File::parse(&format!("{name}.toml"), &text).unwrap();
    Placement::new(file, &Registry::builtin().vocabulary()).unwrap()
}

fn graph(placement: &Placement, shape: Shape) -> Graph {
    Graph::new(&placement.at(shape).unwrap(), &Setting::standard(), &Registry::builtin()).unwrap()
}

fn faults(name: &str, factor: f64) -> Vec<String> {
    Fitness::of(&predict(&graph(&placement(name, factor), SHAPE)).unwrap()).faults()
}

/// The number after some words.
fn number_after(sentence: &str, words: &str) -> f64 {
    let (_, rest) = sentence.split_once(words).unwrap_or_else(|| panic!("{sentence}: no {words:?}"));
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{sentence}"))
}

#[test]
fn the_advised_factor_makes_a_placement_hold_and_none_above_it_does() {
    let (registry, setting) = (Registry::builtin(), Setting::standard());
    for name in ["pre", "post"] {
        let placement = placement(name, 1.0);
        let candidate = Candidate { placement: &placement, setting: &setting, shape: SHAPE };
        let sentences = advice(&[candidate], &registry).unwrap();
        assert!(!faults(name, 1.0).is_empty(), "{name} is meant to fail at this depth");
        assert!(sentences[0].starts_with(&format!("{name} does not hold at 24 blocks: ")), "{sentences:#?}");
        for fault in faults(name, 1.0) {
            assert!(sentences[0].contains(&fault), "{fault}: {sentences:#?}");
        }
        let factor = number_after(&sentences[1], "W_O and W_2 drawn");
        // The factor is found to two digits.
        assert_eq!(faults(name, 0.99 * factor), Vec::<String>::new(), "{sentences:#?}");
        assert!(!faults(name, 1.03 * factor).is_empty(), "{sentences:#?}");
        assert!(sentences[2].contains(&format!("makes {name} hold")), "{sentences:#?}");
    }
}

#[test]
fn what_holds_with_the_most_even_gradients_is_advised() {
    let (registry, setting) = (Registry::builtin(), Setting::standard());
    let called = |name: &str, factor: f64| {
        let mut placement = placement("pre", factor);
        placement.name = name.into();
        placement
    };
    let all = [placement("post", 1.0), called("wider", 0.5), called("even", 0.05)];
    let candidate = |placement| Candidate { placement, setting: &setting, shape: SHAPE };
    let spread = |factor: f64| Fitness::of(&predict(&graph(&placement("pre", factor), SHAPE)).unwrap()).spread;
    assert!(spread(0.05) < spread(0.5));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let candidates = order.map(|i| candidate(&all[i]));
        let sentences = advice(&candidates, &registry).unwrap();
        let last = sentences.last().unwrap();
        assert_eq!(last, "Of these, even has the most even gradients and holds: use it.", "{sentences:#?}");
    }
}

/// The figures that the sentences on measured differences speak of, and whether they are ratios.
fn spoken(draws: &Draws) -> [(&'static str, Vec<f64>); 3] {
    let last = draws.layout.sites.iter().rposition(|site| site.stream == "x").unwrap();
    [
        ("second moment of x after the last block", (Place::Site(last), Quantity::SecondMoment)),
        ("overlap of the output", (Place::Output, Quantity::Overlap)),
        ("gradient at the raw input", (Place::Input, Quantity::Gradient)),
    ]
    .map(|(words, wanted)| {
        let figure = draws.layout.figures.iter().position(|figure| *figure == wanted).unwrap();
        (words, draws.rows.iter().map(|row| row[figure]).collect())
    })
}

fn compare(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_normative")).arg("compare").args(arguments).output().unwrap()
}

#[test]
fn differences_are_those_of_networks_on_the_same_weights() {
    let shape = ["--width=32", "--blocks=3", "--tokens=4", "--seeds=6", "--draws=4", "--seed=5", "--format=json"];
    let output = compare(&[&["pre-ln", "post-ln"], &shape[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sentences: Vec<&str> = answer["sentences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();

    let registry = Registry::builtin();
    let built_in = |name: &str| {
        let placement = normative::zoo::placement(name, &registry.vocabulary()).unwrap();
        graph(&placement, Shape { width: 32, blocks: 3, tokens: 4, heads: 1, ffn_width: 128, causal: false })
    };
    let graphs = [built_in("pre-ln"), built_in("post-ln")];
    let how = Measurement { seeds: 6, first_seed: 5, ..Measurement::default() };
    let measured = measure_on_same_weights(&graphs.iter().collect::<Vec<_>>(), &how).unwrap();
    for ((words, ours), (_, theirs)) in spoken(&measured[0]).into_iter().zip(spoken(&measured[1])) {
        let overlap = words.starts_with("overlap");
        let pairs = ours.iter().zip(&theirs).map(|(a, b)| if overlap { b - a } else { (b / a).ln() });
        let mean = pairs.sum::<f64>() / ours.len() as f64;
        let sentence = sentences.iter().find(|s| s.contains(&format!("post-ln's {words} is"))).unwrap();
        let said = if overlap { number_after(sentence, "pre-ln plus") } else { number_after(sentence, "is").ln() };
        // Four digits are printed: half a unit of the last, of 1 in a thousand at most.
        approx::assert_abs_diff_eq!(said, mean, epsilon = 0.5e-3 * if overlap { mean.abs() } else { 1.0 });
        // The other way round it is another number, so that an exchange of names would be seen.
        assert!(mean.abs() > 1e-2, "{words}: {mean}");
    }
}

#[test]
fn the_page_shows_the_answer_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let shape = ["--width=32", "--blocks=3", "--tokens=4", "--seeds=3", "--draws=4"];
    let report = format!("--report={}", file.display());
    let output = compare(&[&["pre-ln", "post-ln", &report], &shape[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(&file).unwrap();
    let terminal = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = terminal.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    assert!(said.len() > 3, "{terminal}");
    for sentence in said {
        assert!(page.contains(&sentence.replace('\'', "&#x27;")), "{sentence}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    for outside in ["src=", "@import", "url(", "<script", "href=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn one_placement_is_nothing_to_compare() {
    let output = compare(&["pre-ln"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 values required"), "{said}");
}
