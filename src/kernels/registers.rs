//! 32 lanes in the registers of a machine: arrays, AVX2 (with FMA and F16C), AVX-512.
//!
//! Lane by lane all do the same operations with the same roundings. The methods of `Avx2` and `Avx512` may run only
//! within `dispatch`'s functions that enable the features; nothing else names these machines.

use half::{bf16, f16};

use super::lanes::{LANES, Lanes, Real, tree_of_eight};
use super::storage::Storage;

/// Where 32 numbers live.
pub trait Machine: Copy + 'static {
    type F32: Halves;
    type F64: Lanes<f64>;
}

/// Loads from and stores to half precision.
pub trait Halves: Lanes<f32> {
    #[inline(always)]
    fn from_bf16(from: &[bf16; LANES]) -> Self {
        widen(from)
    }
    /// Past the caches where `past` and the machine can.
    #[inline(always)]
    fn to_bf16(self, to: &mut [bf16; LANES], _past: bool) {
        narrow(self, to);
    }
    #[inline(always)]
    fn from_f16(from: &[f16; LANES]) -> Self {
        widen(from)
    }
    /// As `to_bf16`.
    #[inline(always)]
    fn to_f16(self, to: &mut [f16; LANES], _past: bool) {
        narrow(self, to);
    }
}

