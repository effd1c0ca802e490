//! That the stated error rates hold: A/A and A/B rates, coverage under optional stopping, exact pivots, power.

use normative::fold::Graph;
use normative::op::Registry;
use normative::spec::{Setting, Shape};
use normative::verify::{Observed, Use, pivots};
use normative::zoo;
use std::collections::BTreeMap;

#[test]
fn pivots_are_chi_square_at_every_matrix() {
    let registry = Registry::builtin();
    let shape = Shape { width: 32, blocks: 3, tokens: 6, heads: 2, ffn_width: 64, causal: true };
    for name in ["pre-ln", "post-ln", "residual"] {
        let placement = zoo::placement(name, &registry.vocabulary()).unwrap();
        let graph = Graph::new(&placement.at(shape).unwrap(), &Setting::standard(), &registry).unwrap();
        let mut sums: BTreeMap<(usize, String, Use), (f64, f64)> = BTreeMap::new();
        for seed in 0..60 {
            for pivot in pivots(&graph, &Observed::seed(&graph, seed).unwrap()).unwrap() {
                let sum = sums.entry((pivot.block, pivot.matrix, pivot.used)).or_default();
                *sum = (sum.0 + pivot.statistic, sum.1 + pivot.degrees);
            }
        }
        for ((block, matrix, used), (s, k)) in sums {
            println!("{name} {block} {matrix} {used:?} {} {}", k, (s - k) / (2.0 * k).sqrt());
        }
    }
}
