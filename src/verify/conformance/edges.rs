//! Edges that no bound speaks of: empty tensors, layouts, rows that must not reach each other.

use candle_core::{DType, Device, Tensor};

use super::bounds::Roundoff;
use super::examine::{check, numbers_of};
use super::guard::ask;
use super::judge::Standard;
use super::probe::{Call, Gradients, Group, Probe, Subject, numbers};
use super::report::{Check, Demand};
use crate::error::{Error, Result};
use crate::random::Stream;
use crate::verify::Verdict;

/// An empty tensor gives an empty tensor.
pub fn empty(subject: &dyn Subject, eps: f64, dtype: DType) -> Vec<Check> {
    let of = |name: &str, rows: usize, width: usize| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, &Device::Cpu).map_err(Error::at(name));
        let answer = ask(|| {
            let x = zeros(&[rows, width])?;
            let (gain, bias) = (zeros(&[width])?, zeros(&[width])?);
            subject.forward(&Call { name: name.into(), dy: x.clone(), x, gain, bias, eps })
        });
        let reason = match answer {
            Ok(Some(y)) if y.dims() == [rows, width] => None,
            Ok(Some(y)) => Some(format!("gives {:?} for ({rows}, {width})", y.dims())),
            Ok(None) => None,
            Err(reason) => Some(reason),
        };
        let verdict = if reason.is_some() { Verdict::Refuted } else { Verdict::Verified };
        Check { verdict, reason, ..check(name, Some(dtype), Demand::Always) }
    };
    vec![of("width 0", 3, 0), of("no rows", 0, 5)]
}

/// Views of one tensor: transposed, offset, broadcast along rows and along columns, every second row.
fn of_one(base: &Tensor) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
    let (rows, width) = base.dims2()?;
    Ok(vec![
        ("transposed", base.t()?.contiguous()?.t()?),
        ("offset", base.narrow(0, 1, rows - 1)?),
        ("narrowed", base.narrow(1, 1, width - 1)?),
        ("broadcast row", base.narrow(0, 0, 1)?.broadcast_as((3, width))?),
        ("broadcast column", base.narrow(1, 0, 1)?.broadcast_as((rows, width))?),
        ("every second row", base.reshape((rows / 2, 2, width))?.narrow(1, 1, 1)?.squeeze(1)?),
    ])
}

/// A view gives what its contiguous copy gives: within the bound of the formula, to the bit where none was found. A
/// subject may refuse a view with an error, which is told as a limit.
pub fn views(subject: &dyn Subject, eps: f64, dtype: DType, standard: Option<&Standard>) -> Result<Check> {
    const NAME: &str = "strided and broadcast views";
    let mut stream = Stream::new(3, &[]);
    let (rows, width) = (6, 33);
    let mut normals = |shape: &[usize]| {
        let n = shape.iter().product();
        Tensor::from_vec(stream.normals(n), shape, &Device::Cpu)
            .and_then(|t| t.to_dtype(dtype))
            .map_err(Error::at(NAME))
    };
    let (base, gain, bias) = (normals(&[rows, width])?, normals(&[width])?, normals(&[width])?);
    let mut refused = None;
    for (name, view) in of_one(&base).map_err(Error::at(NAME))? {
        let copy = numbers(&view)
            .and_then(|v| Tensor::from_vec(v, view.shape(), &Device::Cpu)?.to_dtype(dtype))
            .map_err(Error::at(NAME))?;
        let width = copy.dim(1).map_err(Error::at(NAME))?;
        let cut = |t: &Tensor| t.narrow(0, 0, width).map_err(Error::at(NAME));
        let (gain, bias) = (cut(&gain)?, cut(&bias)?);
        let of = |x: &Tensor| {
            let call =
                Call { name: NAME.into(), x: x.clone(), gain: gain.clone(), bias: bias.clone(), dy: x.clone(), eps };
            ask(|| subject.forward(&call))
        };
        match (of(&view), of(&copy)) {
            (Ok(Some(y)), Ok(Some(expected))) => {
                let read = |t: &Tensor| numbers(t).map_err(Error::at(NAME));
                let y = read(&y)?;
                let same = match (standard, Roundoff::any_order(dtype, width)) {
                    (Some(standard), Some(roundoff)) => {
                        let x = read(&copy)?;
                        let (gain, bias, dy) = (read(&gain)?, read(&bias)?, x.clone());
                        let group = Group::Plain;
                        let probe = Probe { name: NAME.into(), group, dtype, width, eps, x, gain, bias, dy };
                        y.len() == probe.x.len() && standard.forward(&roundoff, &probe, &y).excess.is_none()
                    }
                    _ => y == read(&expected)?,
                };
                if !same {
                    let reason = Some(format!("{name}: other numbers than of its contiguous copy"));
                    return Ok(Check { verdict: Verdict::Refuted, reason, ..check(NAME, Some(dtype), Demand::Always) });
                }
            }
            (Err(reason), Ok(_)) => refused = refused.or(Some(format!("{name}: {reason}"))),
            _ => {}
        }
    }
    Ok(match refused {
        None => check(NAME, Some(dtype), Demand::Always),
        reason => Check { verdict: Verdict::Refuted, reason, ..check(NAME, Some(dtype), Demand::Limit) },
    })
}

