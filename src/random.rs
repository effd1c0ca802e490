//! Counter-based random numbers, drawn on the host.
//!
//! A stream is named by a key, never by the order of use, so that every device
//! and every number of threads sees the same bits, and placements share weights.
//! Must not know what the numbers are for.

/// Numbers made at once, so that the loops below vectorize.
const LANES: usize = 16;

/// Philox blocks made at once: their words just fit the registers.
const GROUP: usize = 8;

/// Numbers that stay in the nearest cache on their way to a new vector.
const PORTION: usize = 16 * LANES;

/// The lower half of 64 bits.
const LOW: u64 = 0xFFFF_FFFF;

/// A stream of random numbers: Philox 4x32-10 (Salmon et al. 2011, SC'11, section 4.3).
///
/// The same key gives the same bits on every machine: integer arithmetic and
/// elementary functions of this file only, no fused multiply-add.
///
/// ```
/// use normative::random::Stream;
/// let mut a = Stream::new(7, &[1, 2]);
/// let mut b = Stream::new(7, &[1, 2]);
/// assert_eq!(a.normals(3), b.normals(3));
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    nonce: [u32; 2],
    counter: u64,
    buffer: [f64; 2 * LANES],
    /// Numbers of the buffer not yet handed out stand at its end.
    left: usize,
}

impl Stream {
    /// The stream of a seed and a name, such as (block, call, matrix).
    pub fn new(seed: u64, name: &[u64]) -> Self {
        let nonce = name.iter().fold(0x243f_6a88_85a3_08d3, |h, &w| mix(h ^ mix(w)));
        let (key, nonce) = (mix(seed ^ 0x1319_8a2e_0370_7344), mix(nonce));
        Stream { key: halves(key), nonce: halves(nonce), counter: 0, buffer: [0.0; 2 * LANES], left: 0 }
    }

    /// `n` independent N(0, 1) numbers.
    pub fn normals(&mut self, n: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(n);
        let mut portion = [0.0; PORTION];
        while out.len() < n {
            let some = &mut portion[..PORTION.min(n - out.len())];
            self.fill_normal(some);
            out.extend_from_slice(some);
        }
        out
    }

    /// Fills `out` with independent N(0, 1) numbers (Box and Muller 1958), absolute error below 1e-14.
    pub fn fill_normal(&mut self, out: &mut [f64]) {
        let kept = self.left.min(out.len());
        let (head, mut rest) = out.split_at_mut(kept);
        let from = self.buffer.len() - self.left;
        head.copy_from_slice(&self.buffer[from..from + kept]);
        self.left -= kept;
        while rest.len() >= 2 * LANES {
            let (chunk, tail) = rest.split_at_mut(2 * LANES);
            self.block(chunk.try_into().expect("the chunk has the block's length"));
            rest = tail;
        }
        if !rest.is_empty() {
            let mut block = [0.0; 2 * LANES];
            self.block(&mut block);
            rest.copy_from_slice(&block[..rest.len()]);
            self.left = block.len() - rest.len();
            self.buffer = block;
        }
    }

    /// The next N(0, 1) number.
    pub fn normal(&mut self) -> f64 {
        let mut one = [0.0];
        self.fill_normal(&mut one);
        one[0]
    }

    /// `n` independent numbers, uniform on (0, 1), 52 bits each.
    pub fn uniforms(&mut self, n: usize) -> Vec<f64> {
        (0..n.div_ceil(2))
            .flat_map(|_| {
                let w = philox(self.key, self.nonce, self.counter);
                self.counter += 1;
                let w = w.map(u64::from);
                [unit(w[0], w[1]), unit(w[2], w[3])]
            })
            .take(n)
            .collect()
    }

    fn block(&mut self, out: &mut [f64; 2 * LANES]) {
        let first = self.counter;
        self.counter += LANES as u64;
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx512f") && has!("avx512dq") && has!("avx512vl") {
                // SAFETY: the features were detected on the line above; the function has no other requirement.
                return unsafe { block_avx512(self.key, self.nonce, first, out) };
            }
            if has!("avx2") {
                // SAFETY: as above.
                return unsafe { block_avx2(self.key, self.nonce, first, out) };
            }
        }
        block(self.key, self.nonce, first, out);
    }
}

/// The same instructions as [`block`], compiled for wider registers: the bits are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn block_avx2(key: [u32; 2], nonce: [u32; 2], first: u64, out: &mut [f64; 2 * LANES]) {
    block(key, nonce, first, out);
}

/// As [`block_avx2`], for registers twice as wide.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn block_avx512(key: [u32; 2], nonce: [u32; 2], first: u64, out: &mut [f64; 2 * LANES]) {
    block(key, nonce, first, out);
}

