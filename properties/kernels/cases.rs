//! Rows to judge a kernel on: the corpus of edge inputs, and random rows of every conditioning.

use half::{bf16, f16};
use normative::kernels::slices::{Real, Storage, additions};
use normative::random::Stream;
use normative::verify::conformance::{Algorithm, Roundoff};

/// A storage type with what the bounds need.
pub trait Kind: Storage + PartialEq + std::fmt::Debug + candle_core::WithDType {
    const NAME: &'static str;
    const TINY: f64;
    const LARGEST: f64;
    const U: f64;
    /// Magnitudes at which squares over- or underflow, or numbers are subnormal.
    const EDGES: &'static [f64];

    fn roundoff(width: usize) -> Roundoff {
        let half = Self::STORE_ROUNDOFF > 0.0;
        let tiny = if half { f32::from_bits(1).into() } else { Self::TINY };
        let (u, store, h) = (Self::U, Self::STORE_ROUNDOFF, additions(width));
        Roundoff { algorithm: Algorithm::Corrected, u, store, h, tiny, tiny_stored: Self::TINY, largest: Self::LARGEST }
    }

    fn of(x: f64) -> Self {
        Self::narrow(Real::of(x))
    }

    fn value(self) -> f64 {
        self.widen().wide()
    }
}

const F32_EDGES: &[f64] = &[1e-44, 1e-40, 1e-23, 1e-19, 1e-12, 1e19, 1.9e19, 1e30, 3.3e38];

impl Kind for f32 {
    const NAME: &'static str = "f32";
    const TINY: f64 = f32::from_bits(1) as f64;
    const LARGEST: f64 = f32::MAX as f64;
    const U: f64 = f32::EPSILON as f64 / 2.0;
    const EDGES: &'static [f64] = F32_EDGES;
}

impl Kind for f64 {
    const NAME: &'static str = "f64";
    const TINY: f64 = f64::from_bits(1);
    const LARGEST: f64 = f64::MAX;
    const U: f64 = f64::EPSILON / 2.0;
    const EDGES: &'static [f64] = &[1e-300, 1e-170, 1e-160, 1e153, 1e155, 1.7e308];
}

impl Kind for bf16 {
    const NAME: &'static str = "bf16";
    const TINY: f64 = 1.0 / (1u128 << 127) as f64 / 64.0;
    const LARGEST: f64 = f32::from_bits(0x7f7f_0000) as f64;
    const U: f64 = f32::EPSILON as f64 / 2.0;
    const EDGES: &'static [f64] = F32_EDGES;
}

impl Kind for f16 {
    const NAME: &'static str = "f16";
    const TINY: f64 = 1.0 / (1u64 << 24) as f64;
    const LARGEST: f64 = 65504.0;
    const U: f64 = f32::EPSILON as f64 / 2.0;
    const EDGES: &'static [f64] = &[6e-8, 1e-6, 255.0, 256.0, 60_000.0];
}

/// Rows of one width with their parameters and cotangents.
#[derive(Clone, Debug)]
pub struct Case<S> {
    pub name: String,
    pub width: usize,
    pub centred: bool,
    pub one_plus: bool,
    pub rounded_first: bool,
    pub eps: f64,
    pub x: Vec<S>,
    pub gain: Vec<S>,
    pub bias: Option<Vec<S>>,
    pub dy: Vec<S>,
    /// The cotangent of the sum beside the output, in the kernels with a residual.
    pub dsum: Option<Vec<S>>,
}

