//! Other frameworks' numbers, and other ways to write the same equations: what stands behind every built-in placement.

use std::collections::BTreeSet;

use candle_core::Device;
use normative::error::Error;
use normative::op::Registry;
use normative::spec::{Activation, Placement, Setting, Shape};
use normative::verify::parity;
use normative::zoo;
use proptest::prelude::*;
use proptest::sample::Index;

mod support;

use support::fixture::{Fixture, paths};
use support::{Network, Results, agree, config, largest, placement, reach};

/// The largest relative error against another framework that is allowed in f64.
const PARITY: f64 = 1e-10;

#[test]
fn every_fixture_is_reproduced_to_1e_10() {
    let registry = Registry::builtin();
    let (mut worst, mut tensors, mut rounding) = ((0.0, String::new()), 0, Vec::new());
    let mut wrong = Vec::new();
    for path in paths() {
        let fixture = Fixture::read(&path);
        let found = parity(&path, &registry, &Device::Cpu).unwrap_or_else(|error| panic!("{}: {error}", fixture.file));
        assert!(!found.tensors.is_empty(), "{}", fixture.file);
        for tensor in &found.tensors {
            tensors += 1;
            let what = format!("{} {} {:e} of {:e}", fixture.file, tensor.name, tensor.error, tensor.bound);
            if fixture.is_rounding(&tensor.name) {
                rounding.push(what.clone());
            } else if tensor.error > worst.0 {
                worst = (tensor.error, what.clone());
            }
            if tensor.differs()
                || (tensor.error.is_nan() || tensor.error >= PARITY) && !fixture.is_rounding(&tensor.name)
            {
                wrong.push(what);
            }
        }
    }
    println!(
        "{tensors} tensors of {} fixtures; worst {}; {} zero by cancellation",
        paths().len(),
        worst.1,
        rounding.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tensors > 1000 && rounding.len() * 20 < tensors, "{tensors} tensors, {rounding:#?}");
}

/// The entries whose change by 0.1% must show: large among their own, and such that the loss feels them.
fn telling_entries(fixture: &Fixture) -> Vec<(&str, usize)> {
    let mut telling = Vec::new();
    for (name, (_, entries)) in &fixture.tensors {
        let gradient = fixture.tensors.get(&format!("grad.{name}")).map(|(_, g)| g);
        let felt: Vec<f64> = match gradient {
            Some(g) if fixture.is_rounding(&format!("grad.{name}")) => vec![0.0; g.len()],
            Some(g) => g.iter().zip(entries).map(|(g, v)| g * v).collect(),
            None if fixture.is_rounding(name) => vec![0.0; entries.len()],
            None => entries.clone(),
        };
        let (most, widest) = (largest(&felt), largest(entries));
        let tells = |i: &usize| felt[*i].abs() > 0.01 * most && entries[*i].abs() > 0.01 * widest;
        telling.extend((0..entries.len()).filter(tells).map(|i| (name.as_str(), i)));
    }
    telling
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_fixture_with_one_number_changed_by_a_thousandth_is_refuted(file: Index, tensor: Index, entry: Index, up: bool) {
        let mut fixture = Fixture::read(file.get::<std::path::PathBuf>(&paths()));
        let telling = telling_entries(&fixture);
        // A tensor first, so that the small ones are not lost among the large.
        let names: Vec<&str> = telling.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>().into_iter().collect();
        let name = tensor.get(&names).to_string();
        let entries: Vec<usize> = telling.iter().filter(|(n, _)| *n == name).map(|(_, i)| *i).collect();
        let i = *entry.get(&entries);
        let values = &mut fixture.tensors.get_mut(&name).unwrap().1;
        values[i] *= if up { 1.001 } else { 0.999 };
        let folder = tempfile::tempdir().unwrap();
        let found = parity(&fixture.write(folder.path()), &Registry::builtin(), &Device::Cpu).unwrap();
        let worst = found.worst().unwrap();
        prop_assert!(found.differs(), "{} {name}[{i}]: {worst:?}", fixture.file);
    }

    #[test]
    fn a_fixture_written_again_is_reproduced(file: Index) {
        let folder = tempfile::tempdir().unwrap();
        let path = Fixture::read(file.get::<std::path::PathBuf>(&paths())).write(folder.path());
        prop_assert!(!parity(&path, &Registry::builtin(), &Device::Cpu).unwrap().differs());
    }
}

