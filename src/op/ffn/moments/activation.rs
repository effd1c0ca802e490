//! The kernels of an activation: E[phi phi], E[phi' phi'] between tokens, and how they fluctuate.
//!
//! ReLU in closed form (Cho & Saul 2009, NeurIPS 22, Eqs. 3-6); the others by Hermite expansion.
//!
//! Kernels are averaged over the realised correlation of two tokens: with n effective coordinates its Fisher
//! transform is normal with variance 1/n (Fisher 1915, Biometrika 10; Hotelling 1953), so three Gauss-Hermite nodes
//! suffice. The nodes are moved so that the realised correlation averages to the given one.

use crate::op::Gram;
use crate::op::gaussian::{Expansion, Expansions, correlation, expectation, roots};
use crate::spec::Activation;

/// The scalar function of an activation; of a gated one, that of the gate.
pub fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Gelu => x * normal_cdf(x),
        Activation::Silu | Activation::Swiglu => x / (1.0 + (-x).exp()),
    }
}

pub fn derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => f64::from(x > 0.0),
        Activation::Gelu => normal_cdf(x) + x * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt(),
        Activation::Silu | Activation::Swiglu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            sigmoid * (1.0 + x * (1.0 - sigmoid))
        }
    }
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// What the pre-activations' Gram becomes.
pub struct Kernels {
    /// E[r^^n phi(u) phi(v)] for n = 0, 1, r^ the realised correlation.
    pub value: [Gram; 2],
    /// E[r^^n phi'(u) phi'(v)] for n = 0, 1, 2.
    pub slope: [Gram; 3],
    /// E[phi(u)], by token.
    pub mean: Vec<f64>,
    /// Var(phi^2)/(E phi^2)^2.
    pub kurtosis: f64,
    /// E[phi^2 phi'^2]/(E[phi^2] E[phi'^2]) - 1.
    pub slope_covariance: f64,
    /// d ln E[phi^2]/d ln q.
    pub elasticity: f64,
    /// Of s = h phi'(h): E s^2/(q E phi'^2), and the squared cosine between s and phi; 1 and 1 for ReLU.
    pub scaling: (f64, f64),
    /// The same where the other factor u of the gated unit is scaled along: s = h phi' + phi, over q E phi'^2 + E phi^2.
    pub gated_scaling: (f64, f64),
}

/// Gauss-Hermite nodes and weights for a standard normal.
const NODES: [(f64, f64); 3] =
    [(0.0, 2.0 / 3.0), (1.732_050_807_568_877_2, 1.0 / 6.0), (-1.732_050_807_568_877_2, 1.0 / 6.0)];

/// The kernels at pre-activations of Gram `k`, the tokens' realised correlation that of `freedom` coordinates.
pub fn kernels(activation: Activation, k: &Gram, freedom: f64) -> Kernels {
    let roots = roots(k);
    let cosine = correlation(k);
    let pairs: Box<dyn Fn(usize, usize, f64) -> (f64, f64)> = match activation {
        Activation::Relu => Box::new(relu),
        smooth => {
            let values = Expansions::of(&roots, |x| value(smooth, x));
            let slopes = Expansions::of(&roots, |x| derivative(smooth, x));
            let pair = |e: &Expansions, a, b, r| Expansion::pair(e.at(a), e.at(b), r);
            Box::new(move |a, b, r| (pair(&values, a, b, r), pair(&slopes, a, b, r)))
        }
    };
    let n = k.nrows();
    let (mut value_kernels, mut slopes) = ([0; 2].map(|_| Gram::zeros(n, n)), [0; 3].map(|_| Gram::zeros(n, n)));
    for b in 0..n {
        for a in b..n {
            let (v, s) = averaged(|r| pairs(a, b, r), cosine[(a, b)], a == b, freedom);
            let unit = if activation == Activation::Relu { roots[a] * roots[b] } else { 1.0 };
            for (i, j) in [(a, b), (b, a)] {
                value_kernels.iter_mut().zip(v).for_each(|(kernel, v)| kernel[(i, j)] = unit * v);
                slopes.iter_mut().zip(s).for_each(|(kernel, s)| kernel[(i, j)] = s);
            }
        }
    }
    let root = roots.iter().sum::<f64>() / n as f64;
    let Fluctuation { kurtosis, slope_covariance, elasticity, scaling, gated_scaling } =
        Fluctuation::of(activation, root);
    let mean = match activation {
        Activation::Relu => roots.iter().map(|r| r / (2.0 * std::f64::consts::PI).sqrt()).collect(),
        smooth => Expansions::of(&roots, |x| value(smooth, x)).means(),
    };
    Kernels {
        value: value_kernels,
        slope: slopes,
        mean,
        kurtosis,
        slope_covariance,
        elasticity,
        scaling,
        gated_scaling,
    }
}

/// The means over the realised correlation of both kernels, times its powers from 0 on.
fn averaged(pair: impl Fn(f64) -> (f64, f64), r: f64, same: bool, freedom: f64) -> ([f64; 2], [f64; 3]) {
    let centre = r.atanh() + r / freedom;
    let mut sums = ([0.0; 2], [0.0; 3]);
    let mut add = |realised: f64, weight: f64| {
        let (v, s) = pair(realised);
        sums.0.iter_mut().zip(0..).for_each(|(sum, n)| *sum += weight * realised.powi(n) * v);
        sums.1.iter_mut().zip(0..).for_each(|(sum, n)| *sum += weight * realised.powi(n) * s);
    };
    match same || r.abs() >= 1.0 {
        true => add(r, 1.0),
        false => NODES.iter().for_each(|&(z, weight)| add((centre + z / freedom.sqrt()).tanh(), weight)),
    }
    sums
}