/// Asks for 32 elements from `at` to be fetched, where there are so many; a hint only.
#[inline(always)]
pub fn prefetch<S>(row: &[S], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(ahead) = row.get(at..at + LANES) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let line = 64 / size_of::<S>();
        for i in (0..LANES).step_by(line) {
            // SAFETY: SSE is part of x86-64, and a prefetch changes nothing but caches.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead[i..].as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (row, at);
}

/// Orders streamed stores before what other threads read.
#[inline(always)]
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64; a fence has no other requirement.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[inline(always)]
fn widen<S: Storage<Real = f32>, L: Lanes<f32>>(from: &[S; LANES]) -> L {
    let mut wide = [0.0; LANES];
    for (wide, from) in wide.iter_mut().zip(from) {
        *wide = from.widen();
    }
    L::load(&wide)
}

#[inline(always)]
fn narrow<S: Storage<Real = f32>, L: Lanes<f32>>(values: L, to: &mut [S; LANES]) {
    for (to, value) in to.iter_mut().zip(values.array()) {
        *to = S::narrow(value);
    }
}

/// Arrays, for the compiler to vectorize as it can.
#[derive(Clone, Copy)]
pub struct Arrays;

impl Machine for Arrays {
    type F32 = [f32; LANES];
    type F64 = [f64; LANES];
}

impl Halves for [f32; LANES] {}

impl<T: Real> Lanes<T> for [T; LANES] {
    #[inline(always)]
    fn splat(x: T) -> Self {
        [x; LANES]
    }
    #[inline(always)]
    fn load(from: &[T; LANES]) -> Self {
        *from
    }
    #[inline(always)]
    fn store(self, to: &mut [T; LANES]) {
        *to = self;
    }
    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        (0..LANES).for_each(|l| self[l] += other[l]);
        self
    }
    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        (0..LANES).for_each(|l| self[l] = self[l] - other[l]);
        self
    }
    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        (0..LANES).for_each(|l| self[l] = self[l] * other[l]);
        self
    }
    #[inline(always)]
    fn fma(mut self, by: Self, plus: Self) -> Self {
        (0..LANES).for_each(|l| self[l] = self[l].fma(by[l], plus[l]));
        self
    }
    #[inline(always)]
    fn fms(mut self, by: Self, minus: Self) -> Self {
        (0..LANES).for_each(|l| self[l] = self[l].fma(by[l], -minus[l]));
        self
    }
    #[inline(always)]
    fn minus(mut self, by: Self, plus: Self) -> Self {
        (0..LANES).for_each(|l| self[l] = (-self[l]).fma(by[l], plus[l]));
        self
    }
    #[inline(always)]
    fn sum(self) -> T {
        let mut half = [T::ZERO; 16];
        (0..16).for_each(|l| half[l] = self[l] + self[l + 16]);
        let mut eight = [T::ZERO; 8];
        (0..8).for_each(|l| eight[l] = half[l] + half[l + 8]);
        tree_of_eight(eight)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    // Named, since std::arch has a bf16 of its own.
    use half::{bf16, f16};

    use super::*;

    /// `Lanes` of `$n` registers of `$w` numbers.
    macro_rules! registers {
        ($name:ident: $t:ty, $register:ty, $n:literal x $w:literal, $set:ident, $load:ident, $store:ident,
         $stream:ident,
         $add:ident, $sub:ident, $mul:ident, $fma:ident, $fms:ident, $fnma:ident, $tree:ident of $last:literal) => {
            #[derive(Clone, Copy)]
            pub struct $name([$register; $n]);

            // SAFETY of every block: the features are enabled by dispatch's functions, the only callers (module doc);
            // pointers are to `$w` numbers within an array of 32.
            impl Lanes<$t> for $name {
                #[inline(always)]
                fn splat(x: $t) -> Self {
                    $name([unsafe { $set(x) }; $n])
                }
                #[inline(always)]
                fn load(from: &[$t; LANES]) -> Self {
                    let mut out = Self::splat(0.0);
                    for i in 0..$n {
                        out.0[i] = unsafe { $load(from[$w * i..$w * i + $w].as_ptr()) };
                    }
                    out
                }
                #[inline(always)]
                fn store(self, to: &mut [$t; LANES]) {
                    for i in 0..$n {
                        unsafe { $store(to[$w * i..$w * i + $w].as_mut_ptr(), self.0[i]) };
                    }
                }
                #[inline(always)]
                fn stream(self, to: &mut [$t; LANES]) {
                    // The instruction wants whole registers' alignment.
                    if !to.as_ptr().cast::<$register>().is_aligned() {
                        return self.store(to);
                    }
                    for i in 0..$n {
                        unsafe { $stream(to[$w * i..$w * i + $w].as_mut_ptr(), self.0[i]) };
                    }
                }
                #[inline(always)]
                fn add(mut self, other: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $add(self.0[i], other.0[i]) };
                    }
                    self
                }
                #[inline(always)]
                fn sub(mut self, other: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $sub(self.0[i], other.0[i]) };
                    }
                    self
                }
                #[inline(always)]
                fn mul(mut self, other: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $mul(self.0[i], other.0[i]) };
                    }
                    self
                }
                #[inline(always)]
                fn fma(mut self, by: Self, plus: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $fma(self.0[i], by.0[i], plus.0[i]) };
                    }
                    self
                }
                #[inline(always)]
                fn fms(mut self, by: Self, minus: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $fms(self.0[i], by.0[i], minus.0[i]) };
                    }
                    self
                }
                #[inline(always)]
                fn minus(mut self, by: Self, plus: Self) -> Self {
                    for i in 0..$n {
                        self.0[i] = unsafe { $fnma(self.0[i], by.0[i], plus.0[i]) };
                    }
                    self
                }
                /// Whole registers are added down to one, whose numbers `$tree` adds.
                #[inline(always)]
                fn sum(self) -> $t {
                    let mut registers = self.0;
                    let mut left = $n;
                    while left > $last {
                        left /= 2;
                        for i in 0..left {
                            registers[i] = unsafe { $add(registers[i], registers[i + left]) };
                        }
                    }
                    unsafe { $tree(registers.as_slice()) }
                }
            }
        };
    }

    registers!(Avx2F32: f32, __m256, 4 x 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_stream_ps,
        _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_fmsub_ps, _mm256_fnmadd_ps, eight_f32 of 1);
    registers!(Avx2F64: f64, __m256d, 8 x 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_stream_pd,
        _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, _mm256_fmadd_pd, _mm256_fmsub_pd, _mm256_fnmadd_pd, eight_f64 of 2);
    registers!(Avx512F32: f32, __m512, 2 x 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_stream_ps,
        _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_fnmadd_ps, sixteen_f32 of 1);
    registers!(Avx512F64: f64, __m512d, 4 x 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_stream_pd,
        _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, _mm512_fmsub_pd, _mm512_fnmadd_pd, eight_of_512_f64 of 1);

    // The tree's last levels, as in `tree_of_eight`: the upper half is added to the lower, again and again.
    // SAFETY of every block: as in `registers`; no memory is touched but the slice, which has the length asked for.

    #[inline(always)]
    unsafe fn four_f32(c: __m128) -> f32 {
        unsafe {
            let two = _mm_add_ps(c, _mm_movehl_ps(c, c));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn eight_f32(one: &[__m256]) -> f32 {
        unsafe { four_f32(_mm_add_ps(_mm256_castps256_ps128(one[0]), _mm256_extractf128_ps::<1>(one[0]))) }
    }

    #[inline(always)]
    unsafe fn sixteen_f32(one: &[__m512]) -> f32 {
        unsafe {
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(one[0])));
            eight_f32(&[_mm256_add_ps(_mm512_castps512_ps256(one[0]), upper)])
        }
    }

    #[inline(always)]
    unsafe fn four_f64(c: __m256d) -> f64 {
        unsafe {
            let two = _mm_add_pd(_mm256_castpd256_pd128(c), _mm256_extractf128_pd::<1>(c));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn eight_f64(two: &[__m256d]) -> f64 {
        unsafe { four_f64(_mm256_add_pd(two[0], two[1])) }
    }

    #[inline(always)]
    unsafe fn eight_of_512_f64(one: &[__m512d]) -> f64 {
        unsafe { eight_f64(&[_mm512_castpd512_pd256(one[0]), _mm512_extractf64x4_pd::<1>(one[0])]) }
    }

    #[derive(Clone, Copy)]
    pub struct Avx2;

    impl Machine for Avx2 {
        type F32 = Avx2F32;
        type F64 = Avx2F64;
    }

    #[derive(Clone, Copy)]
    pub struct Avx512;

    impl Machine for Avx512 {
        type F32 = Avx512F32;
        type F64 = Avx512F64;
    }

    // SAFETY of every block: as in `registers`; bf16 and f16 are transparent over u16, and pointers are to 16 of them within
    // an array of 32, or to all of it; what is streamed is aligned.
    impl Halves for Avx512F32 {
        #[inline(always)]
        fn from_bf16(from: &[bf16; LANES]) -> Self {
            let mut out = Self::splat(0.0);
            for i in 0..2 {
                let sixteen = &from[16 * i..16 * i + 16];
                out.0[i] = unsafe {
                    let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(sixteen.as_ptr().cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                };
            }
            out
        }

        #[inline(always)]
        fn to_bf16(self, to: &mut [bf16; LANES], past: bool) {
            // Words 1, 3, 5, ... of both registers: the upper halves, without a shift.
            const UPPER: [u16; LANES] = {
                let mut word = [1; LANES];
                let mut i = 1;
                while i < LANES {
                    word[i] = word[i - 1] + 2;
                    i += 1;
                }
                word
            };
            unsafe {
                let halves = _mm512_permutex2var_epi16(
                    round_up(self.0[0]),
                    _mm512_loadu_si512(UPPER.as_ptr().cast()),
                    round_up(self.0[1]),
                );
                let to: *mut __m512i = to.as_mut_ptr().cast();
                if past && to.is_aligned() { _mm512_stream_si512(to, halves) } else { _mm512_storeu_si512(to, halves) }
            }
        }

        #[inline(always)]
        fn from_f16(from: &[f16; LANES]) -> Self {
            let mut out = Self::splat(0.0);
            for i in 0..2 {
                let sixteen = &from[16 * i..16 * i + 16];
                out.0[i] = unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(sixteen.as_ptr().cast())) };
            }
            out
        }

        #[inline(always)]
        fn to_f16(self, to: &mut [f16; LANES], past: bool) {
            for i in 0..2 {
                let sixteen = &mut to[16 * i..16 * i + 16];
                unsafe { put(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0[i]), sixteen, past) };
            }
        }
    }

    // SAFETY of every block: as in `registers`; bf16 and f16 are transparent over u16, and pointers are to 8 of them
    // within an array of 32.
    impl Halves for Avx2F32 {
        #[inline(always)]
        fn from_bf16(from: &[bf16; LANES]) -> Self {
            let mut out = Self::splat(0.0);
            for i in 0..4 {
                let eight = &from[8 * i..8 * i + 8];
                out.0[i] = unsafe {
                    let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(eight.as_ptr().cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
                };
            }
            out
        }

        #[inline(always)]
        fn to_bf16(self, to: &mut [bf16; LANES], past: bool) {
            for i in 0..2 {
                let sixteen = &mut to[16 * i..16 * i + 16];
                unsafe {
                    let packed = _mm256_packus_epi32(rounded(self.0[2 * i]), rounded(self.0[2 * i + 1]));
                    put(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed), sixteen, past);
                }
            }
        }

        #[inline(always)]
        fn from_f16(from: &[f16; LANES]) -> Self {
            let mut out = Self::splat(0.0);
            for i in 0..4 {
                let eight = &from[8 * i..8 * i + 8];
                out.0[i] = unsafe { _mm256_cvtph_ps(_mm_loadu_si128(eight.as_ptr().cast())) };
            }
            out
        }

        #[inline(always)]
        fn to_f16(self, to: &mut [f16; LANES], past: bool) {
            for i in 0..2 {
                let sixteen = &mut to[16 * i..16 * i + 16];
                unsafe {
                    let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0[2 * i]);
                    let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0[2 * i + 1]);
                    put(_mm256_set_m128i(high, low), sixteen, past);
                }
            }
        }
    }

    /// 16 halves to memory, past the caches where that is asked for and they are aligned.
    ///
    /// # Safety
    /// The slice has 16 elements of 2 bytes.
    #[inline(always)]
    unsafe fn put<H>(halves: __m256i, to: &mut [H], past: bool) {
        let to: *mut __m256i = to.as_mut_ptr().cast();
        // SAFETY: as in `registers`; the slice is as long as the register, and the first store wants no alignment.
        unsafe {
            if past && to.is_aligned() { _mm256_stream_si256(to, halves) } else { _mm256_storeu_si256(to, halves) }
        }
    }

    /// Numbers of which the upper half is rounded as [`rounded`] does; the lower half means nothing.
    #[inline(always)]
    unsafe fn round_up(x: __m512) -> __m512i {
        // SAFETY: as in `registers`; no memory is touched.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd)
        }
    }

    /// The upper half of each number rounded to nearest even, in 32 bits.
    ///
    /// A NaN here comes from a stored NaN or is the default one: its lower half is 0, so that the sum cannot carry.
    #[inline(always)]
    unsafe fn rounded(x: __m256) -> __m256i {
        // SAFETY: as in `registers`; no memory is touched.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            _mm256_srli_epi32::<16>(up)
        }
    }
}
