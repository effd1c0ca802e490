//! Counter-based random numbers, drawn on the host.
//!
//! A stream is named by a key, never by the order of use, so that every device
//! and every number of threads sees the same bits, and placements share weights.
//! Must not know what the numbers are for.

use crate::elementary::{ln, sin_cos_turns};

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
/// our own elementary functions only, no fused multiply-add.
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
