//! Variances, matrix by matrix: as entries, and as what networks made of them.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::claims::init::{FIRST_SEED, Shared, about, graphs, with_parameters};
use crate::claims::{About, Claim, Item, Lab, Subject};
use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::spec::{InitLaw, Shape};
use crate::verify::{Finding, Observed, Pivot, Verdict, entries, pivots, places, squares};

const ENTRIES: &str = "init.variance.entries";
const PIVOTS: &str = "init.variance.pivots";

pub fn claims() -> Vec<Claim> {
    vec![
        Claim {
            id: ENTRIES,
            statement: "The entries of every weight matrix have variance (init factor)^2/fan_in, in every block.",
            source: "the placement's init equations; Glorot and Bengio 2010, PMLR 9, section 4.2; He et al. 2015, arXiv:1502.01852, eq. 10",
            domain: "every init law",
            about: About::EveryPlacement,
            expected: Verdict::Verified,
            plan: |claim, _| {
                let id = claim.id;
                Ok(vec![Item { key: id.into(), judge: Box::new(move |lab: &Lab| judge_entries(id, lab)) }])
            },
        },
        Claim {
            id: PIVOTS,
            statement: "Given what entered it, every weight matrix maps forward and back with the variance that the placement states, in every block.",
            source: "exact conditional law of a Gaussian matrix in both uses; Yang 2019, arXiv:1902.04760",
            domain: "Gaussian init; tokens half of the width and of the FFN width; f64",
            about: About::EveryPlacement,
            expected: Verdict::Verified,
            plan: |claim, lab| {
                let item = |index: usize| {
                    let id = claim.id;
                    Item {
                        key: format!("{id} @ {}", lab.subjects[index].spec),
                        judge: Box::new(move |lab: &Lab| judge_pivots(id, lab, index)),
                    }
                };
                Ok((0..lab.subjects.len()).map(item).collect())
            },
        },
    ]
}

fn claim(id: &str) -> Claim {
    claims().into_iter().find(|claim| claim.id == id).expect("the item was planned by a claim of this file")
}

fn judge_entries(id: &str, lab: &Lab) -> Result<Vec<Finding>> {
    let graphs = graphs(lab)?;
    let mut sums: Vec<Vec<Pivot>> = vec![Vec::new(); graphs.len()];
    let mut shared = Shared::default();
    with_parameters(lab, &graphs, lab.seeds, |subject, parameters| {
        let squares = |w: &Tensor| shared.number(&[w], || squares(w));
        add(&mut sums[subject], entries(&graphs[subject], parameters, squares)?);
        Ok(())
    })?;
    let finding = |((subject, graph), pivots): ((&Subject, &Graph), &Vec<Pivot>)| {
        let alpha = claim(id).alpha_on(lab, subject, 1);
        about(Finding::of(id, places(pivots, alpha)), lab, subject, graph)
    };
    Ok(lab.subjects.iter().zip(&graphs).zip(&sums).map(finding).collect())
}

/// Adds the pivots of one more seed, place by place.
fn add(sums: &mut Vec<Pivot>, more: Vec<Pivot>) {
    if sums.is_empty() {
        *sums = more;
        return;
    }
    for (sum, one) in sums.iter_mut().zip(more) {
        sum.statistic += one.statistic;
        sum.degrees += one.degrees;
    }
}

/// Networks whose pivots are summed. At the default shape 4 resolve a block within 2.5%, 24 within 1%.
fn seeds(lab: &Lab) -> u64 {
    lab.draws(4, 24) as u64
}

fn judge_pivots(id: &str, lab: &Lab, index: usize) -> Result<Vec<Finding>> {
    let subject = &lab.subjects[index];
    let tokens = (subject.shape.width.min(subject.shape.ffn_width) / 2).max(1);
    let shape = Shape { tokens, ..subject.shape };
    let graph = Graph::new(&subject.placement.at(shape)?, &subject.setting, lab.registry)?;
    if graph.setting.init != InitLaw::Gaussian {
        let reason = "the conditional law of a matrix with this init is not Gaussian; init.variance.entries judges it";
        return Ok(vec![about(Finding::not_applicable(id, reason), lab, subject, &graph)]);
    }
    let one = |seed: u64| {
        let seed = lab.seed.wrapping_add(FIRST_SEED + 1_000_000 + seed);
        pivots(&graph, &Observed::seed(&graph, seed)?)
    };
    let found: Result<Vec<Vec<Pivot>>> = (0..seeds(lab)).into_par_iter().map(one).collect();
    let pivots = match found {
        Ok(pivots) => pivots.concat(),
        Err(Error::Refused { reason, .. }) => {
            return Ok(vec![about(Finding::not_applicable(id, reason), lab, subject, &graph)]);
        }
        Err(error) => return Err(error),
    };
    let evidence = places(&pivots, claim(id).alpha_on(lab, subject, 1));
    let finding = match evidence.is_empty() {
        true => Finding::not_applicable(id, "the network is too small for its pivots to resolve a variance"),
        false => Finding::of(id, evidence),
    };
    Ok(vec![about(finding, lab, subject, &graph)])
}
