//! Where a variance is off: pivots of many seeds, summed by block, by matrix, and by both.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::{Initial, Parameters};
use crate::profile::Layout;
use crate::verify::{Evidence, Pivot, Use, WIDEST_MARGIN, chi_square_quantiles};

/// The probability with which a true variance is not verified, and a variance off by twice its margin not refuted.
const MISSED: f64 = 1e-3;

/// The least relative margin that `degrees` degrees of freedom resolve at `alpha`: a true variance is verified and one
/// off by twice the margin refuted, each but for a probability of `MISSED`; infinite where none does.
pub fn resolved_margin(degrees: f64, alpha: f64) -> f64 {
    let (low, high) = chi_square_quantiles(degrees, alpha / 2.0);
    let (least, most) = chi_square_quantiles(degrees, MISSED / 2.0);
    // Refuted: (1 + 2 m) least/high > 1 + m. Verified: most/low < 1 + m and least/high > 1 - m.
    let refuted = match high / least {
        ratio if ratio < 2.0 => (ratio - 1.0) / (2.0 - ratio),
        _ => f64::INFINITY,
    };
    refuted.max(most / low - 1.0).max(1.0 - least / high)
}

/// The entries of every weight matrix: sum of squares over the variance that the specification gives them.
///
/// Chi-square for Gaussian entries. Uniform and truncated ones have lighter tails, so that the same quantiles are cautious.
/// Orthogonal matrices have exactly their degrees of freedom as the statistic.
///
/// `squares` gives the sum of squares of a matrix; [`squares`] or a memory of it, where networks share matrices.
///
/// # Errors
/// A tensor operation that fails.
pub fn entries(
    specified: &Graph,
    parameters: &[Parameters],
    mut squares: impl FnMut(&Tensor) -> candle_core::Result<f64>,
) -> Result<Vec<Pivot>> {
    let mut pivots = Vec::new();
    for point in Layout::new(specified).parameters {
        let (Initial::Weight { factor }, Some((_, w))) =
            (point.parameter.initial, parameters[point.call].iter().nth(point.order))
        else {
            continue;
        };
        let variance = factor * factor / point.parameter.shape[0] as f64;
        if variance > 0.0 {
            pivots.push(Pivot {
                block: point.stage.block().unwrap_or(0),
                call: specified.calls[point.call].site.path(),
                matrix: point.parameter.name.clone(),
                used: Use::Entries,
                statistic: squares(w).map_err(Error::at(&point.path))? / variance,
                degrees: point.parameter.shape.iter().product::<usize>() as f64,
            });
        }
    }
    Ok(pivots)
}

/// The sum of squares of a tensor's entries, in f64.
pub fn squares(tensor: &Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}

/// The variance factor of every place, 1 where all is as specified: each matrix in each use of each block, each block over
/// all its matrices, each kind of matrix and use over all blocks; each within the margin that its degrees resolve, all
/// together at `alpha`. Places that their degrees do not resolve within a factor of two are left out. A fault in one layer is
/// named by its block.
pub fn places(pivots: &[Pivot], alpha: f64) -> Vec<Evidence> {
    let mut sums: BTreeMap<(usize, String), (f64, f64)> = BTreeMap::new();
    let mut add = |order: usize, place: String, pivot: &Pivot| {
        let sum = sums.entry((order, place)).or_default();
        *sum = (sum.0 + pivot.statistic, sum.1 + pivot.degrees);
    };
    for pivot in pivots.iter().filter(|pivot| pivot.degrees > 0.0) {
        let Pivot { block, call, matrix, used, .. } = pivot;
        add(2 * block, format!("{call}.{matrix} {}", used.word()), pivot);
        add(2 * block + 1, format!("block.{block} all matrices"), pivot);
        add(usize::MAX, format!("all blocks {matrix} {}", used.word()), pivot);
    }
    let each = alpha / sums.len().max(1) as f64;
    let evidence = |((_, place), (statistic, degrees)): ((usize, String), (f64, f64))| {
        let margin = resolved_margin(degrees, each);
        let resolved = margin < WIDEST_MARGIN;
        resolved.then(|| Evidence::pivot(format!("{place} variance"), statistic, degrees, margin, each))
    };
    sums.into_iter().filter_map(evidence).collect()
}
