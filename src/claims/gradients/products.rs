//! Products of Jacobian norms as The Curse of Depth prints them: arithmetic, no network.

use crate::claims::subjects::{once, refuted};
use crate::claims::{About, Claim};
use crate::verify::{Evidence, Interval, Verdict};

const CURSE: &str = "Sun et al. 2025 (The Curse of Depth), arXiv:2502.05795";

/// Constants of the bound; any positive ones will do.
const A: f64 = 1.0;
const B: f64 = 1.0;

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, expected, plan| Claim {
        id,
        statement,
        source,
        domain: "the printed product, A = B = 1",
        about: About::Nothing,
        expected,
        plan,
    };
    vec![
        claim(
            "gradients.curse_of_depth.theorem_3_3_bounded",
            "With sigma_l^2 growing as exp(l), prod(1 + A/sigma_l + B/sigma_l^2) is bounded by a constant.",
            "Sun et al. 2025, arXiv:2502.05795, Theorem 3.3, first case; zoo D19",
            Verdict::Verified,
            |claim, _| once(claim, |_, _| Ok(vec![bounded(|l| 1.0 + A * (-l / 2.0).exp() + B * (-l).exp())])),
        ),
        claim(
            "gradients.curse_of_depth.theorem_3_3_linear",
            "With sigma_l^2 growing as l, the product is Theta(L).",
            "Sun et al. 2025, arXiv:2502.05795, Theorem 3.3, second case; zoo D19, E9",
            Verdict::Refuted,
            |claim, _| {
                refuted(
                    claim,
                    |_, _| Ok(vec![exponent(1.0, |l| 1.0 + A / l.sqrt() + B / l)]),
                    |evidence| {
                        format!(
                            "the product is exp(Theta(sqrt(L))): its exponent in L is {:.0} at L = 1e5 and still grows; the proof sets \
                         1/sigma = 1/k where sigma^2 = k gives 1/sqrt(k)",
                            evidence[0].found
                        )
                    },
                )
            },
        ),
        claim(
            "gradients.curse_of_depth.theorem_4_2_linear",
            "LayerNorm Scaling's product, with terms A/(l sigma_l) and B/(l^2 sigma_l^2) and sigma_l^2 growing as l, is Theta(L).",
            "Sun et al. 2025, arXiv:2502.05795, Theorem 4.2; zoo D45",
            Verdict::Refuted,
            |claim, _| {
                refuted(
                    claim,
                    |_, _| Ok(vec![exponent(1.0, |l| 1.0 + A / l.powf(1.5) + B / l.powi(3))]),
                    |evidence| {
                        format!(
                            "the sum of l^(-3/2) converges, so that the product is a constant: exponent {:.4}",
                            evidence[0].found
                        )
                    },
                )
            },
        ),
        claim(
            "gradients.curse_of_depth.theorem_4_2_constant",
            "LayerNorm Scaling's product is bounded by a constant.",
            CURSE,
            Verdict::Verified,
            |claim, _| once(claim, |_, _| Ok(vec![bounded(|l| 1.0 + A / l.powf(1.5) + B / l.powi(3))])),
        ),
    ]
}

const L: usize = 100_000;

/// ln of the product up to L, and of its second half's factors, from L to 2 L.
fn logarithms(factor: fn(f64) -> f64) -> (f64, f64) {
    let sum = |from: usize, to: usize| (from..to).map(|l| factor(l as f64).ln()).sum();
    (sum(1, L), sum(L, 2 * L))
}

/// The exponent of a product in L, from 1e5 to 2e5, against a power's: within a half, as the next power is one away.
pub fn exponent(stated: f64, factor: fn(f64) -> f64) -> Evidence {
    let (_, doubling) = logarithms(factor);
    Evidence::exact(
        "exponent of the product in L, from 1e5 to 2e5",
        doubling / 2f64.ln(),
        Interval::around(stated, 0.5),
    )
    .stating(stated)
}

/// A product whose factors beyond L multiply to nearly one: a tail like l^(-3/2), the slowest here, leaves 2/sqrt(L).
pub fn bounded(factor: fn(f64) -> f64) -> Evidence {
    let (_, tail) = logarithms(factor);
    let slowest = 2.0 * A / (L as f64).sqrt();
    Evidence::exact("ln of the product's factors from 1e5 to 2e5", tail, Interval::new(0.0, slowest))
}
