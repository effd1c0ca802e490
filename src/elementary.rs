//! Elementary functions of doubles without branches, so that loops over them vectorize.
//!
//! Nothing is fused and nothing is looked up: the bits are the same on every machine and in registers of any width. Must not
//! know what the numbers are for.

/// exp x, below 1 ulp; 0 below -708 and for no x larger than 709 (coefficients of fdlibm, e_exp.c).
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LEAST: f64 = -708.0;
    let held = if x < LEAST { LEAST } else { x };
    let shifted = held * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let (high, low) = (held - n * 6.931_471_803_691_238e-1, n * 1.908_214_929_270_587_7e-10);
    let r = high - low;
    let z = r * r;
    let c = r - z
        * (1.66666666666666019037e-01
            + z * (-2.77777777770155933842e-03
                + z * (6.61375632143793436117e-05
                    + z * (-1.65339022054652515390e-06 + z * 4.13813679705723846039e-08))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    // The lowest bits of `shifted` are n; added to the exponent they are a factor 2^n.
    let scaled = f64::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 52));
    if x < LEAST { 0.0 } else { scaled }
}

/// ln x for a positive normal x, below 1 ulp (coefficients of fdlibm, e_log.c).
#[inline(always)]
pub fn ln(x: f64) -> f64 {
    let bits = x.to_bits().wrapping_add(0x3FF0_0000_0000_0000 - 0x3FE6_A09E_667F_3BCD);
    // The exponent as a double without an integer conversion, which AVX2 lacks.
    let k = f64::from_bits((bits >> 52) | 0x4330_0000_0000_0000) - 4_503_599_627_370_496.0 - 1023.0;
    let f = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) + 0x3FE6_A09E_667F_3BCD) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    let odd = z
        * (6.666666666666735130e-01
            + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    let half = 0.5 * f * f;
    k * 6.931_471_803_691_238e-1 - ((half - (s * (half + even + odd) + k * 1.908_214_929_270_587_7e-10)) - f)
}

/// (sin 2 pi u, cos 2 pi u) for u in (0, 1) (coefficients of fdlibm, k_sin.c and k_cos.c).
#[inline(always)]
pub fn sin_cos_turns(u: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let shifted = 4.0 * u + ROUND;
    let quadrant = shifted.to_bits() & 3;
    let x = (4.0 * u - (shifted - ROUND)) * std::f64::consts::FRAC_PI_2;
    let z = x * x;
    let sin = x + x
        * z
        * (-1.66666666666666324348e-01
            + z * (8.33333333332248946124e-03
                + z * (-1.98412698298579493134e-04
                    + z * (2.75573137070700676789e-06
                        + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    let cos = 1.0 - 0.5 * z
        + z * z
            * (4.16666666666666019037e-02
                + z * (-1.38888888888741095749e-03
                    + z * (2.48015872894767294178e-05
                        + z * (-2.75573143513906633035e-07
                            + z * (2.08757232129817482790e-09 - z * 1.13596475577881948265e-11)))));
    let odd = quadrant & 1 == 1;
    let (s, c) = if odd { (cos, sin) } else { (sin, cos) };
    let s = if quadrant & 2 == 2 { -s } else { s };
    let c = if (quadrant + 1) & 2 == 2 { -c } else { c };
    (s, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of (0, 1).
    fn points() -> impl Iterator<Item = f64> {
        (0..20_000).map(|i| (i as f64 + 0.5) / 20_000.0)
    }

    #[test]
    fn elementary_functions_agree_with_libm() {
        for u in points() {
            let (s, c) = sin_cos_turns(u);
            let x = 2.0 * std::f64::consts::PI * u;
            // x itself carries half an ulp of 2 pi.
            let bound = 2.0 * x * f64::EPSILON + 2.0 * f64::EPSILON;
            assert!((s - libm::sin(x)).abs() <= bound && (c - libm::cos(x)).abs() <= bound, "at {u}");
            let tiny = u * u * u * u;
            assert!((ln(tiny) - libm::log(tiny)).abs() <= 2.0 * f64::EPSILON * libm::log(tiny).abs(), "at {tiny}");
        }
    }

    #[test]
    fn exp_agrees_with_libm() {
        for u in points() {
            for x in [-708.0 * u, 709.0 * u, -u, u * u - 0.5] {
                let expected = libm::exp(x);
                assert!((exp(x) - expected).abs() <= f64::EPSILON * expected, "at {x}");
            }
        }
        assert_eq!([exp(0.0), exp(-708.1), exp(f64::NEG_INFINITY)], [1.0, 0.0, 0.0]);
    }
}
