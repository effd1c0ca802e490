//! What a statement is judged on: placements by name, the setting, the numbers stated, and what a test plants instead.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::claims::Lab;
use crate::claims::experiment::{Curves, Network, placement};
use crate::error::Result;
use crate::execute::{Run, Weights, draw_cotangent, draw_input, run};
use crate::fold::Graph;
use crate::op::{Parameters, Registry};
use crate::spec::{Overrides, Placement, Shape, Statement};
use crate::zoo;

/// Draws of a network in a first look: enough for most exponents to within 0.1 and most ratios to within a tenth at width 64.
pub const DRAWS: usize = 128;

/// The sizes of a network that do not follow from the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: usize,
    pub blocks: usize,
    pub tokens: usize,
}

impl From<[usize; 3]> for Size {
    fn from([width, blocks, tokens]: [usize; 3]) -> Size {
        Size { width, blocks, tokens }
    }
}

/// What stands in the place of a statement's own placements, setting and numbers: a fault that its verdict must show.
#[derive(Clone, Debug, Default)]
pub struct Planted {
    /// The equations behind a name, as a file's text without its name.
    pub placements: Vec<(&'static str, &'static str)>,
    pub setting: Overrides,
    /// The numbers that the statement is taken to state.
    pub stated: Option<Vec<f64>>,
    /// Seconds that LayerNorm and RMSNorm are taken to need, in place of the clock's readings.
    pub clock: Option<Vec<[f64; 2]>>,
}

/// One statement on trial.
pub struct Bench<'a> {
    pub lab: &'a Lab<'a>,
    pub planted: &'a Planted,
    /// The setting in which the statement is judged.
    pub setting: &'static str,
    /// The numbers that the statement states.
    pub stated: &'a [f64],
    /// The error rate of each of its figures.
    pub alpha: f64,
}

/// Equations that a statement is about and the zoo does not have.
const OWN: [(&str, &str); 7] = [
    ("attention alone", "layer = \"x = attn(norm(x))\""),
    ("ffn alone", "layer = \"x = ffn(norm(x))\""),
    ("norm alone", "layer = \"x = norm(x)\""),
    ("pre-ln with small branches", "layer = \"x = x + 0.1*attn(norm(x))\\nx = x + 0.1*ffn(norm(x))\""),
    ("post-ln of a zero map", "layer = \"x = norm(x + 0.001*attn(x))\\nx = norm(x + 0.001*ffn(x))\""),
    ("toy pre-norm", "layer = \"x = x + 0.05*attn(norm(x))\\nx = x + 0.05*ffn(norm(x))\""),
    ("toy post-norm", "layer = \"x = norm(x + 0.05*attn(x))\\nx = norm(x + 0.05*ffn(x))\""),
];

impl Bench<'_> {
    /// What a name in the statement stands for: what was planted, equations above, or the built-in.
    pub fn placement(&self, name: &str) -> Result<Placement> {
        let registry = self.lab.registry;
        let of_name = |texts: &[(&str, &str)]| {
            let text = texts.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())?;
            Some(placement(&format!("name = \"claim\"\n{text}"), registry))
        };
        let own = || of_name(&OWN);
        of_name(&self.planted.placements).or_else(own).unwrap_or_else(|| zoo::placement(name, &registry.vocabulary()))
    }

    pub fn network(&self, name: &str, size: Size) -> Result<Network> {
        self.around(self.placement(name)?, size)
    }

    /// The sizes with the setting's heads and FFN width.
    pub fn shape(&self, Size { width, blocks, tokens }: Size) -> Result<Shape> {
        self.overrides().shape(width, blocks, tokens)
    }

    fn overrides(&self) -> Overrides {
        self.planted.setting.over(Overrides { name: Some(self.setting.into()), ..Overrides::default() })
    }

    fn around(&self, placement: Placement, size: Size) -> Result<Network> {
        Ok(Network { placement, setting: self.overrides().setting()?, shape: self.shape(size)? })
    }

    pub fn graph(&self, name: &str, size: Size) -> Result<Graph> {
        self.network(name, size)?.graph(self.lab.registry)
    }

    /// The same with another normalizer.
    pub fn graph_with(&self, name: &str, size: Size, normalizer: &str) -> Result<Graph> {
        let mut network = self.network(name, size)?;
        network.setting.normalizer = normalizer.into();
        network.graph(self.lab.registry)
    }

    /// Draws of the exact law of a placement.
    pub fn draws(&self, name: &str, size: Size) -> Result<Arc<Curves>> {
        self.lab.sampled(&self.network(name, size)?, self.lab.draws(DRAWS, DRAWS))
    }

    /// Draws of a placement with more streams: `BRANCH`, `FIRST` and `MOVED`.
    pub fn contributions(&self, name: &str, size: Size) -> Result<Arc<Curves>> {
        let network = self.around(observed(self.placement(name)?, self.lab.registry)?, size)?;
        self.lab.sampled(&network, self.lab.draws(DRAWS, DRAWS))
    }
}

/// The stream of [`Bench::contributions`] with what each block added.
pub const BRANCH: &str = "branch";
/// The stream with `x` behind block 1 until the end.
pub const FIRST: &str = "first";
/// The stream with how far `x` has moved from [`FIRST`].
pub const MOVED: &str = "moved";

/// The same placement, observed: nothing of `x` depends on the streams added.
const OBSERVER: &str = r#"
name = "observer"
streams = { branch = "x", first = "x", moved = "x" }
layer = """
branch = x
x = x
branch = x - branch
first = max(0, 2 - l)*x + (1 - max(0, 2 - l))*first
moved = x - first
"""
"#;

fn observed(mut subject: Placement, registry: &Registry) -> Result<Placement> {
    let observer = placement(OBSERVER, registry)?;
    let observations: Vec<Statement> = observer.segments.into_iter().flat_map(|segment| segment.layer).collect();
    // The statement between them is the layer's place.
    let (before, after) = (&observations[..1], &observations[2..]);
    for segment in &mut subject.segments {
        segment.layer.splice(0..0, before.iter().cloned());
        segment.layer.extend_from_slice(after);
    }
    subject.streams.extend(observer.streams);
    Ok(subject)
}

/// A network with weights, in f64 on the host, where rounding is far below every figure.
pub struct Weighted {
    pub graph: Graph,
    pub parameters: Vec<Parameters>,
    pub input: Tensor,
    pub cotangent: Tensor,
}

impl Weighted {
    pub fn run(&self) -> Result<Run> {
        run(&self.graph, &self.parameters, &self.input, &self.cotangent)
    }

    /// What rounding can do to a value of size 1: a rounding for each term of the sums on the longest path, in matrix
    /// products, norms and softmax, forward and back, on either side of a comparison.
    pub fn rounding(&self) -> f64 {
        let Shape { width, tokens, ffn_width, .. } = self.graph.network.shape;
        let widest = 2 * width + ffn_width + 2 * tokens + 32;
        (4 * (self.graph.calls.len() * widest + self.graph.nodes.len())) as f64 * f64::EPSILON
    }
}

impl Bench<'_> {
    /// A placement with weights of the run's seed.
    pub fn weighted(&self, name: &str, size: Size) -> Result<Weighted> {
        let graph = self.graph(name, size)?;
        let (seed, shape, host) = (self.lab.seed, self.shape(size)?, Device::Cpu);
        Ok(Weighted {
            parameters: Weights::new(seed).of(&graph, &host, DType::F64)?,
            input: draw_input(seed, shape, &host, DType::F64)?,
            cotangent: draw_cotangent(seed, shape, &host, DType::F64)?,
            graph,
        })
    }
}
