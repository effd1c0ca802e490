//! Figures over seeds: the law of a network as its weights are redrawn.

use candle_core::{DType, Device};

use crate::effort;
use crate::error::Result;
use crate::execute::figures::Figures;
use crate::execute::memory::{Need, need, one_seed_operations};
use crate::execute::pass::{Source, pass};
use crate::execute::stacks::in_stacks;
use crate::execute::{Seeds, Weights, draw_cotangent, draw_input};
use crate::fold::Graph;
use crate::op::Parameters;
use crate::profile::{Draws, Kind, Layout};

/// How to measure.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Seeds `first_seed .. first_seed + seeds`, each with weights, input and cotangent of its own.
    pub seeds: usize,
    pub first_seed: u64,
    pub device: Device,
    pub dtype: DType,
}

impl Default for Measurement {
    fn default() -> Self {
        Measurement { seeds: 64, first_seed: 0, device: Device::Cpu, dtype: DType::F32 }
    }
}

/// The figures of a network over seeds.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn measure(graph: &Graph, how: &Measurement) -> Result<Draws> {
    let mut all = measure_on_same_weights(&[graph], how)?;
    Ok(all.pop().expect("one graph gives one result"))
}

/// The figures of several networks of one shape; in each seed all use the same weights, input and cotangent,
/// so that their differences vary less than themselves.
///
/// # Errors
/// A tensor operation that fails, with its site; [`crate::error::Error::Memory`] where the networks do not fit, and [`crate::error::Error::Effort`] where
/// they would run on the CPU for more than a day.
pub fn measure_on_same_weights(graphs: &[&Graph], how: &Measurement) -> Result<Vec<Draws>> {
    let layouts: Vec<Layout> = graphs.iter().map(|graph| Layout::new(graph)).collect();
    if how.device.is_cpu() {
        effort::fits(graphs.iter().map(|graph| one_seed_operations(graph)).sum::<f64>() * how.seeds as f64)?;
    }
    let needs: Vec<Need> = graphs.iter().map(|graph| need(graph, how.dtype)).collect();
    let parts: Vec<_> = graphs.iter().zip(&needs).map(|(graph, need)| graph.parts(need.blocks)).collect();
    let one_pass = |seeds: Seeds| -> Result<Vec<Vec<Vec<f64>>>> {
        let mut weights = Weights::new(seeds);
        let of_graph = |((graph, layout), parts): ((&&Graph, &Layout), &Vec<_>)| {
            let input = draw_input(seeds, layout.shape, &how.device, how.dtype)?;
            let cotangent = draw_cotangent(seeds, layout.shape, &how.device, how.dtype)?;
            let mut source = Drawn { weights: &mut weights, graph, layout, how };
            let mut figures = Figures::new(layout, seeds.count);
            let ends = pass(graph, parts, &mut source, &input, &cotangent, &mut figures)?;
            figures.rows(&input, &ends)
        };
        graphs.iter().zip(&layouts).zip(&parts).map(of_graph).collect()
    };
    let largest = needs.iter().map(|need| need.bytes).max().unwrap_or(0);
    let passes: Vec<Vec<Vec<Vec<f64>>>> = in_stacks(graphs, largest, how, one_pass)?;
    let draws = |(g, layout): (usize, Layout)| Draws {
        kind: Kind::Measured,
        layout,
        rows: passes.iter().flat_map(|graphs| graphs[g].clone()).collect(),
    };
    Ok(layouts.into_iter().enumerate().map(draws).collect())
}

/// Weights that are drawn where they are used, as far as they are not held.
struct Drawn<'a> {
    weights: &'a mut Weights,
    graph: &'a Graph,
    layout: &'a Layout,
    how: &'a Measurement,
}

impl Source for Drawn<'_> {
    fn parameters(&mut self, call: usize) -> Result<Parameters> {
        self.weights.of_call(self.graph, self.layout, call, &self.how.device, self.how.dtype)
    }
}
