#![doc = include_str!("law.md")]
//!
//! This module only sweeps a graph: an op's sampling rule lives with the op ([`crate::op::Response::draw`]), the laws of
//! a weight matrix in [`crate::op::MatrixLaw`]. Must not know tensors, nor execute or predict. Start at [`sample`].

mod attend;
mod backward;
mod conditions;
mod forward;
mod memory;
mod plan;

pub use attend::{Attended, forward as attended};
use rayon::prelude::*;

use crate::effort;
use crate::error::Result;
use crate::fold::Graph;
use crate::profile::{Draws, Kind};

/// Independent draws of every figure of a network from its exact law at this width and depth.
///
/// Draws are spread over rayon's threads; the bits depend on the graph, the number of the draw and `seed` only.
/// Time O(T^2 d) and memory O(T d) a block and draw, for T tokens and width d.
///
/// # Errors
/// [`crate::error::Error::Refused`] where the law does not hold or an op gives no rule, and
/// [`crate::error::Error::Memory`] or [`crate::error::Error::Effort`] where one draw does not fit, or all would run for days.
///
/// ```
/// use normative::{fold::Graph, op::Registry, sample::sample, spec::{Overrides, Setting}, zoo};
/// let registry = Registry::builtin();
/// let shape = Overrides::default().shape(1024, 2, 4)?;
/// let network = zoo::placement("pre-ln", &registry.vocabulary())?.at(shape)?;
/// let draws = sample(&Graph::new(&network, &Setting::standard(), &registry)?, 2, 0)?;
/// assert_eq!(draws.rows.len(), 2);
/// # Ok::<(), normative::error::Error>(())
/// ```
pub fn sample(graph: &Graph, draws: usize, seed: u64) -> Result<Draws> {
    let law = conditions::check(graph, draws)?;
    let plan = plan::Plan::new(graph, law);
    let at_once = memory::draws_at_once(graph, law, draws, plan.layout.figures.len())?;
    effort::fits(memory::one_draw_operations(graph) * draws as f64)?;
    let mut rows = Vec::with_capacity(draws);
    for first in (0..draws).step_by(at_once) {
        let batch = first..draws.min(first + at_once);
        rows.extend(batch.into_par_iter().map(|draw| plan.draw(seed, draw as u64)).collect::<Result<Vec<_>>>()?);
    }
    Ok(Draws { kind: Kind::Sampled, layout: plan.layout, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::op::{Op, Parameters, Registry, Response, Role, Site};
    use crate::profile::{Place, Quantity};
    use crate::spec::{File, InitLaw, Placement, Setting, Shape};
    use candle_core::Tensor;

    const SHAPE: Shape = Shape { width: 32, blocks: 2, tokens: 4, heads: 2, ffn_width: 64, causal: false };

    fn graph_of(registry: &Registry, layer: &str, shape: Shape, setting: &Setting) -> Graph {
        let text = format!("name = \"test\"\nlayer = \"\"\"\n{layer}\n\"\"\"\n");
        let file = File::parse("test.toml", &text).unwrap();
        let network = Placement::new(file, &registry.vocabulary()).unwrap().at(shape).unwrap();
        Graph::new(&network, setting, registry).unwrap()
    }

    fn graph(layer: &str, shape: Shape) -> Graph {
        graph_of(&Registry::builtin(), layer, shape, &Setting::standard())
    }

    const POST_LN: &str = "x = norm(x + attn(x))\nx = norm(x + ffn(x))";

    fn within(threads: usize, run: impl FnOnce() -> Draws + Send) -> Draws {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    }

    #[test]
    fn the_bits_depend_on_neither_the_number_of_threads_nor_that_of_draws() {
        let graph = graph("y = attend(history)\nx = norm(x + attn(y, qk = norm))\nx = x + ffn(norm(x))", SHAPE);
        let one = within(1, || sample(&graph, 7, 3).unwrap());
        let several = within(3, || sample(&graph, 9, 3).unwrap());
        assert_eq!(one.rows, several.rows[..7]);
        assert_ne!(one.rows[0], one.rows[1]);
        assert_ne!(one.rows[0], sample(&graph, 1, 4).unwrap().rows[0]);
    }

    #[track_caller]
    fn refused(graph: &Graph, because: &str) {
        match sample(graph, 1, 0) {
            Err(Error::Refused { reason, help, .. }) => {
                assert!(reason.contains(because) && !help.is_empty(), "{reason}")
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn what_the_law_does_not_cover_is_refused_with_reason_and_remedy() {
        refused(&graph(POST_LN, Shape { tokens: 32, ..SHAPE }), "32 tokens are not fewer than the width 32");
        let narrow = Shape { tokens: 20, ffn_width: 20, ..SHAPE };
        refused(&graph(POST_LN, narrow), "20 tokens are not fewer than the FFN width 20");
        let setting = Setting { init: InitLaw::Uniform, ..Setting::standard() };
        refused(&graph_of(&Registry::builtin(), POST_LN, SHAPE, &setting), "not for init uniform");
        let setting = Setting { init: InitLaw::Orthogonal, ..Setting::standard() };
        let orthogonal = |tokens| graph_of(&Registry::builtin(), POST_LN, Shape { tokens, ..SHAPE }, &setting);
        refused(&orthogonal(17), "17 rows and 17 cotangents have more directions than an orthogonal matrix of side 32");
        assert!(sample(&orthogonal(16), 1, 0).is_ok());
        assert!(matches!(sample(&graph(POST_LN, SHAPE), 0, 0), Err(Error::Option { .. })));
    }

    #[test]
    fn what_cannot_fit_is_refused_before_it_starts() {
        let vast = Shape { width: 1 << 40, ffn_width: 1 << 42, ..SHAPE };
        assert!(matches!(sample(&graph(POST_LN, vast), 1, 0), Err(Error::Memory { .. })));
        let wide = Shape { width: 1 << 19, ffn_width: 1 << 21, ..SHAPE };
        assert!(matches!(sample(&graph(POST_LN, wide), 1 << 22, 0), Err(Error::Effort { .. })));
    }

    /// A user's op that says nothing of sampling.
    #[derive(Debug)]
    struct Plain;

    impl Response for Plain {
        fn name(&self) -> &str {
            "plain"
        }
        fn role(&self) -> Role {
            Role::Normalizer
        }
    }

    impl Op for Plain {
        fn forward(&self, _: &Site, _: &Parameters, x: &Tensor) -> Result<Tensor> {
            Ok(x.clone())
        }
    }

    #[test]
    fn an_op_without_a_sampling_rule_is_refused_by_name() {
        let registry = Registry::builtin().with(Plain);
        refused(
            &graph_of(&registry, "x = x + ffn(plain(x))", SHAPE, &Setting::standard()),
            "the op plain gives no sampling rule",
        );
    }

    #[test]
    fn what_does_not_reach_the_output_has_gradient_zero() {
        for layer in ["x = x + 0*ffn(norm(x))", "x = x + stop_gradient(ffn(norm(x)))", "y = ffn(norm(x))\nx = 2*x"] {
            let draws = sample(&graph(layer, SHAPE), 2, 0).unwrap();
            for (i, (place, quantity)) in draws.layout.figures.iter().enumerate() {
                let gradients: Vec<f64> = draws.rows.iter().map(|row| row[i]).collect();
                match (place, quantity) {
                    (Place::Parameter(_), _) => assert!(gradients.iter().all(|g| *g == 0.0), "{layer}"),
                    (_, Quantity::Gradient) => assert!(gradients.iter().all(|g| *g > 0.0), "{layer}"),
                    _ => {}
                }
            }
        }
    }

    /// In Post-LN tokens collapse: `1 - cos` halves with every block, the gradient of W_Q falls with its square, and at
    /// block 80 it is about 1e-40. From a Gram matrix it would stand still at the roundings' square, 1e-31, from block 60 on.
    #[test]
    fn gradients_of_queries_keep_falling_as_tokens_collapse() {
        let draws = sample(&graph(POST_LN, Shape { width: 64, blocks: 90, heads: 1, ffn_width: 256, ..SHAPE }), 16, 0);
        let profile = draws.unwrap().profile();
        let query = |block| {
            let path = format!("block.{block}.call.1.w_q");
            let at = profile.layout.parameters.iter().position(|p| p.path == path).unwrap();
            profile.get(Place::Parameter(at), Quantity::Gradient).unwrap().value.unwrap()
        };
        assert!(query(80) < f64::EPSILON.powi(2), "{}", query(80));
        assert!((1..8).all(|tens| query(10 * (tens + 1)) < query(10 * tens)), "not falling");
    }
}