impl<S: Kind> Case<S> {
    /// Gain near 1, bias and cotangents N(0, 1).
    pub fn new(name: &str, width: usize, centred: bool, eps: f64, x: Vec<f64>) -> Self {
        let mut stream = Stream::new(11, &[width as u64, x.len() as u64]);
        let mut normals = |n: usize, mean: f64| stream.normals(n).into_iter().map(|v| S::of(mean + v)).collect();
        let elements = x.len();
        Case {
            name: format!("{name}, width {width}, {}", if centred { "layer_norm" } else { "rms_norm" }),
            width,
            centred,
            one_plus: false,
            rounded_first: false,
            eps,
            gain: normals(width, 1.0),
            bias: centred.then(|| normals(width, 0.0)),
            dy: normals(elements, 0.0),
            dsum: None,
            x: x.into_iter().map(|v| S::of(v.clamp(-S::LARGEST, S::LARGEST))).collect(),
        }
    }

    pub fn rows(&self) -> usize {
        self.x.len().checked_div(self.width).unwrap_or(0)
    }
}

pub const WIDTHS: &[usize] = &[1, 2, 3, 5, 7, 31, 32, 33, 63, 64, 127, 257, 768, 1023, 1024, 1025, 4097];

/// Rows of N(kappa, 1) for conditionings up to 1e5, two a conditioning.
fn conditioned(stream: &mut Stream, width: usize) -> Vec<f64> {
    let kappas = [0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e5];
    kappas.iter().flat_map(|kappa| stream.normals(width).into_iter().map(move |v| v + kappa)).collect()
}

/// Constant rows, rows constant but for one unit in the last place, one-hot rows, rows at a pole of the sum's order.
fn structured(width: usize) -> Vec<f64> {
    let ulp = f64::from(f32::EPSILON) * 4.0;
    let at = |f: &dyn Fn(usize) -> f64| (0..width).map(f).collect::<Vec<_>>();
    [
        at(&|_| 3.1),
        at(&|_| -1e4),
        at(&|_| 0.0),
        at(&|i| if i == width / 2 { 3.1f32 as f64 + ulp } else { 3.1f32 as f64 }),
        at(&|i| if i % 2 == 0 { 1000.5 } else { 1000.5 + 1.0 / 16384.0 }),
        at(&|i| if i + 1 == width { 1.0 } else { 0.0 }),
        at(&|i| if i == 0 { -1e3 } else { 0.0 }),
        at(&|i| if i == 0 { 1e4 } else { 1e4 + 1e-3 * (i % 7) as f64 }),
    ]
    .concat()
}

/// Every case for a type, both norms.
pub fn corpus<S: Kind>() -> Vec<Case<S>> {
    let mut stream = Stream::new(5, &[]);
    let mut all = Vec::new();
    for centred in [true, false] {
        for &width in WIDTHS {
            for eps in [0.0, 1e-12, 1e-5, 1.0] {
                all.push(Case::new("conditioned", width, centred, eps, conditioned(&mut stream, width)));
            }
            for eps in [0.0, 1e-5] {
                all.push(Case::new("structured", width, centred, eps, structured(width)));
            }
        }
        for width in [2, 33, 257] {
            let edges =
                S::EDGES.iter().flat_map(|m| stream.normals(width).into_iter().map(move |v| v.clamp(-1.0, 1.0) * m));
            let edges: Vec<f64> = edges.collect();
            for eps in [0.0, 1e-5] {
                all.push(Case::new("edges", width, centred, eps, edges.clone()));
            }
        }
        all.push(Case::new("wide", 262_144, centred, 1e-5, stream.normals(262_144)));
        for rows in [1, 32, 33, 64, 65, 200] {
            all.push(Case::new("many rows", 17, centred, 1e-5, stream.normals(rows * 17)));
        }
    }
    let variants = [(true, false), (false, true), (true, true)];
    let plain: Vec<Case<S>> = all.iter().filter(|c| c.width == 33 || c.width == 64).cloned().collect();
    for (one_plus, rounded_first) in variants {
        all.extend(plain.iter().map(|c| Case { one_plus, rounded_first, ..c.clone() }));
    }
    all.extend(plain.iter().map(|c| {
        let dsum = stream.normals(c.x.len()).into_iter().map(S::of).collect();
        Case { dsum: Some(dsum), ..c.clone() }
    }));
    all
}