type Answered<'a> = Option<&'a std::result::Result<Vec<f64>, String>>;

/// A row that changes, to inf or NaN among others, leaves every other row to the bit, and NaN makes its whole row NaN. That
/// inf does the same is told as a limit: x/inf is 0 elsewhere in the row. The probes come in fives: clean, NaN, inf, -inf,
/// first row moved.
pub fn isolation(
    dtype: DType,
    asked: &[(&Probe, Answered)],
    backs: &[Option<std::result::Result<Gradients, String>>],
) -> Vec<Check> {
    let of: Vec<_> = asked.iter().zip(backs).filter(|((p, _), _)| p.group == Group::Poisoned).collect();
    if of.is_empty() {
        return Vec::new();
    }
    let (mut reason, mut survives) = (None, None);
    for five in of.chunks(5) {
        let ((clean, first), back) = five[0];
        for ((probe, answer), other) in &five[1..] {
            let mut pairs = vec![("y", first.cloned(), answer.cloned())];
            if let (Some(Ok(one)), Some(Ok(two))) = (back, other) {
                let dx = |g: &Gradients, p: &Probe| Some(numbers_of(g, p).map(|back| back.dx));
                pairs.push(("dx", dx(one, clean), dx(two, probe)));
            }
            for (what, one, two) in pairs {
                match (one, two) {
                    (Some(Ok(one)), Some(Ok(two))) => {
                        reason = reason.or_else(|| leaks(what, clean, probe, &one, &two));
                        reason = reason.or_else(|| survivors(what, probe, &two, |x| x.is_nan()));
                        survives = survives.or_else(|| survivors(what, probe, &two, |x| x.is_infinite()));
                    }
                    (_, Some(Err(error))) | (Some(Err(error)), _) if what == "y" => reason = reason.or(Some(error)),
                    _ => {}
                }
            }
        }
    }
    let of = |name: &str, demand, reason: Option<String>| {
        let verdict = if reason.is_some() { Verdict::Refuted } else { Verdict::Verified };
        Check { verdict, reason, ..check(name, Some(dtype), demand) }
    };
    vec![
        of("inf and NaN stay in their row", Demand::Always, reason),
        of("inf makes its whole row NaN", Demand::Limit, survives),
    ]
}

/// What of one row reaches another.
fn leaks(what: &str, clean: &Probe, probe: &Probe, one: &[f64], two: &[f64]) -> Option<String> {
    let width = probe.width;
    let changed = |r: usize| {
        let at = r * width..(r + 1) * width;
        let touched = clean.x[at.clone()].iter().zip(&probe.x[at.clone()]).any(|(a, b)| a.to_bits() != b.to_bits());
        !touched && one[at.clone()] != two[at]
    };
    let row = (0..probe.rows()).find(|r| changed(*r))?;
    Some(format!("width {width}: {what} of row {row} changes when another row does"))
}

/// Finite numbers in the row of one that is not.
fn survivors(what: &str, probe: &Probe, answer: &[f64], poison: fn(f64) -> bool) -> Option<String> {
    let width = probe.width;
    let of = |v: &[f64], r: usize| v[r * width..(r + 1) * width].to_vec();
    let finite = |r: usize| {
        let found = of(&probe.x, r).into_iter().find(|x| poison(*x))?;
        of(answer, r).iter().any(|y| y.is_finite()).then_some(found)
    };
    let (row, found) = (0..probe.rows()).find_map(|r| Some((r, finite(r)?)))?;
    Some(format!("width {width}: {found} in row {row} leaves finite numbers of {what} in it"))
}
