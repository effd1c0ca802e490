//! e^x in f32 by arithmetic alone, so that loops over it vectorize and every machine gives the same bits.

/// e^x within 1 ulp of its value, 0 below -104 and inf above 104; NaN stays NaN.
///
/// `x = n ln 2 + r`, `e^x = 2^n e^r`, by the polynomial of SLEEF (Shibata and Petrogalli 2020, IEEE TPDS 31(6), `expf_u10`).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 2^23: a number of magnitude below 2^22 is rounded to an integer where this is added.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], x));
    let p = r.mul_add(1.985_276_2e-4, 1.393_043_6e-3);
    let p = r.mul_add(p, 8.333_361e-3);
    let p = r.mul_add(p, 4.166_648_5e-2);
    let p = r.mul_add(p, 0.166_666_67);
    let p = r.mul_add(p, 0.5);
    let p = (r * r).mul_add(p, r) + 1.0;
    // 2^n in two factors, each of which is normal.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = p * power(n >> 1) * power(n.wrapping_sub(n >> 1));
    let y = if x < -104.0 { 0.0 } else { y };
    let y = if x > 104.0 { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_one_ulp() {
        // Every 1021st number of both signs: a prime, so that mantissas of all kinds come.
        for bits in (0..0x7f80_0000u32).step_by(1021) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let (found, exact) = (exp(x), f64::from(x).exp());
                // A unit in the last place of the exact value, at least the smallest subnormal number.
                let ulp = 2f64.powi((exact.log2().floor() as i32).max(-126) - 23);
                let fits = match exact as f32 {
                    rounded if rounded.is_infinite() => found.is_infinite() || exact - f64::from(f32::MAX) <= ulp,
                    _ => (f64::from(found) - exact).abs() <= ulp,
                };
                assert!(fits, "exp({x:e}) is {found:e}, not {exact:e}");
            }
        }
        assert!(exp(f32::NAN).is_nan() && exp(f32::INFINITY) == f32::INFINITY && exp(f32::NEG_INFINITY) == 0.0);
        assert_eq!(exp(0.0), 1.0);
    }
}
