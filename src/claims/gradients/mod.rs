//! Gradients at initialization: Theorem 1 of Xiong et al., how gradients spread over depth, and printed products of Jacobians.

mod depth;
pub mod products;
mod theorem_1;

use crate::claims::Claim;

pub fn claims() -> Vec<Claim> {
    [theorem_1::claims(), depth::claims(), products::claims()].into_iter().flatten().collect()
}

/// The domain of what is claimed in the setting of Xiong et al., and of the loss.
const XIONG: &str = "setting xiong, at initialization; loss with a cotangent of expected squared norm 1 at the output";
