//! Equalities of tensors, judged by rounding: each side is computed in f64 and again in f32, and may be off by as much as
//! f32 shows, scaled to f64's roundoff.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::execute::{Run, Weights, draw_cotangent, draw_input, run};
use crate::fold::Graph;
use crate::op::{Gradient, Parameters};
use crate::profile::Layout;
use crate::random::Stream;
use crate::verify::{Evidence, Interval};

/// One result in both precisions.
#[derive(Clone, Debug)]
pub struct Both {
    pub exact: Vec<f64>,
    single: Vec<f64>,
}

/// The entries of a tensor in f64.
pub fn entries(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The largest absolute entry; NaN where one is.
fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |m: f64, v| if v.is_nan() { f64::NAN } else { m.max(v.abs()) })
}

impl Both {
    /// A function of tensors given in f64, and the same of them rounded to f32.
    ///
    /// # Errors
    /// Those of the function.
    pub fn of(inputs: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Both> {
        let at = |dtype: DType| -> Result<Vec<f64>> {
            let inputs = inputs.iter().map(|t| t.to_dtype(dtype)).collect::<candle_core::Result<Vec<_>>>();
            let value = f(&inputs.map_err(Error::at("an input"))?)?;
            entries(&value).map_err(Error::at("a result"))
        };
        Ok(Both { exact: at(DType::F64)?, single: at(DType::F32)? })
    }

    /// How far rounding in f64 reaches: to first order errors are proportional to the roundoff, and `n` of them may add up
    /// where f32 happened to show one.
    pub fn reach(&self, n: f64) -> f64 {
        let difference = largest(self.exact.iter().zip(&self.single).map(|(a, b)| a - b));
        n * (f64::EPSILON / 2.0 * self.largest() + f64::EPSILON / f64::from(f32::EPSILON) * difference)
    }

    /// The largest absolute entry.
    pub fn largest(&self) -> f64 {
        largest(self.exact.iter().copied())
    }

    /// The same result times a number.
    pub fn times(&self, c: f64) -> Both {
        self.map(|v| c * v)
    }

    /// A function of every entry.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Both {
        let each = |values: &[f64]| values.iter().map(|v| f(*v)).collect();
        Both { exact: each(&self.exact), single: each(&self.single) }
    }

    /// A number of every row of `width` entries.
    pub fn of_rows(&self, width: usize, f: impl Fn(&[f64]) -> f64) -> Both {
        let each = |values: &[f64]| values.chunks_exact(width).map(&f).collect();
        Both { exact: each(&self.exact), single: each(&self.single) }
    }

    /// A result of the same length that is one throughout.
    pub fn ones(&self) -> Both {
        self.map(|_| 1.0)
    }

    /// A result of the same length that is zero throughout.
    pub fn zero(&self) -> Both {
        self.map(|_| 0.0)
    }
}

/// The largest difference of two results, beside what rounding explains of it: `n` roundings on the longest path.
pub fn difference(left: &Both, right: &Both, n: f64) -> (f64, f64) {
    let error = match left.exact.len() == right.exact.len() {
        true => largest(left.exact.iter().zip(&right.exact).map(|(a, b)| a - b)),
        false => f64::NAN,
    };
    (error, left.reach(n) + right.reach(n))
}

/// That two results are one.
pub fn equal(figure: impl Into<String>, left: &Both, right: &Both, n: f64) -> Evidence {
    let (error, bound) = difference(left, right, n);
    Evidence::rounding(figure, error, bound)
}

/// That two results differ by more than rounding explains.
pub fn unequal(figure: impl Into<String>, left: &Both, right: &Both, n: f64) -> Evidence {
    let (error, bound) = difference(left, right, n);
    Evidence::exact(figure, error, Interval::at_least(bound))
}

/// That no entry exceeds a limit in absolute value.
pub fn bounded(figure: impl Into<String>, result: &Both, limit: f64, n: f64) -> Evidence {
    Evidence::exact(figure, result.largest(), Interval::at_most(limit + result.reach(n))).stating(limit)
}

/// A random tensor of f64: iid N(0, 1).
pub fn normal(seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
    let values = Stream::new(seed, &[crate::random::name_key(name)]).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(Error::at(name))
}

