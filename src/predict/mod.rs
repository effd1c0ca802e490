//! Prediction: second moments, overlaps and expected squared gradients in closed form, at once, with a stated error law.
//!
//! The state is the joint covariance of all live values (`joint.rs`), swept forward over the graph and back over
//! its transpose. An op's own rule lives with the op ([`crate::op::Response::respond`]); here is only what equations do with
//! values. Must not touch tensors, and knows no op by name. Start at [`predict`].

mod backward;
mod coordinates;
mod fluctuation;
mod forward;
mod history;
mod joint;
mod law;
mod plan;
mod size;

use crate::error::Result;
use crate::fold::Graph;
use crate::profile::{Figure, Kind, Layout, Place, Profile, Quantity};
use backward::Backward;
use forward::{Forward, Known};
use plan::Plan;

/// The predicted figures of a network, each with the error law that it obeys; null with a reason where theory does not apply.
///
/// # Errors
/// [`crate::error::Error::Memory`] or [`crate::error::Error::Effort`] where the tokens are too many for their Grams; what an op
/// refuses becomes a figure's reason.
pub fn predict(graph: &Graph) -> Result<Profile> {
    size::check(graph)?;
    let layout = Layout::new(graph);
    let plan = Plan::new(graph);
    let mut forward = Forward::new(graph, &plan);
    graph.sweep(&mut forward)?;
    let Forward { steps, sizes, coordinates, .. } = forward;
    let mut backward = Backward::new(graph, &plan, &steps, &coordinates);
    graph.sweep_back(&mut backward)?;
    let parameter = |p: usize| -> Known<f64> {
        let point = &layout.parameters[p];
        let gradients = backward.parameters[point.call].as_ref().map_err(Clone::clone)?;
        match gradients.get(point.order) {
            Some(Err(reason)) => Err((*reason).into()),
            Some(Ok(g)) if g.is_finite() && *g <= f64::from(f32::MAX) => Ok(g.max(0.0)),
            Some(Ok(g)) => Err(format!("the gradient overflows f32: {g:.3e}").into()),
            None if gradients.is_empty() => Ok(0.0),
            None => Err("the op predicts fewer gradients than it has parameters".into()),
        }
    };
    let one = |&(place, quantity): &(Place, Quantity)| -> Known<f64> {
        let node = match place {
            Place::Input => 0,
            Place::Site(s) => layout.sites[s].node,
            Place::Output => graph.output,
            Place::Parameter(p) => return parameter(p),
        };
        let size = || sizes[node].as_ref().map_err(Clone::clone);
        match quantity {
            Quantity::SecondMoment => Ok(size()?.0),
            Quantity::Overlap if layout.shape.tokens == 1 => Err("one token has no pairs".into()),
            Quantity::Overlap if size()?.0 == 0.0 => Err("a value of zero has no direction".into()),
            Quantity::Overlap => Ok(size()?.1),
            Quantity::Gradient => backward.gradients[node].clone(),
        }
    };
    let figures = layout.figures.iter().map(|figure| match one(figure) {
        Ok(value) => Figure { value: Some(value), law: Some(law::error(&layout, *figure, value)), ..Figure::default() },
        Err(reason) => Figure { reason: Some(reason.to_string()), ..Figure::default() },
    });
    let figures = figures.collect();
    Ok(Profile { kind: Kind::Predicted, layout, seeds: None, figures })
}
