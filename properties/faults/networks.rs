//! Networks under judgement: what a specification says, and what something else did instead.

use candle_core::{DType, Tensor};
use normative::execute::Measurement;
use normative::fold::Graph;
use normative::op::{Parameters, Registry};
use normative::predict::predict;
use normative::profile::{Layout, Profile};
use normative::reference::{Around, Block, Canonical, forward as by_hand};
use normative::spec::{Setting, Shape};
use normative::verify::{Observed, Pivot, Verdict, agreement, entries, pivots, places, squares};

use crate::Judged;
use crate::support::{Network, largest, placement, values};

pub const SHAPE: Shape = Shape { width: 64, blocks: 4, tokens: 16, heads: 2, ffn_width: 256, causal: false };

/// What all figures of one check may spend together.
pub const ALPHA: f64 = 1e-9;

/// A placement and what is around it.
#[derive(Clone)]
pub struct Spec {
    /// All of the file but its name.
    pub text: String,
    pub setting: Setting,
    pub registry: Registry,
}

impl Spec {
    /// A placement of this layer, with what else its file says.
    pub fn layer(layer: &str, rest: &str) -> Spec {
        Spec {
            text: format!("{rest}\nlayer = \"\"\"\n{layer}\n\"\"\""),
            setting: Setting::standard(),
            registry: Registry::builtin(),
        }
    }

    pub fn rms(self) -> Spec {
        self.with(|setting| setting.normalizer = "rms_norm".into())
    }

    pub fn with(mut self, change: impl FnOnce(&mut Setting)) -> Spec {
        change(&mut self.setting);
        self
    }

    pub fn graph(&self, shape: Shape) -> Graph {
        let placement = placement(&format!("name = \"subject\"\n{}", self.text), &self.registry).unwrap();
        Graph::new(&placement.at(shape).unwrap(), &self.setting, &self.registry).unwrap()
    }

    pub fn network(&self, shape: Shape, seed: u64) -> Network {
        let placement = placement(&format!("name = \"subject\"\n{}", self.text), &self.registry).unwrap();
        Network::new(&placement, shape, &self.setting, &self.registry, seed).unwrap()
    }
}

pub fn pre_ln() -> Spec {
    Spec::layer("x = x + attn(norm(x))\nx = x + ffn(norm(x))", "output = \"norm(x)\"")
}

/// Parameters with each tensor replaced, by its block and name.
pub fn altered(network: Network, alter: impl Fn(usize, &str, &Tensor) -> Tensor) -> Network {
    let each = |(call, parameters): (usize, &Parameters)| {
        let block = network.graph.calls[call].site.stage.block().unwrap_or(0);
        Parameters::new(parameters.iter().map(|(n, t)| (n.to_owned(), alter(block, n, t))).collect())
    };
    let parameters = network.parameters.iter().enumerate().map(each).collect();
    Network { parameters, ..network }
}

/// The first refuted place of a list of pivots.
fn refuted(pivots: &[Pivot]) -> Judged {
    let places = places(pivots, ALPHA);
    match places.iter().find(|e| e.verdict() == Verdict::Refuted) {
        None => Ok(()),
        Some(e) => Err(format!("{} is {:.3}, in [{:.3}, {:.3}]", e.figure, e.found, e.interval.from, e.interval.to)),
    }
}

/// Pivots of what the specification says, on what the subject's networks did.
pub fn by_pivots(specified: &Spec, seeds: u64, subject: impl Fn(u64) -> Network) -> Judged {
    let mut all = Vec::new();
    for seed in 0..seeds {
        let network = subject(seed);
        let run = network.run().unwrap();
        let Network { graph, parameters, input, cotangent } = &network;
        let observed = Observed::of(graph, parameters, input, cotangent, &run).unwrap();
        all.extend(pivots(&specified.graph(graph.network.shape), &observed).unwrap());
    }
    refuted(&all)
}

/// The entries of the subject's matrices against the variances that the specification gives them.
pub fn by_entries(specified: &Spec, seeds: u64, subject: impl Fn(u64) -> Network) -> Judged {
    let graph = specified.graph(SHAPE);
    let all = (0..seeds).flat_map(|seed| entries(&graph, &subject(seed).parameters, squares).unwrap());
    refuted(&all.collect::<Vec<_>>())
}

/// The subject's output against the paper's equations typed by hand, within the roundings of a path.
pub fn by_hand_written(canonical: Canonical, subject: &Spec) -> Judged {
    let network = subject.network(SHAPE, 1);
    let ours = values(&network.run().unwrap().output);
    let points = Layout::new(&network.graph).parameters;
    let weights: Vec<Tensor> = points
        .iter()
        .filter(|p| p.parameter.name.starts_with("w_"))
        .map(|p| network.parameters[p.call].iter().nth(p.order).unwrap().1.clone())
        .collect();
    let block = |w: &[Tensor]| {
        let [w_q, w_k, w_v, w_o, w_1, w_2] = w else { panic!("six matrices a block") };
        let [w_q, w_k, w_v, w_o, w_1, w_2] = [w_q, w_k, w_v, w_o, w_1, w_2].map(Tensor::clone);
        Block { w_q, w_k, w_v, w_o, w_1, w_2 }
    };
    let blocks: Vec<Block> = weights.chunks(6).map(block).collect();
    let centred = subject.setting.normalizer == "layer_norm";
    let eps = if centred { 1e-5 } else { 1e-6 };
    let around = Around { heads: SHAPE.heads, causal: SHAPE.causal, centred, eps };
    let theirs = values(&by_hand(canonical, &blocks, around, &network.input).unwrap());
    let bound = network.roundings() * f64::EPSILON * largest(&theirs);
    let error = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    match error <= bound {
        true => Ok(()),
        false => Err(format!("output off by {error:.1e}, rounding reaches {bound:.1e}")),
    }
}

/// The specification's prediction, altered or not, against measured networks of the subject; two stages.
pub fn by_prediction(specified: &Spec, subject: &Spec, alter: impl Fn(&mut Profile)) -> Judged {
    let mut predicted = predict(&specified.graph(SHAPE)).unwrap();
    alter(&mut predicted);
    let graph = subject.graph(SHAPE);
    let measure = |seeds, first_seed| {
        let how = Measurement { seeds, first_seed, dtype: DType::F32, ..Measurement::default() };
        normative::execute::measure(&graph, &how).map(|draws| draws.profile())
    };
    let judged = agreement(&predicted, &measure(48, 0).unwrap(), |_| measure(96, 48).map(Some)).unwrap();
    match judged.refuted.first() {
        None => Ok(()),
        Some(check) => {
            let name = judged.layout.name(check.figure);
            Err(format!("{name} predicted {:.4}, measured {:.4}", check.predicted, check.measured))
        }
    }
}