/// The message of a fixture that is bad input.
fn refused(fixture: &Fixture) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = parity(&fixture.write(folder.path()), &Registry::builtin(), &Device::Cpu).expect_err(&fixture.file);
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

/// Fixtures with every kind of tensor.
fn some_fixtures() -> Vec<Fixture> {
    let names = ["feature-attend-history", "feature-swiglu-hidden-norm", "feature-inner-norm-causal", "post-ln"];
    names.iter().map(|name| Fixture::read(&support::fixture::folder().join(format!("{name}.safetensors")))).collect()
}

#[test]
fn a_missing_tensor_is_bad_input_and_named() {
    for fixture in some_fixtures() {
        for name in fixture.tensors.keys() {
            let mut without = fixture.clone();
            without.tensors.remove(name);
            // A gain that is absent is at its start, and then its gradient is one too many.
            let message = refused(&without);
            assert!(
                message.contains(&format!("tensor {name} ")) || message.contains(&format!("tensor grad.{name} ")),
                "{message}"
            );
        }
    }
}

#[test]
fn an_extra_tensor_is_bad_input_and_named() {
    for fixture in some_fixtures() {
        for extra in ["block.1.call.9.w_q", "grad.block.1.call.1.w_z", "block.7.norm.1.gain", "bias", "grad.output"] {
            let mut more = fixture.clone();
            more.tensors.insert(extra.into(), (vec![2], vec![1.0, 2.0]));
            let message = refused(&more);
            assert!(message.contains(&format!("tensor {extra} ")), "{message}");
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_bad_input_and_named() {
    for fixture in some_fixtures() {
        for (name, (shape, values)) in &fixture.tensors {
            let flat = (vec![values.len(), 1, 1, 1], values.clone());
            let longer = (vec![values.len() + 1], values.iter().copied().chain([1.0]).collect());
            for other in [flat, longer] {
                let mut wrong = fixture.clone();
                wrong.tensors.insert(name.clone(), other);
                let message = refused(&wrong);
                assert!(message.contains(&format!("tensor {name} ")), "{shape:?}: {message}");
            }
        }
    }
}

#[test]
fn a_truncated_file_is_bad_input_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    for fixture in some_fixtures() {
        let whole = std::fs::read(fixture.write(folder.path())).unwrap();
        for keep in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            match parity(&path, &Registry::builtin(), &Device::Cpu).expect_err("a part of a file") {
                error @ Error::File { .. } => {
                    assert_eq!(error.exit_code(), 2);
                    assert!(error.to_string().contains("cut.safetensors"), "{error}");
                }
                error => panic!("{error}"),
            }
        }
    }
}

/// Two ways to write the same network: equal outputs, input gradients and weight gradients.
struct Equivalence {
    /// The item of zoo.md, section B.4, or what else says so.
    item: &'static str,
    left: fn() -> String,
    right: fn() -> String,
    /// eps of the left for a right that has 1e-3, by the number of blocks.
    eps: fn(usize) -> (f64, f64),
}

/// Any eps, the same on both sides.
const ANY: fn(usize) -> (f64, f64) = |_| (1e-3, 1e-3);
/// What holds only where a norm of a norm is a norm.
const NONE: fn(usize) -> (f64, f64) = |_| (0.0, 0.0);

/// The file of a built-in placement.
fn built_in(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/zoo/{name}.toml"));
    std::fs::read_to_string(path).unwrap()
}

/// The file of a built-in placement with some text replaced, which must be there.
fn with(name: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(built_in(name), |text, (from, to)| {
        assert!(text.contains(from), "{name} has no {from:?}");
        text.replace(from, to)
    })
}

const EQUIVALENCES: [Equivalence; 20] = [
    Equivalence {
        item: "1: DeepNorm is Post-LN with branches over alpha, and eps over alpha^2",
        left: || built_in("deepnorm"),
        right: || {
            with("deepnorm", &[("alpha*x + attn(x)", "x + attn(x)/alpha"), ("alpha*x + ffn(x)", "x + ffn(x)/alpha")])
        },
        eps: |blocks| (1e-3, 1e-3 / (2.0 * blocks as f64).sqrt()),
    },
    Equivalence {
        item: "2: Mix-LN with no Post-LN block is Pre-LN",
        left: || with("mix-ln", &[("share = \"1/4\"", "share = \"0\"")]),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "2: Mix-LN with Post-LN blocks only is Post-LN",
        left: || with("mix-ln", &[("share = \"1/4\"", "share = \"1\"")]),
        right: || built_in("post-ln"),
        eps: NONE,
    },
    Equivalence {
        item: "3: Peri-LN without the norm of the embedding is Sandwich-LN",
        left: || with("peri-ln", &[("input  = \"norm(x)\"", "")]),
        right: || built_in("sandwich-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "3: Sandwich-LN without its inner norms is output-norm",
        left: || with("sandwich-ln", &[("attn(norm(x))", "attn(identity(x))"), ("ffn(norm(x))", "ffn(identity(x))")]),
        right: || built_in("output-norm"),
        eps: ANY,
    },
    Equivalence {
        item: "3: Sandwich-LN without its outer norms is Pre-LN",
        left: || with("sandwich-ln", &[("norm(attn(", "identity(attn("), ("norm(ffn(", "identity(ffn(")]),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "6: ResiDual without its second stream is Post-LN",
        left: || with("residual", &[("\"x + norm(r)\"", "\"x + 0*norm(r)\"")]),
        right: || built_in("post-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "8: Attention Residuals with queries of zero are Pre-LN",
        left: || built_in("attention-residuals"),
        right: || built_in("pre-ln"),
        eps: NONE,
    },
    Equivalence {
        item: "8: attending with queries of zero is averaging",
        left: || built_in("attention-residuals"),
        right: || with("attention-residuals", &[("attend(history)", "mean(history)")]),
        eps: ANY,
    },
    Equivalence {
        item: "9: DenseFormer with identity weights is Pre-LN",
        left: || built_in("denseformer"),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "9: LNS without its factor is Pre-LN",
        left: || with("lns", &[("/sqrt(l)", "/sqrt(1)")]),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "12: nGPT with alpha = 1 remembers nothing",
        left: || with("ngpt", &[("alpha = \"0.05\"", "alpha = \"1\"")]),
        right: || with("ngpt", &[("l2_norm(x + alpha*(a - x))", "a"), ("l2_norm(x + alpha*(f - x))", "f")]),
        eps: |_| (1e-12, 1e-12),
    },
    Equivalence {
        item: "13: KEEL on a normalized stream is DeepNorm with alpha = 2N and beta = 1",
        left: || "input = \"norm(x)\"\n".to_owned() + &built_in("keel"),
        right: || {
            let deepnorm = [("(2*N)^(1/4)", "2*N"), ("(8*N)^(-1/4)", "1")];
            "input = \"norm(x)\"\n".to_owned() + &with("deepnorm", &deepnorm)
        },
        eps: NONE,
    },
    Equivalence {
        item: "LayerScale, CompleteP and depth-muP differ in one factor",
        left: || with("completep", &[("N^(-1)", "N^(-1/2)")]),
        right: || built_in("depth-mup"),
        eps: ANY,
    },
    Equivalence {
        item: "Pre-LN with factors of 1",
        left: || with("depth-mup", &[("N^(-1/2)", "1")]),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "the init of GPT-2 is the setting's scaled init",
        left: || built_in("gpt2-init"),
        right: || built_in("pre-ln") + "\n[setting]\nscaled_init = true\n",
        eps: ANY,
    },
    Equivalence {
        item: "QK-norm of nothing is Pre-LN",
        left: || with("qk-norm", &[("qk = norm", "qk = identity")]),
        right: || built_in("pre-ln"),
        eps: ANY,
    },
    Equivalence {
        item: "a parallel block reads one norm of one stream, written once or twice",
        left: || built_in("parallel-two-norms"),
        right: || built_in("parallel"),
        eps: ANY,
    },
    Equivalence {
        item: "design 1.1: a history begins with the start of its stream, also in the start of another",
        left: || streams("mean(history)", "mean(history(r)) - mean(history(x))/2"),
        right: || streams("x", "r - x/2"),
        eps: ANY,
    },
    Equivalence {
        item: "design 1.1: the start of x is the value of input",
        left: || "name = \"a\"\ninput = \"x/3\"\nlayer = \"x = x + ffn(mean(history) + mean(history(x)))\"".into(),
        right: || {
            "name = \"a\"\nlayer = \"\"\"\ny = x\nx = y + ffn(m)\n\"\"\""
                .replace("y = x", "y = x\nm = mean(history) + mean(history(x))")
                + "\ninput = \"x - 2*x/3\""
        },
        eps: ANY,
    },
];

/// Three streams that start like this and are all read.
fn streams(r: &str, s: &str) -> String {
    format!(
        "name = \"three\"\ninput = \"norm(x)/2\"\nstreams = {{ r = \"{r}\", s = \"{s}\" }}\nlayer = \"\"\"\n\
         x = x + attn(norm(r)) + mean(history)\nr = r + ffn(norm(s)) + mean(history(s))\ns = s - r/2 + x\n\"\"\"\n\
         output = \"x + norm(r) + s + mean(history(r))\""
    )
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..=3usize, 2..=5usize, 1..=5usize, 1..=5usize, 12..=24usize, any::<bool>()).prop_map(
        |(heads, d_k, blocks, tokens, ffn_width, causal)| Shape {
            width: 2 * heads * d_k,
            blocks,
            tokens,
            heads,
            ffn_width,
            causal,
        },
    )
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn exact_equivalences_hold_forward_and_back(shape in shapes(), centred: bool, seed in 0..1000u64) {
        let registry = Registry::builtin();
        for same in &EQUIVALENCES {
            let (left_eps, right_eps) = (same.eps)(shape.blocks);
            let network = |text: &str, eps: f64| {
                let placement = placement(text, &registry).unwrap_or_else(|error| panic!("{}: {error}", same.item));
                // A smooth activation has no token whose branch is exactly zero, which no eps would save a norm from.
                let setting = Setting {
                    normalizer: if centred { "layer_norm" } else { "rms_norm" }.into(),
                    eps: Some(eps),
                    activation: Activation::Silu,
                    ..placement.overrides.setting().unwrap()
                };
                Network::new(&placement, shape, &setting, &registry, seed).unwrap()
            };
            let (left, right) = (network(&(same.left)(), left_eps), network(&(same.right)(), right_eps));
            let exact = |n: &Network| n.results(&n.run().unwrap());
            let single = |n: &Network| n.results(&n.run_in_f32().unwrap());
            let (a, b, a32, b32) = (exact(&left), exact(&right), single(&left), single(&right));
            let widest = a.iter().filter(|(name, _)| name != "output").filter_map(|(_, v)| v.as_deref()).map(largest).fold(0.0, f64::max);
            let n = left.roundings().max(right.roundings());
            let compared = |name: &str| name == "output" || name == "grad.input" || name.contains(".w_");
            let get = |all: &[(String, Option<Vec<f64>>)], name: &str| all.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.clone());
            for (name, x) in a.iter().filter(|(name, _)| compared(name)) {
                let y = get(&b, name);
                let far = |exact: &Option<Vec<f64>>, all: &[(String, Option<Vec<f64>>)]| match (exact, get(all, name)) {
                    (Some(exact), Some(single)) => reach(exact, &single, n),
                    _ => 0.0,
                };
                let cancelled = n * f64::EPSILON * if name == "output" { 0.0 } else { widest };
                let bound = far(x, &a32) + far(&y, &b32) + cancelled;
                prop_assert!(agree(x.as_deref(), y.as_deref(), bound), "{}: {name} within {bound:e}: {x:?} against {y:?}", same.item);
            }
            let weights = |all: &[(String, Option<Vec<f64>>)]| all.iter().filter(|(name, _)| name.contains(".w_")).count();
            prop_assert_eq!(weights(&a), weights(&b), "{}", same.item);
        }
    }
}

/// The numbers of the results by their names.
fn results(text: &str, shape: Shape, setting: &Setting, seed: u64) -> (Network, Results) {
    let registry = Registry::builtin();
    let network = Network::new(&placement(text, &registry).unwrap(), shape, setting, &registry, seed).unwrap();
    let results = network.results(&network.run().unwrap());
    (network, results)
}

proptest! {
    #![proptest_config(config(16))]

    /// B.4 item 5: a stack that starts as the identity gives its input, passes its cotangent on, and no weight that
    /// stands behind another zero feels anything. Exactly, not to rounding.
    #[test]
    fn identity_at_initialization_is_exact(shape in shapes(), seed in 0..1000u64) {
        let zero_init = with("unnormalized", &[("layer", "init = { w_o = 0, w_2 = 0 }\nlayer")]);
        let zero_scale = with("layerscale", &[("lambda*", "0*"), ("output = \"norm(x)\"", "")]);
        for text in [built_in("rezero"), built_in("skipinit"), zero_scale, zero_init] {
            let (network, all) = results(&text, shape, &Setting::standard(), seed);
            for (name, values) in &all {
                match name.as_str() {
                    "output" => prop_assert_eq!(values.as_ref().unwrap(), &support::values(&network.input)),
                    "grad.input" => prop_assert_eq!(values.as_ref().unwrap(), &support::values(&network.cotangent)),
                    // Fixup's own last matrices are zero, and feel what comes.
                    _ if text.contains("w_o = 0") && (name.ends_with("w_o") || name.ends_with("w_2")) => {}
                    _ if name.starts_with("grad.") => prop_assert_eq!(values.as_deref().map_or(0.0, largest), 0.0, "{}", name),
                    _ => {}
                }
            }
        }
    }

    /// B.4 item 12: nGPT with alpha = 0 stays where it is.
    #[test]
    fn ngpt_without_a_step_stays_on_the_sphere_where_it_starts(shape in shapes(), seed in 0..1000u64) {
        let text = with("ngpt", &[("alpha = \"0.05\"", "alpha = \"0\"")]);
        let (network, all) = results(&text, shape, &Setting::standard(), seed);
        let start = "name = \"start\"\ninput = \"l2_norm(x)\"\nlayer = \"x = x\"";
        let (_, unit) = results(start, shape, &Setting::standard(), seed);
        let bound = network.roundings() * f64::EPSILON;
        for (name, values) in all.iter().filter(|(name, _)| name == "output" || name == "grad.input") {
            let (_, expected) = unit.iter().find(|(n, _)| n == name).unwrap();
            prop_assert!(agree(values.as_deref(), expected.as_deref(), bound), "{name}: {values:?} against {expected:?}");
        }
        let weights = all.iter().filter(|(name, _)| name.contains(".w_"));
        prop_assert!(weights.into_iter().all(|(_, v)| v.as_deref().map_or(0.0, largest) == 0.0));
    }

    /// B.4 item 13: as alpha grows KEEL becomes the norm of its input, at the rate of 1/alpha.
    #[test]
    fn keel_tends_to_the_identity_as_alpha_grows(shape in shapes(), seed in 0..1000u64) {
        let setting = Setting { eps: Some(0.0), ..Setting::standard() };
        let output = |text: &str| results(text, shape, &setting, seed).1.remove(0).1.unwrap();
        let at = |alpha: &str| output(&with("keel", &[("\"2*N\"", &format!("\"{alpha}\""))]));
        let limit = output("name = \"limit\"\nlayer = \"x = norm(x)\"");
        let distance = |v: Vec<f64>| v.iter().zip(&limit).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let (near, nearer) = (distance(at("1e5")), distance(at("2e5")));
        // Terms of second order are smaller by branches over alpha, at most the number of branches times 1e-3.
        approx::assert_relative_eq!(near / nearer, 2.0, max_relative = 2e-3 * shape.blocks as f64);
    }
}

/// Whether two placements have the same equations, whatever their names and comments.
fn same_equations(a: &Placement, b: &Placement) -> bool {
    a.lets == b.lets
        && a.init == b.init
        && a.input == b.input
        && a.streams == b.streams
        && a.segments == b.segments
        && a.output == b.output
}

/// A built-in placement that nothing outside this crate has computed, and that equals none that is, fails here.
#[test]
fn every_built_in_has_a_fixture_or_an_equivalence() {
    let registry = Registry::builtin();
    let read = |text: &str| placement(text, &registry).unwrap();
    let recorded: Vec<Placement> =
        paths().iter().map(|path| read(&Fixture::read(path).metadata["normative.spec"])).collect();
    let equal: Vec<[Placement; 2]> = EQUIVALENCES.iter().map(|e| [read(&(e.left)()), read(&(e.right)())]).collect();
    let covered = |p: &Placement| recorded.iter().any(|r| same_equations(r, p));
    for built_in in zoo::all(&registry.vocabulary()).unwrap() {
        let equivalent = equal
            .iter()
            .any(|[a, b]| same_equations(a, &built_in) && covered(b) || same_equations(b, &built_in) && covered(a));
        assert!(
            covered(&built_in) || equivalent,
            "{} needs a fixture (add it to properties/fixtures/list_of_fixtures.py) or a row in EQUIVALENCES",
            built_in.name
        );
    }
}