#[inline(always)]
fn block(key: [u32; 2], nonce: [u32; 2], first: u64, out: &mut [f64; 2 * LANES]) {
    let mut radius = [0.0; LANES];
    let mut angle = [0.0; LANES];
    for from in (0..LANES).step_by(GROUP) {
        let words = philox_group(key, nonce, first.wrapping_add(from as u64));
        for i in 0..GROUP {
            radius[from + i] = unit(words[0][i], words[1][i]);
            angle[from + i] = unit(words[2][i], words[3][i]);
        }
    }
    for i in 0..LANES {
        let r = (-2.0 * ln(radius[i])).sqrt();
        let (sin, cos) = sin_cos_turns(angle[i]);
        out[i] = r * cos;
        out[LANES + i] = r * sin;
    }
}

/// [`GROUP`] Philox blocks of four words; the upper halves of the results are not part of them.
///
/// A word stands alone in 64 bits, where the products of 32 bits arise, so that nothing is shuffled between lanes.
#[inline(always)]
fn philox_group(mut key: [u32; 2], nonce: [u32; 2], first: u64) -> [[u64; GROUP]; 4] {
    let mut w = [[0u64; GROUP], [0; GROUP], [u64::from(nonce[0]); GROUP], [u64::from(nonce[1]); GROUP]];
    for (i, counter) in (0..GROUP).zip(0..) {
        w[0][i] = first.wrapping_add(counter);
        w[1][i] = w[0][i] >> 32;
    }
    for _ in 0..10 {
        for i in 0..GROUP {
            let (p, q) = ((w[0][i] & LOW) * 0xD251_1F53, (w[2][i] & LOW) * 0xCD9E_8D57);
            w[0][i] = (q >> 32) ^ w[1][i] ^ u64::from(key[0]);
            w[1][i] = q;
            w[2][i] = (p >> 32) ^ w[3][i] ^ u64::from(key[1]);
            w[3][i] = p;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    w
}

/// One Philox block of four words.
fn philox(mut key: [u32; 2], nonce: [u32; 2], counter: u64) -> [u32; 4] {
    let mut w = [counter as u32, (counter >> 32) as u32, nonce[0], nonce[1]];
    for _ in 0..10 {
        let (p, q) = (u64::from(w[0]) * 0xD251_1F53, u64::from(w[2]) * 0xCD9E_8D57);
        w = [(q >> 32) as u32 ^ w[1] ^ key[0], q as u32, (p >> 32) as u32 ^ w[3] ^ key[1], p as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    w
}

/// A number in (0, 1) from 52 random bits of two words' lower halves, never 0 and never 1.
#[inline(always)]
fn unit(low: u64, high: u64) -> f64 {
    let bits = ((high << 20) & 0x000F_FFFF_FFFF_FFFF) | ((low & LOW) >> 12);
    f64::from_bits(0x3FF0_0000_0000_0000 | bits) - (1.0 - f64::EPSILON / 2.0)
}

/// ln x for a positive normal x, below 1 ulp (coefficients of fdlibm, e_log.c).
#[inline(always)]
fn ln(x: f64) -> f64 {
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
fn sin_cos_turns(u: f64) -> (f64, f64) {
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

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// A number for a name, to key a stream with (FNV-1a, 64 bits).
pub fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_known_answers() {
        // Random123 kat_vectors, philox4x32 10.
        assert_eq!(philox([0, 0], [0, 0], 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([0xffff_ffff; 2], [0xffff_ffff; 2], u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn groups_are_single_blocks_side_by_side() {
        let (key, nonce) = ([1, u32::MAX], [3, 0x8000_0000]);
        for first in [0, u64::from(u32::MAX) - 2, u64::MAX - 2] {
            let group = philox_group(key, nonce, first);
            for i in 0..GROUP {
                let one = group.map(|word| (word[i] & LOW) as u32);
                assert_eq!(one, philox(key, nonce, first.wrapping_add(i as u64)));
            }
        }
    }

    #[test]
    fn elementary_functions_agree_with_libm() {
        let mut stream = Stream::new(1, &[]);
        for u in stream.uniforms(20_000) {
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
    fn portions_do_not_change_the_numbers() {
        let whole = Stream::new(3, &[1]).normals(200);
        let mut stream = Stream::new(3, &[1]);
        let parts: Vec<f64> = [1, 31, 0, 7, 33, 64, 64].iter().flat_map(|&n| stream.normals(n)).collect();
        assert_eq!(whole, parts);
    }

    #[test]
    fn wide_registers_give_the_same_bits() {
        let (mut plain, mut wide) = ([0.0; 2 * LANES], [0.0; 2 * LANES]);
        let mut stream = Stream::new(5, &[9, 9]);
        for first in 0..100 {
            block(stream.key, stream.nonce, first, &mut plain);
            stream.counter = first;
            stream.block(&mut wide);
            assert_eq!(plain, wide);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was detected on the line above; the function has no other requirement.
                unsafe { block_avx2(stream.key, stream.nonce, first, &mut wide) };
                assert_eq!(plain, wide);
            }
        }
    }
}
