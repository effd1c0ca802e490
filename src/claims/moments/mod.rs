//! Second moments of streams at initialization: Lemmas 1 and 2 of Xiong et al., and how each placement's stream grows.

mod directions;
pub mod growth_rules;
mod lemmas;

use crate::claims::Claim;

pub fn claims() -> Vec<Claim> {
    [lemmas::claims(), growth_rules::claims(), directions::claims()].into_iter().flatten().collect()
}

/// The domain of what is claimed in the setting of Xiong et al.
const XIONG: &str = "setting xiong, at initialization";
