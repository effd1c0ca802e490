//! Faults 68-79: statistics that raise too many alarms, too few, or none.

use normative::claims::{LOOKS, families, share};
use normative::random::Stream;
use normative::verify::budget::{Pool, RUN};
use normative::verify::{Evidence, Interval, Verdict, chi_square, clopper_pearson};
use rayon::prelude::*;

use crate::{Fault, Judged};

const ANY: Interval = Interval { from: f64::NEG_INFINITY, to: f64::INFINITY };

/// The rate at which a check of rates may itself be wrong.
const WRONG: f64 = 1e-9;

/// Whether an alarm is raised at the stated rate: no more often, nor less.
fn calibrated(alpha: f64, runs: usize, alarm: impl Fn(&mut Stream) -> bool + Sync) -> Judged {
    let alarms = (0..runs).into_par_iter().filter(|run| alarm(&mut Stream::new(*run as u64, &[7]))).count();
    let (from, to) = clopper_pearson(alarms as f64, runs as f64, WRONG);
    match from <= alpha && alpha <= to {
        true => Ok(()),
        false => Err(format!("{alarms} alarms in {runs} runs without a fault, at alpha {alpha}")),
    }
}

/// Whether an alarm is raised no more often than stated.
fn covers(alpha: f64, runs: usize, alarm: impl Fn(&mut Stream) -> bool + Sync) -> Judged {
    let alarms = (0..runs).into_par_iter().filter(|run| alarm(&mut Stream::new(*run as u64, &[8]))).count();
    let (from, _) = clopper_pearson(alarms as f64, runs as f64, WRONG);
    match from <= alpha {
        true => Ok(()),
        false => Err(format!("{alarms} alarms in {runs} runs without a fault, at alpha {alpha}")),
    }
}

fn misses(interval: Interval, truth: f64) -> bool {
    !(interval.from <= truth && truth <= interval.to)
}

fn mean(values: &[f64], alpha: f64) -> Interval {
    Evidence::mean("mean", values, ANY, alpha).interval
}

/// Eight seeds of sixteen tokens that have their seed's weights in common.
fn tokens(stream: &mut Stream) -> Vec<Vec<f64>> {
    let seed = |_| {
        let common = stream.normal();
        stream.normals(16).into_iter().map(|own| common + own).collect()
    };
    (0..8).map(seed).collect()
}

