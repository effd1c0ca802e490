//! Networks from texts, run in f64 beside f32, and tensors compared within the rounding that this shows.
//!
//! Include it with `mod support;` (the folder beside the target).
#![allow(dead_code, reason = "each target uses a part of it")]

use candle_core::{DType, Device, Tensor};
use normative::error::Result;
use normative::execute::{Run, Seeds, Weights, draw_cotangent, draw_input, run};
use normative::fold::Graph;
use normative::op::{Gradient, Parameters, Registry};
use normative::profile::Layout;
use normative::random::Stream;
use normative::spec::{File, Placement, Setting, Shape};
pub mod fixture;

use proptest::test_runner::{Config, FileFailurePersistence};

/// Random cases that are kept when they fail.
pub fn config(cases: u32) -> Config {
    let persistence = FileFailurePersistence::Direct("properties/regressions.txt");
    Config { cases, failure_persistence: Some(Box::new(persistence)), ..Config::default() }
}

/// A placement from the text of its file.
pub fn placement(text: &str, registry: &Registry) -> Result<Placement> {
    Placement::new(File::parse("random.toml", text)?, &registry.vocabulary())
}

/// Results by name; `None` where the loss does not depend on it.
pub type Results = Vec<(String, Option<Vec<f64>>)>;

/// A network with its numbers, in f64.
pub struct Network {
    pub graph: Graph,
    pub parameters: Vec<Parameters>,
    pub input: Tensor,
    pub cotangent: Tensor,
}

impl Network {
    /// The network of a seed, or a stack of networks of several, at initial parameters.
    pub fn new(
        placement: &Placement,
        shape: Shape,
        setting: &Setting,
        registry: &Registry,
        seeds: impl Into<Seeds>,
    ) -> Result<Network> {
        let seeds = seeds.into();
        let graph = Graph::new(&placement.at(shape)?, setting, registry)?;
        Ok(Network {
            parameters: Weights::new(seeds).of(&graph, &Device::Cpu, DType::F64)?,
            input: draw_input(seeds, shape, &Device::Cpu, DType::F64)?,
            cotangent: draw_cotangent(seeds, shape, &Device::Cpu, DType::F64)?,
            graph,
        })
    }

    /// The same with every parameter moved, so that no gain is 1 and no query is 0.
    pub fn perturbed(mut self, seed: u64) -> Network {
        let mut stream = Stream::new(seed, &[17]);
        let mut moved = |t: &Tensor| {
            let noise = Tensor::from_vec(stream.normals(t.elem_count()), t.shape(), &Device::Cpu).unwrap();
            (t + (noise * 0.1).unwrap()).unwrap()
        };
        let each = |p: &Parameters| Parameters::new(p.iter().map(|(n, t)| (n.to_owned(), moved(t))).collect());
        self.parameters = self.parameters.iter().map(each).collect();
        self
    }

    pub fn run(&self) -> Result<Run> {
        run(&self.graph, &self.parameters, &self.input, &self.cotangent)
    }

    /// The same numbers rounded to f32, run in f32.
    pub fn run_in_f32(&self) -> Result<Run> {
        let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let each = |p: &Parameters| Parameters::new(p.iter().map(|(n, t)| (n.to_owned(), single(t))).collect());
        let parameters: Vec<Parameters> = self.parameters.iter().map(each).collect();
        run(&self.graph, &parameters, &single(&self.input), &single(&self.cotangent))
    }

    /// Every result by name: `output`, `grad.input`, `grad.block.1.call.1.w_q`, and the cotangents of sites,
    /// `x.block.1.step.2`.
    pub fn results(&self, run: &Run) -> Results {
        let gradient =
            |call: usize, order: usize| run.gradients[call].get(order).map(|g: &Gradient| g.tensor().unwrap());
        let points = Layout::new(&self.graph).parameters;
        let parameters = points.iter().map(|p| (format!("grad.{}", p.path), gradient(p.call, p.order)));
        let sites = self.graph.sites.iter().zip(&run.site_cotangents);
        let sites = sites.map(|(s, c)| (format!("{}.block.{}.step.{}", s.stream, s.block, s.step), c.clone()));
        [("output".into(), Some(run.output.clone())), ("grad.input".into(), run.input_cotangent.clone())]
            .into_iter()
            .chain(parameters)
            .chain(sites)
            .map(|(name, tensor)| (name, tensor.map(|t| values(&t))))
            .collect()
    }

    /// Roundings on the longest path, forward and back: in a matrix product one for each term of a sum, in a norm or
    /// softmax one for each coordinate or token and a few more.
    pub fn roundings(&self) -> f64 {
        let shape = self.graph.network.shape;
        let widest = 2 * shape.width + shape.ffn_width + 2 * shape.tokens + 32;
        2.0 * (self.graph.calls.len() * widest + self.graph.nodes.len()) as f64
    }
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| if v.is_nan() { f64::NAN } else { m.max(v.abs()) })
}

/// How far rounding in f64 reaches in a result, from the same in f32: to first order errors are proportional to the
/// roundoff, and `n` of them may add up where f32 happened to show one.
pub fn reach(exact: &[f64], single: &[f64], n: f64) -> f64 {
    let difference: Vec<f64> = exact.iter().zip(single).map(|(a, b)| a - b).collect();
    n * (f64::EPSILON / 2.0 * largest(exact) + f64::EPSILON / f64::from(f32::EPSILON) * largest(&difference))
}

/// Whether two results agree within `bound`; absent is zero.
pub fn agree(ours: Option<&[f64]>, theirs: Option<&[f64]>, bound: f64) -> bool {
    match (ours, theirs) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| approx::abs_diff_eq!(a, b, epsilon = bound))
        }
        (Some(a), None) | (None, Some(a)) => largest(a) <= bound,
        (None, None) => true,
    }
}

/// How far rounding reaches in `sum r y` of f64, from y in f64 and in f32 (inputs rounded to it, too), as [`reach`]; and
/// the additions of the sum itself.
pub fn loss_reach(y: &[f64], single: &[f64], r: &[f64], n: f64) -> f64 {
    let u = f64::EPSILON / 2.0;
    let ratio = f64::EPSILON / f64::from(f32::EPSILON);
    let each = y.iter().zip(single).zip(r);
    each.map(|((y, single), r)| r.abs() * (n * u * y.abs() + n * ratio * (single - y).abs())).sum::<f64>()
        + y.len() as f64 * u * y.iter().zip(r).map(|(y, r)| (y * r).abs()).sum::<f64>()
}

/// A slope at 0 against central differences of a function at h and 2h, `error` being how far rounding reaches in it.
///
/// Richardson's (4 near - far)/3 errs by O(h^4), below the O(h^2) that near and far differ by; each of its four
/// evaluations by `error`: (4 error/h + error/2h)/3.
pub fn assert_slope(slope: f64, f: impl Fn(f64) -> f64, error: f64, what: &str) {
    let h = f64::EPSILON.cbrt();
    let central = |h: f64| (f(h) - f(-h)) / (2.0 * h);
    let (near, far) = (central(h), central(2.0 * h));
    let bound = (near - far).abs() + 1.5 * error / h;
    assert!((slope - (4.0 * near - far) / 3.0).abs() <= bound, "{what}: {slope} against {near} within {bound}");
}
