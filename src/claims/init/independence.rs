//! That matrices know nothing of each other: between blocks, and queries from keys.

use candle_core::{DType, Tensor};

use crate::claims::init::{Shared, about, graphs, with_parameters};
use crate::claims::{About, Claim, Item, Lab};
use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::Parameters;
use crate::profile::{Layout, ParameterPoint};
use crate::verify::{Evidence, Finding, Interval, Verdict};

/// The largest correlation that counts as none: matrices with a twentieth of their variance in common would show.
const CORRELATION: f64 = 0.05;

/// Seeds on which correlations are taken.
const SEEDS: usize = 32;

/// Two matrices, each a call and the position among its parameters, with a name.
pub type Pair = (String, [(usize, usize); 2]);

type Pairs = fn(&Graph) -> Vec<Pair>;

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, plan| Claim {
        id,
        statement,
        source: "Glorot and Bengio 2010, PMLR 9, section 4.2.1 (independent initialization)",
        domain: "every init law; pairs of matrices of one shape, 32 seeds",
        about: About::EveryPlacement,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "init.independence.layers",
            "The same matrix of neighbouring blocks is drawn independently: the correlation of their entries is 0.",
            |claim, _| Ok(item(claim.id, neighbours)),
        ),
        claim(
            "init.independence.queries_keys",
            "W_Q and W_K of one call are drawn independently: the correlation of their entries is 0.",
            |claim, _| Ok(item(claim.id, queries_keys)),
        ),
    ]
}

fn item(id: &'static str, pairs: Pairs) -> Vec<Item> {
    vec![Item { key: id.into(), judge: Box::new(move |lab: &Lab| judge(id, lab, pairs)) }]
}

fn matrices(graph: &Graph) -> Vec<ParameterPoint> {
    let matrix = |point: &ParameterPoint| point.parameter.shape.len() == 2;
    Layout::new(graph).parameters.into_iter().filter(matrix).collect()
}

/// Each matrix with that of the same call and name one block on.
pub fn neighbours(graph: &Graph) -> Vec<Pair> {
    let all = matrices(graph);
    let next = |one: &ParameterPoint| {
        let block = one.stage.block()?;
        let same = |other: &&ParameterPoint| {
            other.stage.block() == Some(block + 1)
                && other.index == one.index
                && other.parameter.name == one.parameter.name
                && other.parameter.shape == one.parameter.shape
        };
        let other = all.iter().find(same)?;
        Some((format!("{} and {}", one.path, other.path), [(one.call, one.order), (other.call, other.order)]))
    };
    all.iter().filter_map(next).collect()
}

pub fn queries_keys(graph: &Graph) -> Vec<Pair> {
    let all = matrices(graph);
    let key = |one: &ParameterPoint| {
        let other = all.iter().find(|p| p.call == one.call && p.parameter.name == "w_k")?;
        Some((format!("{} and w_k", one.path), [(one.call, one.order), (other.call, other.order)]))
    };
    all.iter().filter(|p| p.parameter.name == "w_q").filter_map(key).collect()
}

/// sum a b / sqrt(sum a^2 sum b^2), in f64; symmetric about 0 for independent matrices of any symmetric law.
fn correlation(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?.flatten_all()?, b.to_dtype(DType::F64)?.flatten_all()?);
    let product = |a: &Tensor, b: &Tensor| (a * b)?.sum_all()?.to_scalar::<f64>();
    Ok(product(&a, &b)? / (product(&a, &a)? * product(&b, &b)?).sqrt())
}

/// Evidence on every pair, from the parameters of each seed; all together at `alpha`.
pub fn correlations(pairs: &[Pair], seeds: &[Vec<f64>], alpha: f64) -> Vec<Evidence> {
    let each = alpha / pairs.len().max(1) as f64;
    let evidence = |(i, (name, _)): (usize, &Pair)| {
        let values: Vec<f64> = seeds.iter().map(|seed| seed[i]).collect();
        let accepted = Interval::around(0.0, CORRELATION);
        Evidence::mean(format!("correlation of {name}"), &values, accepted, each).stating(0.0)
    };
    pairs.iter().enumerate().map(evidence).collect()
}

/// The correlation of every pair in one seed.
///
/// # Errors
/// A tensor operation that fails.
pub fn in_seed(pairs: &[Pair], parameters: &[Parameters], shared: &mut Shared) -> Result<Vec<f64>> {
    let mut one = |(name, pair): &Pair| {
        let [a, b] = pair.map(|(call, order)| parameters[call].iter().nth(order).map(|(_, tensor)| tensor));
        let (Some(a), Some(b)) = (a, b) else { return Ok(f64::NAN) };
        shared.number(&[a, b], || correlation(a, b)).map_err(Error::at(name))
    };
    pairs.iter().map(&mut one).collect()
}

fn judge(id: &'static str, lab: &Lab, pairs: Pairs) -> Result<Vec<Finding>> {
    let graphs = graphs(lab)?;
    let pairs: Vec<Vec<Pair>> = graphs.iter().map(pairs).collect();
    let mut seeds: Vec<Vec<Vec<f64>>> = vec![Vec::new(); graphs.len()];
    let mut shared = Shared::default();
    with_parameters(lab, &graphs, lab.draws(SEEDS, SEEDS), |subject, parameters| {
        seeds[subject].push(in_seed(&pairs[subject], parameters, &mut shared)?);
        Ok(())
    })?;
    let claims = claims();
    let claim = claims.iter().find(|claim| claim.id == id).expect("the item was planned by a claim of this file");
    let finding = |i: usize| {
        let (subject, graph) = (&lab.subjects[i], &graphs[i]);
        let finding = match pairs[i].is_empty() {
            true => Finding::not_applicable(id, "the network has no such pair of matrices"),
            false => Finding::of(id, correlations(&pairs[i], &seeds[i], claim.alpha_on(lab, subject, 1))),
        };
        about(finding, lab, subject, graph)
    };
    Ok((0..graphs.len()).map(finding).collect())
}
