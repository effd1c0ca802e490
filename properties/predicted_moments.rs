//! Predicted figures against networks with real weights, differentiated by another framework (JAX), per placement.

use normative::fold::Graph;
use normative::op::Registry;
use normative::predict::predict;
use normative::profile::{Place, Profile, Quantity};
use normative::sample::sample;
use normative::spec::{File, InitLaw, Overrides, Placement, Setting, Shape};
use normative::zoo;
use serde_json::Value;

/// What issue 2 demands of each kind of figure: relative, overlaps absolute.
struct Demand {
    second_moment: f64,
    overlap: f64,
    input_gradient: f64,
    /// W_O, W_V, W_1, W_2.
    linear: f64,
    /// W_Q, W_K.
    scores: f64,
}

/// At d = 128, 6 blocks, 16 tokens: the goal, half of which holds at d = 256, 4 blocks, 12 tokens.
const GOAL: Demand = Demand { second_moment: 0.01, overlap: 0.01, input_gradient: 0.02, linear: 0.03, scores: 0.10 };

/// The least, by fixture.
const LEAST: [(&str, Demand); 2] = [
    ("moments-d128", Demand { second_moment: 0.02, overlap: 0.02, input_gradient: 0.05, linear: 0.07, scores: 0.30 }),
    (
        "moments-d256-causal-layernorm",
        Demand { second_moment: 0.012, overlap: 0.02, input_gradient: 0.035, linear: 0.05, scores: 0.13 },
    ),
];