/// One network with its numbers, in f64.
pub struct Pass {
    pub graph: Graph,
    pub parameters: Vec<Parameters>,
    pub input: Tensor,
    pub cotangent: Tensor,
}

impl Pass {
    /// The network of a seed, at initial parameters.
    pub fn new(graph: Graph, seed: u64) -> Result<Pass> {
        let shape = graph.network.shape;
        Ok(Pass {
            parameters: Weights::new(seed).of(&graph, &Device::Cpu, DType::F64)?,
            input: draw_input(seed, shape, &Device::Cpu, DType::F64)?,
            cotangent: draw_cotangent(seed, shape, &Device::Cpu, DType::F64)?,
            graph,
        })
    }

    /// The same with every matrix of a name changed.
    ///
    /// # Errors
    /// Those of the change.
    pub fn with(mut self, name: &str, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Pass> {
        let one = |(known, t): (&str, &Tensor)| {
            let tensor = if known == name { change(t).map_err(Error::at(name))? } else { t.clone() };
            Ok((known.to_owned(), tensor))
        };
        let each = |p: &Parameters| Ok(Parameters::new(p.iter().map(one).collect::<Result<_>>()?));
        self.parameters = self.parameters.iter().map(each).collect::<Result<_>>()?;
        Ok(self)
    }

    fn run_in(&self, dtype: DType) -> Result<Run> {
        let cast = |t: &Tensor| t.to_dtype(dtype).map_err(Error::at("a parameter"));
        let each = |p: &Parameters| -> Result<Parameters> {
            let named = p.iter().map(|(name, t)| Ok((name.to_owned(), cast(t)?)));
            Ok(Parameters::new(named.collect::<Result<_>>()?))
        };
        let parameters = self.parameters.iter().map(each).collect::<Result<Vec<_>>>()?;
        run(&self.graph, &parameters, &cast(&self.input)?, &cast(&self.cotangent)?)
    }

    /// Every result by name: `output`, `grad.input`, `grad.block.1.call.1.w_q`, and values and cotangents of sites
    /// (`x.block.1.step.2`, `grad.x.block.1.step.2`). What the loss does not depend on has no entries.
    pub fn results(&self) -> Result<Results> {
        let (exact, single) = (self.named(&self.run_in(DType::F64)?)?, self.named(&self.run_in(DType::F32)?)?);
        let both =
            |((name, exact), (_, single)): ((String, Vec<f64>), (String, Vec<f64>))| (name, Both { exact, single });
        Ok(Results { named: exact.into_iter().zip(single).map(both).collect(), roundings: self.roundings() })
    }

    fn named(&self, run: &Run) -> Result<Vec<(String, Vec<f64>)>> {
        let none = |t: Option<&Tensor>| t.map_or(Ok(Vec::new()), entries);
        let mut all = vec![
            ("output".to_owned(), entries(&run.output)),
            ("grad.input".into(), none(run.input_cotangent.as_ref())),
        ];
        for point in Layout::new(&self.graph).parameters {
            let gradient = run.gradients[point.call].get(point.order).map(Gradient::tensor).transpose();
            all.push((format!("grad.{}", point.path), gradient.and_then(|g| none(g.as_ref()))));
        }
        for ((site, value), cotangent) in self.graph.sites.iter().zip(&run.sites).zip(&run.site_cotangents) {
            let name = format!("{}.block.{}.step.{}", site.stream, site.block, site.step);
            all.push((name.clone(), entries(value)));
            all.push((format!("grad.{name}"), none(cotangent.as_ref())));
        }
        all.into_iter().map(|(name, v)| v.map(|v| (name, v)).map_err(Error::at("a result"))).collect()
    }

    /// `<W, grad W>` of a parameter by its path, and the roundoff of a sum of such products.
    pub fn along(&self, path: &str, gradient: &Both) -> Result<(f64, f64)> {
        let points = Layout::new(&self.graph).parameters;
        let point = points.iter().find(|point| point.path == path).ok_or_else(|| no_result(path))?;
        let (_, weight) = self.parameters[point.call].iter().nth(point.order).ok_or_else(|| no_result(path))?;
        let weight = entries(weight).map_err(Error::at(path))?;
        let products = || weight.iter().zip(&gradient.exact).map(|(w, g)| w * g);
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        Ok((products().sum::<f64>().abs(), f64::EPSILON / 2.0 * length(&weight) * length(&gradient.exact)))
    }

    /// Roundings on the longest path, forward and back: in a matrix product one for each term of a sum, in a norm or
    /// softmax one for each coordinate or token and a few more.
    fn roundings(&self) -> f64 {
        let shape = self.graph.network.shape;
        let widest = 2 * shape.width + shape.ffn_width + 2 * shape.tokens + 32;
        2.0 * (self.graph.calls.len() * widest + self.graph.nodes.len()) as f64
    }
}

fn no_result(name: &str) -> Error {
    Error::Option {
        message: format!("the network has no result {name}"),
        help: "results are named output, grad.input, grad.block.1.call.1.w_q".into(),
    }
}

/// What a network gives, by name.
pub struct Results {
    named: Vec<(String, Both)>,
    pub roundings: f64,
}

impl Results {
    /// A result by name.
    ///
    /// # Errors
    /// [`Error::Option`] where there is none of this name.
    pub fn get(&self, name: &str) -> Result<&Both> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, v)| v).ok_or_else(|| no_result(name))
    }

    /// The results whose names satisfy `wanted`.
    pub fn select<'a>(&'a self, wanted: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = (&'a str, &'a Both)> {
        self.named.iter().map(|(name, v)| (name.as_str(), v)).filter(move |(name, _)| wanted(name))
    }

    /// The largest entry of any gradient: what is zero by cancellation is rounding of what it cancels from.
    fn widest(&self) -> f64 {
        largest(self.select(|name| name.starts_with("grad.")).map(|(_, v)| v.largest()))
    }

    /// What rounding leaves of a gradient that cancels.
    pub fn cancelled(&self) -> f64 {
        self.roundings * f64::EPSILON / 2.0 * self.widest()
    }

    /// That every result of `self` that `wanted` names is the other network's of the same name: the one that uses most of
    /// what rounding explains. A result without entries is zero.
    pub fn equal(&self, other: &Results, wanted: impl Fn(&str) -> bool) -> Evidence {
        let n = self.roundings.max(other.roundings);
        let pairs = self.select(wanted).filter_map(|(name, left)| {
            let right = other.get(name).ok()?;
            let (left, right) = match (left.exact.is_empty(), right.exact.is_empty()) {
                (true, false) => (&right.zero(), right),
                (false, true) => (left, &left.zero()),
                _ => (left, right),
            };
            let (error, bound) = difference(left, right, n);
            let cancelled = if name.starts_with("grad.") { self.cancelled().max(other.cancelled()) } else { 0.0 };
            Some((name, error, bound + cancelled))
        });
        let used = |(_, error, bound): &(&str, f64, f64)| if *error == 0.0 { 0.0 } else { error / bound };
        match pairs.max_by(|a, b| used(a).total_cmp(&used(b))) {
            Some((name, error, bound)) => Evidence::rounding(format!("{name}, difference"), error, bound),
            None => Evidence::rounding("results in common", f64::NAN, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Verdict;

    fn both(values: &[f64]) -> Both {
        let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        Both::of(&[&tensor], |t| Ok(t[0].clone())).unwrap()
    }

    #[test]
    fn a_difference_beyond_rounding_is_found_and_one_within_it_is_not() {
        let (one, near, far) = (both(&[1.0, 2.0]), both(&[1.0 + f64::EPSILON, 2.0]), both(&[1.0 + 1e-9, 2.0]));
        assert_eq!(equal("x", &one, &near, 4.0).verdict(), Verdict::Verified);
        assert_eq!(equal("x", &one, &far, 4.0).verdict(), Verdict::Refuted);
        assert_eq!(unequal("x", &one, &far, 4.0).verdict(), Verdict::Verified);
        assert_eq!(unequal("x", &one, &near, 4.0).verdict(), Verdict::Refuted);
    }

    #[test]
    fn results_of_other_lengths_are_not_equal() {
        assert_eq!(equal("x", &both(&[1.0]), &both(&[1.0, 1.0]), 4.0).verdict(), Verdict::Undecided);
    }
}
