//! Doubles side by side: four in a register of AVX2, eight in one of AVX-512, or plain numbers with the same roundings.

/// The operations that inner products and combinations need, on N numbers.
pub trait Lanes<const N: usize>: Copy {
    fn splat(x: f64) -> Self;
    fn load(from: &[f64; N]) -> Self;
    fn store(self) -> [f64; N];
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

impl<const N: usize> Lanes<N> for [f64; N] {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        [x; N]
    }

    #[inline(always)]
    fn load(from: &[f64; N]) -> Self {
        *from
    }

    #[inline(always)]
    fn store(self) -> [f64; N] {
        self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    macro_rules! register {
        ($(#[$meta:meta])* $name:ident, $register:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $mul:ident) => {
            $(#[$meta])*
            #[derive(Clone, Copy)]
            pub struct $name($register);

            impl Lanes<$lanes> for $name {
                #[inline(always)]
                fn splat(x: f64) -> Self {
                    // SAFETY: the type is used only where its feature was detected (see above).
                    $name(unsafe { $splat(x) })
                }

                #[inline(always)]
                fn load(from: &[f64; $lanes]) -> Self {
                    // SAFETY: as for `splat`, and the array is just as long as what is read.
                    $name(unsafe { $load(from.as_ptr()) })
                }

                #[inline(always)]
                fn store(self) -> [f64; $lanes] {
                    let mut to = [0.0; $lanes];
                    // SAFETY: as for `splat`, and the array is just as long as what is written.
                    unsafe { $store(to.as_mut_ptr(), self.0) };
                    to
                }

                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    // SAFETY: as for `splat`.
                    $name(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                fn times(self, other: Self) -> Self {
                    // SAFETY: as for `splat`.
                    $name(unsafe { $mul(self.0, other.0) })
                }
            }
        };
    }

    register!(
        /// A register of AVX2; used only inside functions that are compiled for it, behind its detection.
        Avx, __m256d, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_mul_pd
    );
    register!(
        /// A register of AVX-512; used only inside functions that are compiled for it, behind its detection.
        Avx512, __m512d, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_mul_pd
    );
}