impl Demand {
    fn of(&self, quantity: Quantity, name: &str) -> f64 {
        match (quantity, name) {
            (Quantity::SecondMoment, _) => self.second_moment,
            (Quantity::Overlap, _) => self.overlap,
            (Quantity::Gradient, "input") => self.input_gradient,
            (Quantity::Gradient, "w_q" | "w_k") => self.scores,
            (Quantity::Gradient, _) => self.linear,
        }
    }
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/properties/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn graph(fixture: &Value, placement: &str) -> Graph {
    let size = |key: &str| fixture[key].as_u64().unwrap() as usize;
    let shape = Shape {
        width: size("width"),
        blocks: size("blocks"),
        tokens: size("tokens"),
        heads: size("heads"),
        ffn_width: size("ffn_width"),
        causal: fixture["causal"].as_bool().unwrap(),
    };
    let normalizer = format!("{}_norm", fixture["normalizer"].as_str().unwrap());
    let setting = Setting { normalizer, eps: Some(0.0), ..Setting::standard() };
    let registry = Registry::builtin();
    let network = zoo::placement(placement, &registry.vocabulary()).unwrap().at(shape).unwrap();
    Graph::new(&network, &setting, &registry).unwrap()
}

fn written(text: &str, width: usize, blocks: usize, tokens: usize, overrides: &Overrides) -> Profile {
    let registry = Registry::builtin();
    let placement = Placement::new(File::parse("test.toml", text).unwrap(), &registry.vocabulary()).unwrap();
    let network = placement.at(overrides.shape(width, blocks, tokens).unwrap()).unwrap();
    predict(&Graph::new(&network, &overrides.setting().unwrap(), &registry).unwrap()).unwrap()
}

fn layer(layer: &str, rest: &str) -> String {
    format!("name = \"test\"\nlayer = \"\"\"\n{layer}\n\"\"\"\n{rest}\n")
}

/// One figure: what it is, its prediction, and the measured mean and standard error.
struct Compared {
    name: String,
    quantity: Quantity,
    parameter: String,
    predicted: f64,
    law: f64,
    measured: (f64, f64),
}

impl Compared {
    /// The error beyond two standard errors, relative but for overlaps.
    fn error(&self) -> f64 {
        let (mean, se) = self.measured;
        let unit = if self.quantity == Quantity::Overlap { 1.0 } else { mean };
        ((self.predicted - mean).abs() - 2.0 * se).max(0.0) / unit
    }
}

fn compare(profile: &Profile, measured: &Value) -> Vec<Compared> {
    let layout = &profile.layout;
    let number = |v: &Value| v.as_f64().unwrap();
    let one = |place, quantity, parameter: &str, name: String, mean: &Value, se: &Value| {
        let figure = profile.get(place, quantity).unwrap();
        Compared {
            name,
            quantity,
            parameter: parameter.to_owned(),
            predicted: figure.value.unwrap(),
            law: figure.law.unwrap(),
            measured: (number(mean), number(se)),
        }
    };
    let mut all = Vec::new();
    for (key, quantity) in [("second_moment", Quantity::SecondMoment), ("overlap", Quantity::Overlap)] {
        for (stream, recorded) in measured[key].as_object().unwrap() {
            for block in 0..=layout.shape.blocks {
                let site = layout.sites.iter().rposition(|s| s.stream == *stream && s.block == block).unwrap();
                let name = format!("{stream} {key} {block}");
                all.push(one(Place::Site(site), quantity, "", name, &recorded["mean"][block], &recorded["se"][block]));
            }
        }
    }
    let input = &measured["input_gradient"];
    let name = "input gradient".to_owned();
    all.push(one(Place::Input, Quantity::Gradient, "input", name, &input["mean"], &input["se"]));
    for (p, point) in layout.parameters.iter().enumerate().filter(|(_, p)| p.parameter.shape.len() == 2) {
        let mut recorded = measured["parameters"].as_array().unwrap().iter();
        let block = point.stage.block().unwrap();
        let entry = recorded.find(|r| r["block"] == block && r["sublayer"] == point.sublayer.as_str()).unwrap();
        let entry = &entry[&point.parameter.name];
        let place = Place::Parameter(p);
        let quantity = Quantity::Gradient;
        all.push(one(place, quantity, &point.parameter.name, point.path.clone(), &entry["mean"], &entry["se"]));
    }
    all
}

/// Calls `judge` with every figure of both fixtures.
fn every_figure(mut judge: impl FnMut(&str, &Demand, &Compared)) {
    for (name, demand) in &LEAST {
        let fixture = fixture(name);
        for (placement, measured) in fixture["placements"].as_object().unwrap() {
            let profile = predict(&graph(&fixture, placement)).unwrap();
            compare(&profile, measured)
                .iter()
                .for_each(|c| judge(&format!("{name} {placement} {}", c.name), demand, c));
        }
    }
}

#[test]
fn predictions_meet_what_the_issue_demands_and_their_own_law() {
    let mut missed = Vec::new();
    every_figure(|name, demand, c| {
        let unit = if c.quantity == Quantity::Overlap { 1.0 } else { c.measured.0 };
        let (error, law, least) = (c.error(), c.law / unit, demand.of(c.quantity, &c.parameter));
        if error > least.min(law) {
            missed.push(format!("{name}: error {error:.4}, law {law:.4}, demanded {least}"));
        }
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn predictions_at_width_128_reach_the_goal() {
    let mut missed = Vec::new();
    every_figure(|name, _, c| {
        let goal = GOAL.of(c.quantity, &c.parameter);
        if name.starts_with(LEAST[0].0) && c.error() > goal {
            missed.push(format!("{name}: error {:.4}, goal {goal}", c.error()));
        }
    });
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_mean_field_recursion_of_xiong_is_the_limit_of_great_width() {
    // Pre-LN, 16 tokens: (block, second moment, overlap), Xiong et al. 2020, arXiv:2002.04745; derived in theory.md, section 5.
    const REFERENCE: [(usize, f64, f64); 4] =
        [(1, 1.562, 0.151), (2, 2.267, 0.295), (6, 6.175, 0.617), (12, 13.462, 0.772)];
    const WIDTH: usize = 1 << 14;
    let overrides = Overrides { name: Some("xiong".into()), ..Overrides::default() };
    let text = layer("x = x + attn(norm(x))\nx = x + ffn(norm(x))", "");
    let profile = written(&text, WIDTH, 12, 16, &overrides);
    for (block, second_moment, overlap) in REFERENCE {
        let site = profile.layout.sites.iter().rposition(|s| s.block == block).unwrap();
        let figure = |quantity| profile.get(Place::Site(site), quantity).unwrap().value.unwrap();
        // The table has three decimals; what depends on the width is below one part in it a sub-layer.
        let margin = 0.5e-3 + 2.0 * block as f64 / WIDTH as f64;
        assert!(
            (figure(Quantity::SecondMoment) - second_moment).abs() < margin * second_moment.max(1.0),
            "block {block}"
        );
        assert!((figure(Quantity::Overlap) - overlap).abs() < margin, "block {block}");
    }
}

#[test]
fn a_gradient_that_no_equation_lets_through_is_exactly_zero() {
    let text = layer("x = x + 0*attn(norm(x)) + ffn(norm(stop_gradient(x)))\ny = ffn(x)", "output = \"norm(x)\"");
    let profile = written(&text, 64, 2, 4, &Overrides::default());
    for (p, point) in profile.layout.parameters.iter().enumerate() {
        let gradient = profile.get(Place::Parameter(p), Quantity::Gradient).unwrap().value.unwrap();
        let reached = !(point.sublayer == "attn" || point.index == 3 || point.index == 1 && point.sublayer == "norm");
        let reached = reached && !(point.sublayer == "norm" && point.stage.block().is_some());
        assert!(if reached { gradient > 0.0 } else { gradient >= 0.0 }, "{}", point.path);
        if point.sublayer == "attn" || point.sublayer == "ffn" && point.index == 3 {
            assert_eq!(gradient, 0.0, "{}", point.path);
        }
    }
}

#[test]
fn attention_over_the_history_with_a_query_of_zero_is_pre_ln() {
    let registry = Registry::builtin();
    let profile = |name: &str| {
        let network = zoo::placement(name, &registry.vocabulary()).unwrap();
        let network = network.at(Overrides::default().shape(128, 4, 8).unwrap()).unwrap();
        predict(&Graph::new(&network, &Setting { eps: Some(0.0), ..Setting::standard() }, &registry).unwrap()).unwrap()
    };
    let (attended, plain) = (profile("attention-residuals"), profile("pre-ln"));
    let matrices = |profile: &Profile| -> Vec<f64> {
        let figures = profile.layout.parameters.iter().enumerate().filter(|(_, p)| p.parameter.shape.len() == 2);
        figures.map(|(p, _)| profile.get(Place::Parameter(p), Quantity::Gradient).unwrap().value.unwrap()).collect()
    };
    // Equal but for the scale of the stream, which the norms take off: rounding through 2N sub-layers.
    for (a, b) in matrices(&attended).iter().zip(&matrices(&plain)) {
        assert!((a / b - 1.0).abs() < 1e6 * f64::EPSILON, "{a} {b}");
    }
}

#[test]
fn a_softmax_that_no_norm_holds_is_refused_with_the_reason() {
    let text = layer("x = x + attn(x)\nx = x + ffn(x)", "");
    let profile = written(&text, 128, 12, 8, &Overrides::default());
    let first = profile.get(Place::Site(1), Quantity::SecondMoment).unwrap();
    let last = profile.get(Place::Output, Quantity::SecondMoment).unwrap();
    assert!(first.value.is_some() && last.value.is_none());
    assert!(last.reason.as_ref().unwrap().contains("softmax is saturated"), "{:?}", last.reason);
}

/// Every figure of a placement lies within its own law of the exact one, and six standard errors.
fn agrees_with_the_exact_law(text: &str, shape: Shape, draws: usize) {
    let registry = Registry::builtin();
    let placement = Placement::new(File::parse("test.toml", text).unwrap(), &registry.vocabulary()).unwrap();
    let network = placement.at(shape).unwrap();
    let setting = Setting { init: InitLaw::Gaussian, ..Setting::standard() };
    let graph = Graph::new(&network, &setting, &registry).unwrap();
    let (predicted, sampled) = (predict(&graph).unwrap(), sample(&graph, draws, 1).unwrap().profile());
    let mut compared = 0;
    for (i, (theory, fact)) in predicted.figures.iter().zip(&sampled.figures).enumerate() {
        let (Some(p), Some(m), Some(se)) = (theory.value, fact.value, fact.se) else { continue };
        let reach = theory.law.unwrap_or(0.0) + 6.0 * se;
        assert!((p - m).abs() <= reach, "{text}{shape:?}\n{}: {p} sampled {m}", predicted.layout.name(i));
        compared += 1;
    }
    assert!(compared > predicted.figures.len() / 2, "{compared} of {}", predicted.figures.len());
}

#[test]
fn bends_with_no_matrix_between_agree_with_the_exact_law() {
    let text = layer("x = dyt(2*x)", "output = \"dyt(mean(history(x)) - 0.3*x)\"");
    agrees_with_the_exact_law(&text, Overrides::default().shape(128, 4, 4).unwrap(), 256);
}

#[test]
fn norms_behind_few_heads_agree_with_the_exact_law() {
    let alone = "x = norm(attn(x))\nx = norm(ffn(x))";
    let inside = "x = x + norm(attn(norm(x)))";
    let within = "x = x + attn(norm(x), out = norm)";
    for (text, heads, causal) in
        [(alone, 1, false), (alone, 1, true), (alone, 2, false), (inside, 1, false), (within, 1, false)]
    {
        let shape = Shape { width: 64, blocks: 1, tokens: 8, heads, ffn_width: 64, causal };
        agrees_with_the_exact_law(&layer(text, ""), shape, 4096);
    }
}

#[test]
fn a_norm_of_a_nearly_cancelling_sum_has_no_way_back_and_says_why() {
    let of = |c: f64| {
        let text = layer(&format!("x = x + rms_norm(0.5*x - {c}*rms_norm(x + 0.1*attn(rms_norm(x))))"), "");
        written(&text, 128, 1, 8, &Overrides::default())
    };
    let (cancels, stays) = (of(0.56), of(0.3));
    let gradient = |profile: &Profile| profile.get(Place::Input, Quantity::Gradient).unwrap().clone();
    assert!(gradient(&stays).value.is_some());
    let refused = gradient(&cancels);
    assert!(refused.value.is_none() && refused.reason.as_ref().unwrap().contains("nearly cancels"), "{refused:?}");
    // What comes after is known, and so is its cotangent.
    for quantity in [Quantity::SecondMoment, Quantity::Gradient] {
        assert!(cancels.get(Place::Output, quantity).is_none_or(|figure| figure.value.is_some()));
    }
}

#[test]
fn a_stack_that_overflows_says_so() {
    let text = layer("x = 1000*x + ffn(x)", "");
    let profile = written(&text, 64, 16, 2, &Overrides::default());
    let output = profile.get(Place::Output, Quantity::SecondMoment).unwrap();
    assert!(output.reason.as_ref().unwrap().contains("overflows"), "{:?}", output.reason);
    assert!(profile.get(Place::Site(1), Quantity::SecondMoment).unwrap().value.is_some());
}

#[test]
fn one_token_has_second_moments_and_gradients_but_no_overlap() {
    let text = layer("x = norm(x + attn(x, qkv = norm))\nx = x + ffn(norm(x))", "");
    let profile = written(&text, 64, 3, 1, &Overrides::default());
    for (figure, (place, quantity)) in profile.figures.iter().zip(&profile.layout.figures) {
        assert_eq!(figure.value.is_some(), *quantity != Quantity::Overlap, "{place:?} {:?}", figure.reason);
    }
    let query = profile.layout.parameters.iter().position(|p| p.parameter.name == "w_q").unwrap();
    assert_eq!(profile.get(Place::Parameter(query), Quantity::Gradient).unwrap().value, Some(0.0));
}

#[test]
fn every_built_in_placement_is_predicted_by_any_normalizer_and_activation() {
    let registry = Registry::builtin();
    for name in zoo::names() {
        for (normalizer, activation) in
            [("layer_norm", "gelu"), ("dyt", "swiglu"), ("scale_norm", "silu"), ("identity", "relu")]
        {
            let overrides = Overrides {
                normalizer: Some(normalizer.into()),
                activation: Some(serde_json::from_value(activation.into()).unwrap()),
                causal: Some(true),
                ..Overrides::default()
            };
            let shape = overrides.shape(64, 2, 3).unwrap();
            let network = zoo::placement(name, &registry.vocabulary()).unwrap().at(shape).unwrap();
            let profile = predict(&Graph::new(&network, &overrides.setting().unwrap(), &registry).unwrap()).unwrap();
            for (figure, at) in profile.figures.iter().zip(&profile.layout.figures) {
                assert!(
                    figure.value.is_some_and(f64::is_finite) != figure.reason.is_some(),
                    "{name} {normalizer} {at:?}"
                );
            }
        }
    }
}

#[test]
fn tokens_that_collapse_leave_every_size_predicted() {
    let registry = Registry::builtin();
    for (name, tokens, blocks) in
        [("post-ln", 3, 32), ("post-ln", 16, 128), ("residual", 4, 64), ("hybridnorm", 3, 128)]
    {
        let shape = Shape { width: 128, blocks, tokens, heads: 4, ffn_width: 512, causal: false };
        let network = zoo::placement(name, &registry.vocabulary()).unwrap().at(shape).unwrap();
        let profile = predict(&Graph::new(&network, &Setting::standard(), &registry).unwrap()).unwrap();
        for (figure, (place, quantity)) in profile.figures.iter().zip(&profile.layout.figures) {
            let size = *quantity != Quantity::Gradient && !matches!(place, Place::Parameter(_));
            assert!(!size || figure.value.is_some(), "{name}, {tokens} tokens, {blocks} blocks: {place:?} {figure:?}");
        }
    }
}