/// ReLU's two kernels at second moments 1.
fn relu(_: usize, _: usize, r: f64) -> (f64, f64) {
    let angle = r.clamp(-1.0, 1.0).acos();
    let straight = std::f64::consts::PI - angle;
    let sin = (1.0 - r * r).max(0.0).sqrt();
    let turn = 2.0 * std::f64::consts::PI;
    ((sin + straight * r) / turn, straight / turn)
}

/// What a root second moment makes of an activation's fluctuations; fields as in [`Kernels`].
struct Fluctuation {
    kurtosis: f64,
    slope_covariance: f64,
    elasticity: f64,
    scaling: (f64, f64),
    gated_scaling: (f64, f64),
}

impl Fluctuation {
    fn of(activation: Activation, root: f64) -> Self {
        let square = |z: f64| value(activation, root * z).powi(2);
        let second = expectation(square);
        let (unit, elasticity) = ((1.0, 1.0), 1.0);
        if activation == Activation::Relu {
            return Fluctuation {
                kurtosis: 5.0,
                slope_covariance: 1.0,
                elasticity,
                scaling: unit,
                gated_scaling: unit,
            };
        }
        if second < f64::MIN_POSITIVE {
            return Fluctuation {
                kurtosis: 2.0,
                slope_covariance: 0.0,
                elasticity,
                scaling: unit,
                gated_scaling: unit,
            };
        }
        let stretch = |z: f64| derivative(activation, root * z) * root * z;
        let slope = |z: f64| derivative(activation, root * z).powi(2);
        let fourth = expectation(|z| square(z).powi(2));
        let moving = expectation(|z| value(activation, root * z) * stretch(z));
        let (slopes, stretches) = (expectation(slope), expectation(|z| stretch(z).powi(2)));
        let both = stretches + 2.0 * moving + second;
        Fluctuation {
            kurtosis: fourth / second.powi(2) - 1.0,
            slope_covariance: expectation(|z| square(z) * slope(z)) / (second * slopes) - 1.0,
            elasticity: moving / second,
            scaling: (stretches / (root * root * slopes), moving.powi(2) / (second * stretches)),
            gated_scaling: (both / (root * root * slopes + second), (moving + second).powi(2) / (second * both)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 3] = [Activation::Relu, Activation::Gelu, Activation::Silu];

    fn gram(q: f64, r: f64) -> Gram {
        Gram::from_row_slice(2, 2, &[q, q * r, q * r, q])
    }

    #[test]
    fn slopes_are_the_derivative_of_values_by_the_covariance() {
        // Price 1958; a central difference of step h errs by h^2 and by rounding/h.
        let (q, h) = (1.3, 1e-4);
        for activation in ALL {
            for r in [-0.6, 0.1, 0.8] {
                let value = |r| kernels(activation, &gram(q, r), f64::INFINITY).value[0][(0, 1)];
                let difference = (value(r + h / q) - value(r - h / q)) / (2.0 * h);
                let slope = kernels(activation, &gram(q, r), f64::INFINITY).slope[0][(0, 1)];
                assert!((difference - slope).abs() < 10.0 * h * h + f64::EPSILON / h * 10.0, "{activation:?} {r}");
            }
        }
    }

    #[test]
    fn one_token_has_the_moments_of_a_gaussian_through_the_activation() {
        for activation in ALL {
            let k = kernels(activation, &gram(0.7, 1.0), 128.0);
            let root = 0.7_f64.sqrt();
            // ReLU has a kink at a node of the trapezoidal rule, whose error is then the square of its step.
            let rule = if activation == Activation::Relu { 0.05_f64.powi(2) } else { 1e-12 };
            let expected = expectation(|z| value(activation, root * z).powi(2));
            assert!((k.value[0][(0, 0)] - expected).abs() < rule && (k.value[0][(0, 1)] - expected).abs() < rule);
            assert!((k.mean[0] - expectation(|z| value(activation, root * z))).abs() < rule);
        }
    }

    #[test]
    fn relu_is_homogeneous() {
        let (k, quadrupled) =
            (kernels(Activation::Relu, &gram(1.0, 0.3), 64.0), kernels(Activation::Relu, &gram(4.0, 0.3), 64.0));
        for (value, larger) in k.value.iter().zip(&quadrupled.value) {
            assert!((value * 4.0 - larger).amax() < 1e2 * f64::EPSILON);
        }
        assert_eq!((k.slope, k.elasticity), (quadrupled.slope, 1.0));
    }

    #[test]
    fn a_gate_sees_the_square_of_what_two_independent_tokens_have_in_common() {
        // E[r^ k1(r^)] = k1'(0) E r^^2 + ..., k1' = q k0 (Price 1958), E r^^2 = 1/n: to a relative 1/n, times a few.
        let (q, n) = (1.0, 100.0);
        let k = kernels(Activation::Swiglu, &gram(q, 0.0), n);
        let exact = kernels(Activation::Swiglu, &gram(q, 0.0), f64::INFINITY);
        let expected = q * exact.slope[0][(0, 1)] / n;
        assert!((k.value[1][(0, 1)] / expected - 1.0).abs() < 8.0 / n, "{} {expected}", k.value[1][(0, 1)]);
        assert!(exact.value[1][(0, 1)].abs() < 1e2 * f64::EPSILON);
    }
}
