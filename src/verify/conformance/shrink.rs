//! The smallest row on which a subject fails.

use super::bounds::Roundoff;
use super::examine::{Request, numbers_of};
use super::guard::ask;
use super::judge::{Excess, Standard, Worst};
use super::probe::{Probe, Subject, numbers};
use super::report::Counterexample;

/// Which way a subject is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    Backward,
}

impl Pass {
    pub fn word(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        }
    }
}

/// Questions that shrinking may ask.
const QUESTIONS: usize = 200;

/// The failing row of a probe, made shorter and rounder as long as it fails alone. `None` where no one row fails.
pub fn counterexample(
    subject: &dyn Subject,
    standard: &Standard,
    pass: Pass,
    probe: &Probe,
    seen: &Worst,
    request: &Request,
) -> Option<Counterexample> {
    let excess = seen.excess.clone()?;
    let row = |r: usize| probe.x[r * probe.width..(r + 1) * probe.width].to_vec();
    let command = format!("{} --dtype {}", request.command, probe.dtype.as_str());
    let whole = || Counterexample {
        row: row(excess.row.unwrap_or(0)),
        excess: excess.clone(),
        replay: format!("{command} --check \"{}\"", probe.group.word()),
    };
    if !subject.is_live() {
        return Some(whole());
    }
    let mut asked = 0;
    let mut fails = |x: &[f64]| -> Option<Excess> {
        asked += 1;
        if asked > QUESTIONS { None } else { failure(subject, standard, pass, &probe.only(x.to_vec()).ok()?) }
    };
    let rows = excess.row.map_or(0..probe.rows(), |r| r..r + 1);
    let Some((mut x, mut excess)) = rows.into_iter().find_map(|r| Some((row(r), fails(&row(r))?))) else {
        return Some(whole());
    };
    while let Some((shorter, found)) = shorter(&x).into_iter().find_map(|x| fails(&x).map(|e| (x, e))) {
        (x, excess) = (shorter, found);
    }
    for digits in [0, 1, 3] {
        let unit = 10f64.powi(digits);
        let rounder: Vec<f64> = x.iter().map(|v| (v * unit).round() / unit).collect();
        if let Some(found) = fails(&rounder) {
            (x, excess) = (rounder, found);
            break;
        }
    }
    let text: Vec<String> = x.iter().map(f64::to_string).collect();
    let replay = format!("{command} --row={}", text.join(","));
    Some(Counterexample { row: x, excess, replay })
}

/// Halves of a row, then the row without each of its elements.
fn shorter(x: &[f64]) -> Vec<Vec<f64>> {
    let n = x.len();
    if n < 2 {
        return Vec::new();
    }
    let without = |i: usize| x[..i].iter().chain(&x[i + 1..]).copied().collect();
    let halves = [x[..n / 2].to_vec(), x[n / 2..].to_vec()];
    halves.into_iter().chain((0..n.min(16)).map(without)).collect()
}

/// The worst excess of a probe, asked now.
fn failure(subject: &dyn Subject, standard: &Standard, pass: Pass, probe: &Probe) -> Option<Excess> {
    let call = probe.call().ok()?;
    let roundoff = Roundoff::any_order(probe.dtype, probe.width)?;
    match pass {
        Pass::Forward => {
            let y = numbers(&ask(|| subject.forward(&call)).ok()??).ok()?;
            standard.forward(&roundoff, probe, &y).excess
        }
        Pass::Backward => {
            let back = numbers_of(&ask(|| subject.backward(&call)).ok()??, probe).ok()?;
            standard.backward(&roundoff, probe, &back).excess
        }
    }
}
