//! The corpus of probes: every width and conditioning, and the edges at which implementations fail.

use candle_core::DType;

use super::probe::{Group, Probe};
use crate::error::Result;
use crate::random::Stream;

/// Widths: primes, those about the sizes of registers and blocks, those of networks.
pub const WIDTHS: [usize; 13] = [3, 5, 7, 31, 32, 33, 64, 127, 257, 768, 1023, 1025, 4097];

/// Ratios of mean and standard deviation.
const CONDITIONINGS: [f64; 6] = [1.0, 10.0, 1e2, 1e3, 1e4, 1e5];

/// Every probe of a type at one eps.
pub fn corpus(dtype: DType, eps: f64) -> Result<Vec<Probe>> {
    let mut stream = Stream::new(5, &[]);
    let mut all = convention(dtype, eps, &mut stream)?;
    let mut add = |group, width, x| Probe::new(group, dtype, width, eps, x).map(|probe| all.push(probe));
    for width in [1, 2] {
        add(Group::Narrow, width, conditioned(&mut stream, width, &[0.0, 1.0, 10.0]))?;
    }
    for width in WIDTHS {
        add(Group::Plain, width, conditioned(&mut stream, width, &[0.0; 4]))?;
        add(Group::LargeMean, width, conditioned(&mut stream, width, &CONDITIONINGS))?;
        add(Group::Structured, width, structured(width))?;
    }
    for width in [1, 2, 8, 33, 1000] {
        let row = |value: f64| vec![value; width];
        add(Group::Constant, width, [row(3.1), row(-1e4), row(1e-3), row(0.0)].concat())?;
    }
    for rows in [1, 32, 33, 65, 200] {
        let x = stream.normals(rows * 17);
        add(Group::ManyRows, 17, x)?;
    }
    for width in [2, 33, 257] {
        let mut of = |magnitudes: &[f64]| -> Vec<f64> {
            let row = |m: &f64| stream.normals(width).into_iter().map(|v| v.clamp(-1.0, 1.0) * m).collect::<Vec<_>>();
            magnitudes.iter().flat_map(row).collect()
        };
        let (tiny, huge) = match dtype {
            DType::F64 => (vec![1e-310, 1e-300, 1e-170], vec![1e153, 1e155, 1.7e308]),
            DType::F16 => (vec![6e-8, 1e-6], vec![255.0, 256.0, 60_000.0]),
            _ => (vec![1e-44, 1e-40, 1e-23, 1e-19], vec![1e19, 1.9e19, 1e30, 3.3e38]),
        };
        let (tiny, huge) = (of(&tiny), of(&huge));
        add(Group::Tiny, width, tiny)?;
        add(Group::Huge, width, huge)?;
    }
    for (width, rows) in [(3, 5), (33, 70), (64, 3)] {
        let clean = stream.normals(width * rows);
        add(Group::Poisoned, width, clean.clone())?;
        for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut x = clean.clone();
            x[rows / 2 * width + width - 1] = poison;
            add(Group::Poisoned, width, x)?;
        }
        let mut moved = clean;
        moved[..width].iter_mut().for_each(|x| *x += 1.5);
        add(Group::Poisoned, width, moved)?;
    }
    for (i, probe) in all.iter_mut().enumerate() {
        probe.name = format!("{}/{i}", probe.name);
    }
    Ok(all)
}

/// Rows from far above eps to far below it, without a bias, then rows with one. Where 1 + w and w are told apart, no
/// w is near an end at which they agree.
fn convention(dtype: DType, eps: f64, stream: &mut Stream) -> Result<Vec<Probe>> {
    let mut all = Vec::new();
    for width in [3, 6, 33] {
        let levels = match eps {
            0.0 => vec![1.0, 1e-3, 30.0],
            _ => [eps.sqrt(), eps].iter().flat_map(|e| [30.0 * e, *e, e / 30.0]).chain([1.0]).collect(),
        };
        let row = |level: &f64| stream.normals(width).into_iter().map(|v| (v + 0.5) * level).collect::<Vec<_>>();
        let x: Vec<f64> = levels.iter().flat_map(row).collect();
        let small = Probe::new(Group::Convention, dtype, width, eps, x)?;
        all.push(Probe { bias: vec![0.0; width], ..small });
        let x = stream.normals(3 * width).into_iter().map(|v| 2.0 * v + 1.0).collect();
        all.push(Probe::new(Group::Convention, dtype, width, eps, x)?);
    }
    Ok(all)
}

/// Rows of N(kappa, 1), one a conditioning.
fn conditioned(stream: &mut Stream, width: usize, kappas: &[f64]) -> Vec<f64> {
    kappas.iter().flat_map(|kappa| stream.normals(width).into_iter().map(move |v| v + kappa)).collect()
}

/// Rows constant but for one unit in the last place, alternating rows, one-hot rows, rows at a pole of the sum's order.
fn structured(width: usize) -> Vec<f64> {
    let ulp = f64::from(f32::EPSILON) * 4.0;
    let at = |f: &dyn Fn(usize) -> f64| (0..width).map(f).collect::<Vec<_>>();
    [
        at(&|i| if i == width / 2 { 3.1f32 as f64 + ulp } else { 3.1f32 as f64 }),
        at(&|i| if i % 2 == 0 { 1000.5 } else { 1000.5 + 1.0 / 16384.0 }),
        at(&|i| if i + 1 == width { 1.0 } else { 0.0 }),
        at(&|i| if i == 0 { -1e3 } else { 0.0 }),
        at(&|i| if i == 0 { 1e4 } else { 1e4 + 1e-3 * (i % 7) as f64 }),
    ]
    .concat()
}
