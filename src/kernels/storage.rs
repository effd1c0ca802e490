//! The types that tensors are stored in, and their rounding: exact widening, one rounding to nearest even back.
//!
//! The conversions of single numbers here give the bits that the hardware's conversions give.

use half::{bf16, f16};

use super::backward::Backward;
use super::dispatch::Path;
use super::forward::Forward;
use super::lanes::{LANES, Lanes, Real};
use super::registers::{Halves, Machine};

/// A storage type: f32, f64, bf16 or f16.
pub trait Storage: Copy + Default + Send + Sync + 'static {
    /// What statistics and arithmetic are done in: f32, and f64 for f64.
    type Real: Real;
    /// Unit roundoff of a store: 0 where the storage type is the type computed in.
    const STORE_ROUNDOFF: f64;
    fn widen(self) -> Self::Real;
    fn narrow(x: Self::Real) -> Self;

    fn load<M: Machine>(from: &[Self; LANES]) -> <Self::Real as Real>::Lanes<M>;
    fn store<M: Machine>(values: <Self::Real as Real>::Lanes<M>, to: &mut [Self; LANES]);
    /// As `store`; past the caches where `past` and the machine can.
    fn stream<M: Machine>(values: <Self::Real as Real>::Lanes<M>, to: &mut [Self; LANES], past: bool);

    /// The kernel for this type. Neither generic nor a default, which would be, so that it is compiled here, once: a crate
    /// that calls a generic one compiles every path of it again, 2.6 MB of code for all types.
    fn forward(path: Path, rows: Forward<'_, Self>);
    /// As `forward`.
    fn backward(path: Path, rows: Backward<'_, Self>);
}

macro_rules! kernels {
    () => {
        fn forward(path: Path, rows: Forward<'_, Self>) {
            path.run(rows);
        }
        fn backward(path: Path, rows: Backward<'_, Self>) {
            path.run(rows);
        }
    };
}

macro_rules! plain {
    ($t:ty) => {
        impl Storage for $t {
            type Real = $t;
            const STORE_ROUNDOFF: f64 = 0.0;
            #[inline(always)]
            fn widen(self) -> $t {
                self
            }
            #[inline(always)]
            fn narrow(x: $t) -> $t {
                x
            }
            #[inline(always)]
            fn load<M: Machine>(from: &[$t; LANES]) -> <$t as Real>::Lanes<M> {
                Lanes::load(from)
            }
            #[inline(always)]
            fn store<M: Machine>(values: <$t as Real>::Lanes<M>, to: &mut [$t; LANES]) {
                values.store(to);
            }
            #[inline(always)]
            fn stream<M: Machine>(values: <$t as Real>::Lanes<M>, to: &mut [$t; LANES], past: bool) {
                if past { values.stream(to) } else { values.store(to) }
            }
            kernels!();
        }
    };
}

plain!(f32);
plain!(f64);

impl Storage for bf16 {
    type Real = f32;
    const STORE_ROUNDOFF: f64 = 1.0 / 256.0;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        bf16::from_bits(if nan { quiet } else { rounded } as u16)
    }

    #[inline(always)]
    fn load<M: Machine>(from: &[bf16; LANES]) -> M::F32 {
        M::F32::from_bf16(from)
    }

    #[inline(always)]
    fn store<M: Machine>(values: M::F32, to: &mut [bf16; LANES]) {
        values.to_bf16(to, false);
    }

    #[inline(always)]
    fn stream<M: Machine>(values: M::F32, to: &mut [bf16; LANES], past: bool) {
        values.to_bf16(to, past);
    }

    kernels!();
}

impl Storage for f16 {
    type Real = f32;
    const STORE_ROUNDOFF: f64 = 1.0 / 2048.0;

    /// The exponent's bias is changed by a multiplication, which is exact and right for subnormal numbers, too.
    #[inline(always)]
    fn widen(self) -> f32 {
        const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
        let bits = u32::from(self.to_bits());
        let magnitude = (bits & 0x7fff) << 13;
        let special = if magnitude >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
        let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
        f32::from_bits(finite | special | (bits & 0x8000) << 16)
    }

    /// Giesen 2012, "Float->half variants": the hardware's addition rounds what becomes subnormal.
    #[inline(always)]
    fn narrow(x: f32) -> f16 {
        const MAGIC: u32 = (127 - 15 + 23 - 10 + 1) << 23;
        let sign = x.to_bits() & 0x8000_0000;
        let bits = x.to_bits() ^ sign;
        let special = if bits > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        let subnormal = (f32::from_bits(bits) + f32::from_bits(MAGIC)).to_bits().wrapping_sub(MAGIC);
        let normal = bits.wrapping_add(0xc800_0fff + ((bits >> 13) & 1)) >> 13;
        let finite = if bits < 113 << 23 { subnormal } else { normal };
        let magnitude = if bits >= 143 << 23 { special } else { finite };
        f16::from_bits((magnitude | sign >> 16) as u16)
    }

    #[inline(always)]
    fn load<M: Machine>(from: &[f16; LANES]) -> M::F32 {
        M::F32::from_f16(from)
    }

    #[inline(always)]
    fn store<M: Machine>(values: M::F32, to: &mut [f16; LANES]) {
        values.to_f16(to, false);
    }

    #[inline(always)]
    fn stream<M: Machine>(values: M::F32, to: &mut [f16; LANES], past: bool) {
        values.to_f16(to, past);
    }

    kernels!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_and_narrows_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (b, h) = (bf16::from_bits(bits), f16::from_bits(bits));
            assert!(b.is_nan() && b.widen().is_nan() || b.widen().to_bits() == b.to_f32().to_bits());
            assert!(h.is_nan() && h.widen().is_nan() || h.widen().to_bits() == h.to_f32().to_bits());
        }
        // Every exponent, with mantissas on and beside each tie.
        for high in 0..=u16::MAX {
            for low in [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                let (b, h) = (<bf16 as Storage>::narrow(x), <f16 as Storage>::narrow(x));
                assert!(x.is_nan() && b.is_nan() || b.to_bits() == bf16::from_f32(x).to_bits(), "{x:e}");
                assert!(x.is_nan() && h.is_nan() || h.to_bits() == f16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }
}