pub fn faults() -> Vec<Fault> {
    const RUNS: usize = 4_000;
    const ALPHA: f64 = 1e-2;
    let of_seeds = |s: &mut Stream| {
        let means: Vec<f64> = tokens(s).iter().map(|t| t.iter().sum::<f64>() / t.len() as f64).collect();
        misses(mean(&means, ALPHA), 0.0)
    };
    let sixteen = |alpha: f64| move |s: &mut Stream| misses(mean(&s.normals(16), alpha), 0.0);
    let log_normal = |s: &mut Stream| s.normals(48).into_iter().map(f64::exp).collect::<Vec<_>>();
    vec![
        Fault::new(
            68,
            "tokens counted as samples",
            "A/A",
            move || calibrated(ALPHA, RUNS, of_seeds),
            || calibrated(ALPHA, RUNS, |s| misses(mean(&tokens(s).concat(), ALPHA), 0.0)),
        ),
        Fault::new(
            69,
            "one-sided quantile for a two-sided test",
            "A/A",
            move || calibrated(ALPHA, RUNS, sixteen(ALPHA)),
            move || calibrated(ALPHA, RUNS, sixteen(2.0 * ALPHA)),
        ),
        Fault::new(
            70,
            "alpha not split over checks",
            "budget",
            || budget(&|id, pool| share(id, pool)),
            || budget(&|_, pool| pool.total()),
        ),
        Fault::new(
            71,
            "variance of the mean without 1/n",
            "A/A",
            move || calibrated(ALPHA, RUNS, sixteen(ALPHA)),
            || {
                calibrated(ALPHA, RUNS, |s| {
                    let values = s.normals(16);
                    let interval = mean(&values, ALPHA);
                    let (centre, reach) = (0.5 * (interval.from + interval.to), 0.5 * (interval.to - interval.from));
                    misses(Interval::around(centre, reach * (values.len() as f64).sqrt()), 0.0)
                })
            },
        ),
        Fault::new(
            72,
            "mean of ln compared with ln of the mean",
            "A/A",
            move || {
                covers(ALPHA, RUNS, |s| {
                    misses(Evidence::log_normal("l", &log_normal(s), ANY, ALPHA).interval, 0.5f64.exp())
                })
            },
            move || {
                covers(ALPHA, RUNS, |s| {
                    let logs: Vec<f64> = log_normal(s).into_iter().map(f64::ln).collect();
                    misses(mean(&logs, ALPHA), 0.5)
                })
            },
        ),
        Fault::new(
            73,
            "bias in 1/d swallowed into the margin",
            "contrast",
            || limit(&by_contrast),
            || limit(&by_wide_margin),
        ),
        Fault::new(
            74,
            "looking again and again with a fixed-n bound",
            "coverage at every stopping time",
            || {
                covers(ALPHA, 1_000, |s| {
                    peeks(s, |v| Evidence::bounded("b", v, Interval::new(0.0, 1.0), ANY, ALPHA).interval)
                })
            },
            || covers(ALPHA, 1_000, |s| peeks(s, |v| mean(v, ALPHA))),
        ),
        Fault::new(
            75,
            "retry until pass",
            "every draw is in the record",
            || recorded(&once),
            || recorded(&until_green),
        ),
        Fault::new(
            76,
            "undecided mapped to pass",
            "verdicts",
            || verdicts(&by_evidence),
            || {
                verdicts(&|accepted, found| match by_evidence(accepted, found) {
                    Verdict::Undecided if !found.from.is_nan() => Verdict::Verified,
                    other => other,
                })
            },
        ),
        Fault::new(
            77,
            "NaN compares false and passes",
            "verdicts",
            || verdicts(&by_evidence),
            || {
                verdicts(&|accepted, found| match () {
                    () if found.to < accepted.from || found.from > accepted.to => Verdict::Refuted,
                    () if found.from < accepted.from || found.to > accepted.to => Verdict::Undecided,
                    () => Verdict::Verified,
                })
            },
        ),
        Fault::new(78, "seeds reused between the stages", "A/A of two stages", || stages(false), || stages(true)),
        Fault::new(
            79,
            "chi-square tail underflows",
            "tabulated tails",
            || tails(&chi_square),
            || {
                tails(&|degrees, x| {
                    let below = chi_square(degrees, x).0;
                    (below, 1.0 - below)
                })
            },
        ),
    ]
}

