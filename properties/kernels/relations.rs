//! What holds exactly, without a tolerance, of every implementation of a norm.

use normative::random::Stream;

use super::cases::{Case, Kind};
use super::judge::Subject;

/// `Ok`, or what is violated.
pub type Holds = Result<(), String>;

/// Every relation by name.
pub fn all<S: Kind>(subject: &dyn Subject<S>) -> Vec<(&'static str, Holds)> {
    vec![
        ("scale", scale(subject)),
        ("sign", sign(subject)),
        ("dyadic", dyadic(subject)),
        ("isolation", isolation(subject)),
        ("permutation", permutation(subject)),
        ("constant", constant(subject)),
    ]
}

fn same<S: Kind>(one: &[S], other: &[S], what: &str) -> Holds {
    match one.iter().zip(other).position(|(a, b)| a != b) {
        None if one.len() == other.len() => Ok(()),
        at => Err(format!("{what}: differs at {at:?} of {}", one.len())),
    }
}

fn plain<S: Kind>(width: usize, rows: usize, centred: bool, eps: f64, seed: u64) -> Case<S> {
    let case = Case::new("relation", width, centred, eps, Stream::new(seed, &[]).normals(width * rows));
    Case { bias: None, ..case }
}

/// `f` of `2^k x` with `4^k eps` is `f` of x: no other place of eps, no other power of the scale.
pub fn scale<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    for centred in [true, false] {
        for (width, k) in [(3, 1), (33, -4), (64, 5), (257, -2)] {
            let case = plain::<S>(width, 4, centred, 0.25, 7);
            let by = f64::from(k).exp2();
            let x = case.x.iter().map(|x| S::of(x.value() * by)).collect();
            let scaled = Case { x, eps: case.eps * by * by, ..case.clone() };
            same(&subject.forward(&case), &subject.forward(&scaled), &format!("scale by {by}, width {width}"))?;
        }
    }
    Ok(())
}

/// `f(-x) = -f(x)` without a bias.
pub fn sign<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    for centred in [true, false] {
        let case = plain::<S>(65, 5, centred, 1e-5, 8);
        let negated = Case { x: case.x.iter().map(|x| S::of(-x.value())).collect(), ..case.clone() };
        let y: Vec<S> = subject.forward(&negated).iter().map(|y| S::of(-y.value())).collect();
        same(&subject.forward(&case), &y, "sign")?;
    }
    Ok(())
}

/// Rows `m +- 2^k`, signs balanced, eps 0: every partial sum is exact, and so is `+-gain + bias`.
pub fn dyadic<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    for (width, m, k) in [(2usize, 3.0, 0.5), (32, 0.0, 2.0), (64, 1.0, 1.0), (128, -2.0, 0.25)] {
        let x: Vec<f64> = (0..width).map(|i| if i % 2 == 0 { m + k } else { m - k }).collect();
        let case = Case::<S>::new("dyadic", width, true, 0.0, x);
        let gain: Vec<S> = (0..width).map(|i| S::of(1.0 + (i % 4) as f64)).collect();
        let bias: Vec<S> = (0..width).map(|i| S::of((i % 3) as f64)).collect();
        let exact = (0..width).map(|i| {
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            S::of(sign * gain[i].value() + bias[i].value())
        });
        let exact: Vec<S> = exact.collect();
        let case = Case { gain, bias: Some(bias), ..case };
        same(&subject.forward(&case), &exact, &format!("dyadic row of width {width}"))?;
    }
    Ok(())
}

/// NaN or inf in a row makes all of it NaN and leaves the other rows alone, forward and back.
pub fn isolation<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    for centred in [true, false] {
        for (width, rows) in [(3, 5), (33, 70), (64, 3)] {
            let case = plain::<S>(width, rows, centred, 1e-5, 9);
            let (y, back) = (subject.forward(&case), subject.backward(&case));
            let clean_dx = back.dx.ok_or("dx is absent")?;
            for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let at = rows / 2 * width + width - 1;
                let mut poisoned = case.clone();
                poisoned.x[at] = S::of(poison);
                let dx = subject.backward(&poisoned).dx.ok_or("dx is absent")?;
                for (clean, other) in [(&y, &subject.forward(&poisoned)), (&clean_dx, &dx)] {
                    let row = rows / 2 * width..(rows / 2 + 1) * width;
                    if !other[row.clone()].iter().all(|v| v.value().is_nan()) {
                        return Err(format!("{poison} in a row of width {width} leaves a number in it"));
                    }
                    same(&clean[..row.start], &other[..row.start], "rows before")?;
                    same(&clean[row.end..], &other[row.end..], "rows behind")?;
                }
            }
            // A changed row changes no other.
            let mut moved = case.clone();
            moved.x[..width].iter_mut().for_each(|x| *x = S::of(x.value() + 1.5));
            same(&y[width..], &subject.forward(&moved)[width..], "a change of the first row")?;
        }
    }
    Ok(())
}

/// On integer rows with exact partial sums, a permutation of coordinates permutes the output; a change of signs changes
/// its signs without a centre (RMSNorm commutes with signed permutations), and does not with one.
pub fn permutation<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    let width = 64;
    for centred in [true, false] {
        // The sum is 64, so that the mean is exactly 1.
        let x: Vec<f64> = (0..width).map(|i| if i % 2 == 0 { 3.0 } else { -1.0 }).collect();
        let case = Case { bias: None, ..Case::<S>::new("integer", width, centred, 1.0, x.clone()) };
        let case = Case { gain: vec![S::of(1.0); width], ..case };
        let place = |i: usize| (i * 27 + 5) % width;
        let permuted: Vec<S> = (0..width).map(|i| case.x[place(i)]).collect();
        let y = subject.forward(&case);
        let expected: Vec<S> = (0..width).map(|i| y[place(i)]).collect();
        same(&subject.forward(&Case { x: permuted, ..case.clone() }), &expected, "permutation")?;
        let flip = |i: usize, v: S| if i.is_multiple_of(3) { S::of(-v.value()) } else { v };
        let flipped: Vec<S> = case.x.iter().enumerate().map(|(i, x)| flip(i, *x)).collect();
        let expected: Vec<S> = y.iter().enumerate().map(|(i, y)| flip(i, *y)).collect();
        let commutes = same(&subject.forward(&Case { x: flipped, ..case }), &expected, "signs");
        if commutes.is_ok() == centred {
            return Err(format!("signed permutation, centred {centred}: {commutes:?}"));
        }
    }
    Ok(())
}

/// Constant rows: the bias exactly, and no gradient; of RMSNorm the gain's sign and size.
pub fn constant<S: Kind>(subject: &dyn Subject<S>) -> Holds {
    for width in [1, 2, 7, 8, 33, 1000] {
        for eps in [0.0, 1e-5] {
            for value in [3.1, -1e4, 1e-3, 0.0] {
                let case = Case::<S>::new("constant", width, true, eps, vec![value; width]);
                let bias = case.bias.clone().unwrap_or_default();
                same(&subject.forward(&case), &bias, &format!("constant {value}, width {width}, eps {eps}"))?;
            }
        }
    }
    Ok(())
}
