//! A cotangent that goes with the value it belongs to, coordinate by coordinate.
//!
//! An op that bends a coordinate gives its cotangent a slope that is small where the coordinate is large. Ops before it meet
//! the same coordinate again, with no matrix between to mix it with others; there E[g_a g_b f_a f_b] of a function f of the value
//! is not the product of E[g_a g_b] and E[f_a f_b]. The difference is taken from draws of one coordinate (own, derived here):
//! coordinates are independent and alike in the wide limit, so that a sum over them is the width times a mean over draws.

use std::sync::Arc;

use crate::op::{Gram, Rows};

/// Draws of one coordinate of a cotangent and of the value at the same place, `(tokens, draws)` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    pub cotangent: Arc<Gram>,
    pub value: Arc<Gram>,
}

impl Paired {
    /// (E[g_a g_b f_a f_b] - E[g_a g_b] E[f_a f_b])/sqrt(E g_a^2 E g_b^2), f a function of the value.
    pub fn covariance(&self, f: impl Fn(f64) -> f64) -> Gram {
        let (g, f) = (self.cotangent.as_ref(), self.value.map(f));
        let cotangents = mean_products(g, g);
        let together = mean_products(&g.component_mul(&f), &g.component_mul(&f));
        let apart = cotangents.component_mul(&mean_products(&f, &f));
        let root = |a: usize| cotangents[(a, a)].max(f64::MIN_POSITIVE).sqrt();
        Gram::from_fn(g.nrows(), g.nrows(), |a, b| (together[(a, b)] - apart[(a, b)]) / (root(a) * root(b)))
    }

    /// E(sum_a g_a f_a)^2/(sum_ab E[g_a g_b] E[f_a f_b]): all tokens together, as a gain shared by them sees it.
    pub fn together(&self, f: impl Fn(f64) -> f64) -> f64 {
        let (g, f) = (self.cotangent.as_ref(), self.value.map(f));
        let sums = g.component_mul(&f).row_sum();
        let apart = mean_products(g, g).dot(&mean_products(&f, &f));
        if apart > 0.0 { sums.norm_squared() / sums.len() as f64 / apart } else { 1.0 }
    }

    /// E[g^2 f^2 x^2]/(E[g^2 f^2] E[x^2]) over tokens: the share along the value x of the cotangent g f.
    pub fn stretch(&self, f: impl Fn(f64) -> f64) -> f64 {
        let squares = self.cotangent.zip_map(&self.value, |g, x| (g * f(x)).powi(2));
        let (mut along, mut apart) = (0.0, 0.0);
        for (energy, value) in squares.row_iter().zip(self.value.row_iter()) {
            along += energy.iter().zip(value.iter()).map(|(e, x)| e * x * x).sum::<f64>();
            apart += energy.sum() * value.norm_squared() / value.len() as f64;
        }
        if apart > 0.0 { along / apart } else { 1.0 }
    }
}

/// E[v_a w_b] over draws, `(tokens, draws)` each.
pub fn mean_products(v: &Rows, w: &Rows) -> Gram {
    v * w.transpose() / v.ncols() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn draws(seed: u64) -> Gram {
        let mut z = Gram::zeros(2, 1 << 16);
        Stream::new(seed, &[]).fill_normal(z.as_mut_slice());
        z
    }

    #[test]
    fn a_cotangent_independent_of_its_value_has_no_covariance_with_it() {
        let paired = Paired { cotangent: Arc::new(draws(1)), value: Arc::new(draws(2)) };
        // Products of four unit normals have variance 9 - 1 at most: six standard errors.
        let margin = 6.0 * (8.0 / (1 << 16) as f64).sqrt();
        assert!(paired.covariance(|x| x).amax() < margin);
        assert!((paired.together(|x| x) - 1.0).abs() < margin && (paired.stretch(|_| 1.0) - 1.0).abs() < margin);
    }

    #[test]
    fn a_cotangent_that_is_its_value_has_the_moments_of_a_normal() {
        // g = x: E[x_a^2 x_b^2] - (E x_a x_b)^2 = 2 on the diagonal and 1 off it; E(sum x_a^2)^2/sum (E x_a x_b)^2 = 8/2;
        // E x^4/(E x^2)^2 = 3. The eighth moment is 105.
        let x = Arc::new(draws(3));
        let paired = Paired { cotangent: x.clone(), value: x };
        let margin = 6.0 * (105.0 / (1 << 16) as f64).sqrt();
        let covariance = paired.covariance(|x| x);
        let expected = Gram::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 2.0]);
        assert!((covariance - expected).amax() < margin);
        assert!((paired.together(|x| x) - 4.0).abs() < 4.0 * margin && (paired.stretch(|_| 1.0) - 3.0).abs() < margin);
    }
}