fn budget(share: &dyn Fn(&'static str, Pool) -> f64) -> Judged {
    let ids = || families().into_iter().flat_map(|(_, _, claims)| claims).map(|claim| claim.id);
    let spent: f64 = ids().map(|id| LOOKS as f64 * (share(id, Pool::BuiltIn) + share(id, Pool::User))).sum();
    match spent <= RUN * (1.0 + ids().count() as f64 * f64::EPSILON) {
        true => Ok(()),
        false => Err(format!("claims may spend {spent:.1e} of {RUN:.1e}")),
    }
}

/// A figure that is 1 + 3/d at width d, by seeds.
fn at_width(d: f64) -> Vec<f64> {
    Stream::new(11, &[d as u64]).normals(64).into_iter().map(|z| 1.0 + 3.0 / d + 0.003 * z).collect()
}

/// A harness must not verify a limit of 1.05 where it is 1, and must verify 1.
fn limit(harness: &dyn Fn(f64) -> Verdict) -> Judged {
    match (harness(1.0), harness(1.05)) {
        (Verdict::Verified, Verdict::Refuted) => Ok(()),
        (right, wrong) => Err(format!("the true limit is {}, a wrong one {}", right.word(), wrong.word())),
    }
}

fn by_contrast(limit: f64) -> Verdict {
    let contrast: Vec<f64> = at_width(64.0).iter().zip(at_width(128.0)).map(|(m, wide)| 2.0 * wide - m).collect();
    Evidence::mean("2 m(2d) - m(d)", &contrast, Interval::within(limit, 0.02), WRONG).verdict()
}

fn by_wide_margin(limit: f64) -> Verdict {
    let margin = 0.02 + 6.0 / 64.0;
    Evidence::mean("m(d)", &at_width(64.0), Interval::within(limit, margin), WRONG).verdict()
}

/// Whether some look at a growing sample, at every eighth value, excludes the mean.
fn peeks(stream: &mut Stream, interval: impl Fn(&[f64]) -> Interval) -> bool {
    let values = stream.uniforms(240);
    (8..=values.len()).step_by(8).any(|n| misses(interval(&values[..n]), 0.5))
}

/// A harness on a stream, with how many values it drew.
type Harness = dyn Fn(&mut dyn FnMut() -> f64) -> Evidence;

/// A claim that is wrong by half a standard deviation, on 8 seeds a try.
fn attempt(draw: &mut dyn FnMut() -> f64) -> Evidence {
    let values: Vec<f64> = (0..8).map(|_| draw()).collect();
    Evidence::mean("mean", &values, Interval::around(0.5, 1.5), 1e-2)
}

fn once(draw: &mut dyn FnMut() -> f64) -> Evidence {
    attempt(draw)
}

fn until_green(draw: &mut dyn FnMut() -> f64) -> Evidence {
    let mut evidence = attempt(draw);
    while evidence.verdict() != Verdict::Verified {
        evidence = attempt(draw);
    }
    evidence
}

/// Every value that was drawn stands in the evidence.
fn recorded(harness: &Harness) -> Judged {
    for run in 0..64 {
        let (mut stream, mut drawn) = (Stream::new(run, &[12]), Vec::new());
        let evidence = harness(&mut || {
            drawn.push(stream.normal());
            drawn[drawn.len() - 1]
        });
        if evidence.raw != drawn {
            return Err(format!("{} values drawn, {} in the record", drawn.len(), evidence.raw.len()));
        }
    }
    Ok(())
}

fn by_evidence(accepted: Interval, found: Interval) -> Verdict {
    Evidence::exact("figure", 0.0, accepted).found_in(found.from, found.to).verdict()
}

fn verdicts(rule: &dyn Fn(Interval, Interval) -> Verdict) -> Judged {
    let accepted = Interval::new(0.9, 1.1);
    let nan = f64::NAN;
    for (from, to, wanted) in [
        (0.95, 1.05, Verdict::Verified),
        (1.2, 1.3, Verdict::Refuted),
        (0.95, 1.2, Verdict::Undecided),
        (0.0, 2.0, Verdict::Undecided),
        (f64::NEG_INFINITY, f64::INFINITY, Verdict::Undecided),
        (nan, nan, Verdict::Undecided),
        (1.0, nan, Verdict::Undecided),
    ] {
        let verdict = rule(accepted, Interval::new(from, to));
        if verdict != wanted {
            return Err(format!("[{from}, {to}] against [0.9, 1.1] is {}", verdict.word()));
        }
    }
    Ok(())
}

/// An alarm needs both stages on the same side: 2 (a/2)^2 on fresh seeds.
fn stages(reused: bool) -> Judged {
    const LEVEL: f64 = 0.2;
    let side = |interval: Interval| match misses(interval, 0.0) {
        true => interval.from.signum(),
        false => 0.0,
    };
    calibrated(LEVEL * LEVEL / 2.0, 4_000, |s| {
        let first = s.normals(8);
        let second = if reused { first.clone() } else { s.normals(8) };
        let (a, b) = (side(mean(&first, LEVEL)), side(mean(&second, LEVEL)));
        a != 0.0 && a == b
    })
}

fn tails(law: &dyn Fn(f64, f64) -> (f64, f64)) -> Judged {
    // mpmath 1.3.0, 40 digits.
    for (degrees, x, above) in [
        (7.0, 119.07496629000457, 1.1937342356843997e-22),
        (100.0, 287.56573068222616, 4.765692175741589e-20),
        (1000.0, 1458.0498052741295, 1.0150912106369687e-19),
    ] {
        let found = law(degrees, x).1;
        let off = (found / above - 1.0).abs();
        if off.is_nan() || off > 1e-12 {
            return Err(format!("P(chi-square {degrees} > {x}) is {found:e}, not {above:e}"));
        }
    }
    Ok(())
}
