//! What initialization is said to be: variances at every matrix, independence, and the laws by name.

pub mod independence;
mod laws;
mod variance;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::claims::subjects::tier;
use crate::claims::{Claim, Lab, Subject};
use crate::error::Result;
use crate::execute::Weights;
use crate::fold::Graph;
use crate::op::Parameters;
use crate::spec::Shape;
use crate::verify::Finding;

pub fn claims() -> Vec<Claim> {
    [variance::claims(), independence::claims(), laws::claims()].into_iter().flatten().collect()
}

/// Seeds of this family are apart from those on which profiles are measured.
const FIRST_SEED: u64 = 0x1000_0000;

/// The networks of the subjects, in order.
fn graphs(lab: &Lab) -> Result<Vec<Graph>> {
    let graph = |s: &Subject| Graph::new(&s.placement.at(s.shape)?, &s.setting, lab.registry);
    lab.subjects.iter().map(graph).collect()
}

/// The parameters of every network in a number of seeds; networks of one seed share their matrices.
fn with_parameters(
    lab: &Lab,
    graphs: &[Graph],
    seeds: usize,
    mut see: impl FnMut(usize, &[Parameters]) -> Result<()>,
) -> Result<()> {
    for seed in 0..seeds as u64 {
        let mut weights = Weights::new(lab.seed.wrapping_add(FIRST_SEED + seed));
        for (subject, graph) in graphs.iter().enumerate() {
            see(subject, &weights.of(graph, &Device::Cpu, DType::F32)?)?;
        }
    }
    Ok(())
}

/// Numbers of tensors that several subjects share, found once.
#[derive(Debug, Default)]
pub struct Shared(HashMap<Vec<candle_core::TensorId>, f64>);

impl Shared {
    /// The number of these tensors; no two tensors of a process have the same id.
    fn number(&mut self, of: &[&Tensor], find: impl FnOnce() -> candle_core::Result<f64>) -> candle_core::Result<f64> {
        let key = of.iter().map(|t| t.id()).collect();
        match self.0.get(&key) {
            Some(known) => Ok(*known),
            None => {
                let found = find()?;
                self.0.insert(key, found);
                Ok(found)
            }
        }
    }
}

/// A finding with the network that it is about, and the command that judges it again.
fn about(finding: Finding, lab: &Lab, subject: &Subject, graph: &Graph) -> Finding {
    let Shape { width, blocks, tokens, heads, ffn_width, causal } = subject.shape;
    let (claim, spec, normalizer) = (&finding.claim, &subject.spec, &graph.setting.normalizer);
    let replay = format!(
        "normative verify {spec} --claim {claim} --width {width} --blocks {blocks} --tokens {tokens} --heads {heads} \
         --ffn-width {ffn_width} --causal={causal} --normalizer {normalizer} --tier {} --seeds {} --seed {}",
        tier(lab),
        lab.seeds,
        lab.seed,
    );
    Finding {
        placement: Some(spec.clone()),
        normalizer: Some(normalizer.clone()),
        setting: Some(graph.setting.name.clone()),
        shape: Some(graph.network.shape),
        replay,
        ..finding
    }
}
