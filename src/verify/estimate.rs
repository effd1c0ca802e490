//! Where the truth lies, from seeds: one constructor a law, each with its error rate, and the way back from raw numbers.
//!
//! The seed is the unit: values of one seed share their weights and count once. A verdict is right up to `alpha` under
//! the law that the constructor names. Plain Student intervals are used no further out than [`GROUP_LEVEL`]; what lies
//! further out is the agreement of independent groups of seeds.

use crate::spec::Growth;
use crate::verify::evidence::{Evidence, Interval, Method};
use crate::verify::tails::{bisect, chi_square, chi_square_quantiles, clopper_pearson, student_quantile};

/// The two-sided level to which Student's quantile is trusted for means of a few seeds.
pub const GROUP_LEVEL: f64 = 1e-3;

/// The fewest seeds of a group.
pub const GROUP_SEEDS: usize = 8;

impl Evidence {
    /// The mean of one value a seed, of any law with a third moment.
    ///
    /// The seeds are split into independent groups, each with a Student interval at a mild level a; the interval is the
    /// hull of theirs, which misses the mean only where every group misses it on the same side: alpha = 2 (a/2)^groups.
    /// Groups have [`GROUP_SEEDS`] seeds or more, and there are as many as keep a above [`GROUP_LEVEL`].
    /// The approximation left is Student's at level a within a group; `properties/statistics.rs` measures it.
    pub fn mean(figure: impl Into<String>, values: &[f64], accepted: Interval, alpha: f64) -> Self {
        Evidence::judged(figure, Method::Student, values.to_vec(), accepted, alpha, values.len())
    }

    /// The mean of one positive value a seed, log-normal between seeds, as second moments and gradients of deep networks are.
    ///
    /// ln of the mean is mu + sigma^2/2: Student's interval of mu and the chi-square interval of sigma^2, half of alpha each,
    /// so that alpha is exact for the log-normal law and not asymptotic. All numbers where [`mean_is_seen`] says no.
    pub fn log_normal(figure: impl Into<String>, values: &[f64], accepted: Interval, alpha: f64) -> Self {
        Evidence::judged(figure, Method::LogNormal, values.to_vec(), accepted, alpha, values.len())
    }

    /// The mean of one value a seed, given a bound on their variance and nothing else.
    ///
    /// Catoni 2012, arXiv:1009.2048, proposition 2.4: radius sqrt(2 V ln(2/alpha)/(n - 2 ln(2/alpha))); no interval where n is less.
    pub fn catoni(figure: impl Into<String>, values: &[f64], variance: f64, accepted: Interval, alpha: f64) -> Self {
        let raw = [values, &[variance]].concat();
        Evidence::judged(figure, Method::Catoni, raw, accepted, alpha, values.len())
    }

    /// The mean of values that lie within known limits, one a seed in their order; valid at any stopping time.
    ///
    /// Predictable plug-in empirical Bernstein sequence, Waudby-Smith and Ramdas 2024, arXiv:2010.09686, theorem 2.
    pub fn bounded(
        figure: impl Into<String>,
        values: &[f64],
        limits: Interval,
        accepted: Interval,
        alpha: f64,
    ) -> Self {
        let raw = [&[limits.from, limits.to], values].concat();
        Evidence::judged(figure, Method::Bounded, raw, accepted, alpha, values.len())
    }

    /// A probability, from successes among independent trials; exact (Clopper and Pearson 1934).
    pub fn proportion(figure: impl Into<String>, successes: u64, trials: u64, accepted: Interval, alpha: f64) -> Self {
        let raw = vec![successes as f64, trials as f64];
        Evidence::judged(figure, Method::Binomial, raw, accepted, alpha, trials as usize)
    }

    /// The factor on a variance of which `statistic` is chi-square with `degrees` degrees of freedom; 1 is stated.
    ///
    /// Exact. Accepted is 1 within `margin`; `beta` is the probability that a variance off by twice the margin is not refuted.
    pub fn pivot(figure: impl Into<String>, statistic: f64, degrees: f64, margin: f64, alpha: f64) -> Self {
        let accepted = Interval::within(1.0, margin);
        let raw = vec![statistic, degrees];
        let evidence = Evidence::judged(figure, Method::ChiSquare, raw, accepted, alpha, degrees as usize);
        let (_, above) = chi_square_quantiles(degrees, alpha / 2.0);
        let (missed, _) = chi_square(degrees, above * (1.0 + margin) / (1.0 + 2.0 * margin));
        Evidence { beta: Some(missed), ..evidence }.stating(1.0)
    }

    /// The slope of y in x: one least-squares line a seed, through all its points, then the law of [`Evidence::mean`].
    pub fn slope(figure: impl Into<String>, lines: &[Vec<(f64, f64)>], accepted: Interval, alpha: f64) -> Self {
        let one = |line: &Vec<(f64, f64)>| {
            let points = line.iter().flat_map(|(x, y)| [*x, *y]);
            std::iter::once(line.len() as f64).chain(points).collect::<Vec<_>>()
        };
        Evidence::judged(figure, Method::Slope, lines.iter().flat_map(one).collect(), accepted, alpha, lines.len())
    }

    /// The exponent between a and b of the mean of y, `ln(E y_b / E y_a) / ln(b/a)`, from one pair (y_a, y_b) a seed, each log-normal
    /// between seeds as gradients of deep networks are.
    ///
    /// It is the mean's exponent, which closed forms give, and not that of a single network: with ln y of variance s^2 the mean
    /// is exp(mu + s^2/2), and s^2 depends on depth. Student's interval of the difference of the two mu takes half of alpha, the
    /// chi-square intervals of the two s^2 a quarter each. All numbers where [`mean_is_seen`] says no.
    pub fn exponent(
        figure: impl Into<String>,
        pairs: &[(f64, f64)],
        ratio: f64,
        accepted: Interval,
        alpha: f64,
    ) -> Self {
        let raw = std::iter::once(ratio.ln()).chain(pairs.iter().flat_map(|(a, b)| [*a, *b])).collect();
        Evidence::judged(figure, Method::Exponent, raw, accepted, alpha, pairs.len())
    }

    /// The class of a growth law, from one ladder (y(n), y(s n), y(s^2 n)) a seed, s the step; every part must be verified.
    ///
    /// By contrasts that are linear in y, so that their means need no bias correction: the increment of the second step
    /// over that of the first is s^p for a + b n^p and 1 for a + b ln n, whatever a. Boundaries between classes lie halfway, at
    /// exponents of 1/4, 3/4 and 5/4. Constant: within a factor s^(2/4) over both steps. Exponential: faster than the square
    /// of n, which an exponential law is once the ladder's first step multiplies it by e^(1/2) or more.
    pub fn growth(
        figure: impl Into<String>,
        ladders: &[[f64; 3]],
        step: usize,
        class: Growth,
        alpha: f64,
    ) -> Vec<Self> {
        let figure = figure.into();
        let above = |part: &str, contrast: &dyn Fn(&[f64; 3]) -> f64, parts: f64| {
            let values: Vec<f64> = ladders.iter().map(contrast).collect();
            // Above zero: nothing at all grows at no rate.
            let accepted = Interval::at_least(f64::MIN_POSITIVE);
            Evidence::mean(format!("{figure}: {part}"), &values, accepted, alpha / parts)
        };
        let s = step as f64;
        let faster = |exponent: f64| move |y: &[f64; 3]| (y[2] - y[1]) - s.powf(exponent) * (y[1] - y[0]);
        let slower = |exponent: f64| move |y: &[f64; 3]| -faster(exponent)(y);
        let between = |low: f64, high: f64| {
            vec![
                above("grows", &|y| y[2] - y[0], 3.0),
                above(&format!("faster than exponent {low}"), &faster(low), 3.0),
                above(&format!("slower than exponent {high}"), &slower(high), 3.0),
            ]
        };
        let (deeper, within) = (step * step, s.sqrt());
        match class {
            Growth::Constant => vec![
                above(
                    &format!("at {deeper} times the depth at most {deeper}^(1/4) times as much"),
                    &|y| within * y[0] - y[2],
                    2.0,
                ),
                above(
                    &format!("at {deeper} times the depth at least {deeper}^(-1/4) times as much"),
                    &|y| within * y[2] - y[0],
                    2.0,
                ),
            ],
            Growth::Logarithmic => between(-0.25, 0.25),
            Growth::SquareRoot => between(0.25, 0.75),
            Growth::Linear => between(0.75, 1.25),
            Growth::Exponential => {
                vec![above("grows", &|y| y[2] - y[0], 2.0), above("faster than exponent 2", &faster(2.0), 2.0)]
            }
        }
    }

    /// Evidence whose estimate and interval follow from raw numbers.
    fn judged(
        figure: impl Into<String>,
        method: Method,
        raw: Vec<f64>,
        accepted: Interval,
        alpha: f64,
        sample: usize,
    ) -> Self {
        let (found, interval) = estimate(method, &raw, alpha);
        let (beta, sample) = (None, sample as u64);
        Evidence { figure: figure.into(), stated: None, accepted, found, interval, method, alpha, beta, sample, raw }
    }

    /// The interval that the raw numbers give by the evidence's method, at its alpha: what the record must say.
    pub fn recomputed(&self) -> Interval {
        estimate(self.method, &self.raw, self.alpha).1
    }
}

const NOTHING: (f64, Interval) = (f64::NAN, Interval { from: f64::NAN, to: f64::NAN });

/// All numbers.
const UNKNOWN: Interval = Interval { from: f64::NEG_INFINITY, to: f64::INFINITY };

/// The estimate and its interval.
fn estimate(method: Method, raw: &[f64], alpha: f64) -> (f64, Interval) {
    if raw.iter().any(|value| value.is_nan()) {
        return NOTHING;
    }
    match (method, raw) {
        (Method::Exact | Method::Rounding, [value]) => (*value, Interval::new(*value, *value)),
        (Method::Exact | Method::Rounding, [from, to]) => (0.5 * (from + to), Interval::new(*from, *to)),
        (Method::ChiSquare, [statistic, degrees]) if *degrees >= 1.0 => {
            let (below, above) = chi_square_quantiles(*degrees, alpha / 2.0);
            (statistic / degrees, Interval::new(statistic / above, statistic / below))
        }
        (Method::Binomial, [successes, trials]) => {
            let (from, to) = clopper_pearson(*successes, *trials, alpha);
            (successes / trials, Interval::new(from, to))
        }
        (Method::Student, values) => of_groups(values, alpha),
        (Method::Summary, [mean, error, seeds, level, rounding]) => {
            let chance = if *error == 0.0 { 0.0 } else { student_quantile(seeds - 1.0, *level) * error };
            (*mean, Interval::around(*mean, chance + rounding))
        }
        (Method::LogNormal, values) if values.len() > 1 && values.iter().all(|value| *value > 0.0) => {
            log_normal(values, alpha)
        }
        (Method::Catoni, [values @ .., variance]) => catoni(values, *variance, alpha),
        (Method::Slope, lines) => match slopes(lines) {
            Some(slopes) => of_groups(&slopes, alpha),
            None => NOTHING,
        },
        (Method::Exponent, [span, values @ ..]) if values.len() > 3 && values.iter().all(|value| *value > 0.0) => {
            exponent(*span, values, alpha)
        }
        (Method::Bounded, [from, to, values @ ..]) => bounded(values, *from, *to, alpha),
        _ => NOTHING,
    }
}

/// Mean, and sum of squared deviations from it.
fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum())
}

/// Student's interval of a mean at a two-sided level; all numbers for one value.
fn student(values: &[f64], level: f64) -> Interval {
    let n = values.len() as f64;
    let (mean, squares) = moments(values);
    match values.len() {
        0 | 1 => UNKNOWN,
        _ if squares == 0.0 => Interval::new(mean, mean),
        _ => Interval::around(mean, student_quantile(n - 1.0, level) * (squares / (n - 1.0) / n).sqrt()),
    }
}

/// How many groups n seeds are split into.
fn groups(n: usize, alpha: f64) -> usize {
    let wanted = ((alpha / 2.0).ln() / (GROUP_LEVEL / 2.0).ln()).ceil().max(1.0);
    (wanted as usize).min(n / GROUP_SEEDS).max(1)
}

fn of_groups(values: &[f64], alpha: f64) -> (f64, Interval) {
    let count = groups(values.len(), alpha);
    let level = 2.0 * (alpha / 2.0).powf(1.0 / count as f64);
    // Seed i is in group i mod count: groups differ by one seed at most.
    let group = |g: usize| values.iter().skip(g).step_by(count).copied().collect::<Vec<_>>();
    let intervals = (0..count).map(|g| student(&group(g), level));
    let hull = intervals.reduce(|a, b| Interval::new(a.from.min(b.from), a.to.max(b.to)));
    (moments(values).0, hull.unwrap_or(NOTHING.1))
}

/// Whether `draws` log-normal numbers, whose logarithm has this variance s^2, show their mean: it is carried by those s
/// deviations above the median, of which there is one in exp(s^2/2). Where there are fewer draws than that, what they say of the
/// mean is all extrapolation, by a law that holds only about.
pub fn mean_is_seen(variance: f64, draws: usize) -> bool {
    variance <= 2.0 * (draws as f64).ln()
}

fn log_normal(values: &[f64], alpha: f64) -> (f64, Interval) {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let degrees = values.len() as f64 - 1.0;
    let (mean, squares) = moments(&logs);
    let centre = student(&logs, alpha / 2.0);
    let (below, above) = chi_square_quantiles(degrees, alpha / 4.0);
    let mean_of = |mu: f64, variance: f64| (mu + variance / 2.0).exp();
    let interval = match mean_is_seen(squares / degrees, values.len()) {
        true => Interval::new(mean_of(centre.from, squares / above), mean_of(centre.to, squares / below)),
        false => UNKNOWN,
    };
    (mean_of(mean, squares / degrees), interval)
}

/// Logarithms of the numbers before and behind, and of the steps between them.
fn logarithms(pairs: &[f64]) -> [Vec<f64>; 3] {
    let (before, behind): (Vec<f64>, Vec<f64>) = pairs.chunks_exact(2).map(|pair| (pair[0].ln(), pair[1].ln())).unzip();
    let steps = before.iter().zip(&behind).map(|(a, b)| b - a).collect();
    [before, behind, steps]
}

/// Half the interval that [`Method::Exponent`] would give with so many draws that spread as these pairs do.
pub(super) fn exponent_reach(span: f64, pairs: &[f64], draws: usize, alpha: f64) -> f64 {
    let degrees = draws as f64 - 1.0;
    let [before, behind, step] = logarithms(pairs).map(|logs| moments(&logs).1 / (logs.len() as f64 - 1.0));
    let centre = student_quantile(degrees, alpha / 2.0) * (step / draws as f64).sqrt();
    let (below, above) = chi_square_quantiles(degrees, alpha / 8.0);
    (centre + (before + behind) * degrees * (below.recip() - above.recip()) / 4.0) / span
}

fn exponent(span: f64, pairs: &[f64], alpha: f64) -> (f64, Interval) {
    let [before, behind, steps] = logarithms(pairs);
    let degrees = steps.len() as f64 - 1.0;
    let [from, to] = [&before, &behind].map(|logs| moments(logs).1);
    let centre = student(&steps, alpha / 2.0);
    let (below, above) = chi_square_quantiles(degrees, alpha / 8.0);
    let of = |step: f64, from: f64, to: f64| (step + (to - from) / 2.0) / span;
    let interval = match mean_is_seen(from.max(to) / degrees, steps.len()) {
        true => Interval::new(of(centre.from, from / below, to / above), of(centre.to, from / above, to / below)),
        false => UNKNOWN,
    };
    (of(moments(&steps).0, from / degrees, to / degrees), interval)
}

fn catoni(values: &[f64], variance: f64, alpha: f64) -> (f64, Interval) {
    let (n, lambda) = (values.len() as f64, (2.0 / alpha).ln());
    if n <= 2.0 * lambda || variance.is_nan() || variance < 0.0 {
        let mean = moments(values).0;
        return (mean, UNKNOWN);
    }
    let radius = (2.0 * variance * lambda / (n - 2.0 * lambda)).sqrt();
    let scale = (2.0 * lambda / (n * (variance + radius * radius))).sqrt();
    let influence = |x: f64| x.signum() * (x.abs() + x * x / 2.0).ln_1p();
    let pull = |theta: f64| values.iter().map(|x| influence(scale * (x - theta))).sum::<f64>();
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
    let centre = if variance == 0.0 { moments(values).0 } else { bisect(low, high, |theta| pull(theta) > 0.0) };
    (centre, Interval::around(centre, radius))
}

/// The least-squares slope of every line; `None` where the numbers are no lines.
fn slopes(mut raw: &[f64]) -> Option<Vec<f64>> {
    let mut slopes = Vec::new();
    while let [count, rest @ ..] = raw {
        let points = rest.get(..2 * *count as usize)?;
        raw = &rest[points.len()..];
        let (x, y): (Vec<f64>, Vec<f64>) = points.chunks_exact(2).map(|point| (point[0], point[1])).unzip();
        let ((x_mean, squares), (y_mean, _)) = (moments(&x), moments(&y));
        let products: f64 = x.iter().zip(&y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        slopes.push(products / squares);
    }
    (!slopes.is_empty() && slopes.iter().all(|slope| slope.is_finite())).then_some(slopes)
}

fn bounded(values: &[f64], from: f64, to: f64, alpha: f64) -> (f64, Interval) {
    /// The largest bet; any constant below 1 is valid.
    const LARGEST: f64 = 0.75;
    let lambda = (2.0 / alpha).ln();
    let (mut sum, mut squares) = (0.0, 0.0);
    let (mut bets, mut won, mut cost) = (0.0, 0.0, 0.0);
    for (seen, value) in values.iter().enumerate() {
        let x = (value - from) / (to - from);
        if !(0.0..=1.0).contains(&x) {
            return NOTHING;
        }
        let (seen, t) = (seen as f64, seen as f64 + 1.0);
        // Of the values before this one only, with one half and its variance as the prior.
        let (mean, variance) = ((0.5 + sum) / t, (0.25 + squares) / t);
        let bet = (2.0 * lambda / (variance * t * (1.0 + t).ln())).sqrt().min(LARGEST);
        let exponent = -(-bet).ln_1p() - bet;
        (bets, won, cost) = (bets + bet, won + bet * x, cost + (x - mean).powi(2) * exponent);
        sum += x;
        squares += (x - (0.5 + sum) / (seen + 2.0)).powi(2);
    }
    if values.is_empty() {
        return (f64::NAN, Interval::new(from, to));
    }
    let (centre, radius) = (won / bets, (lambda + cost) / bets);
    let unit = |x: f64| from + (to - from) * x.clamp(0.0, 1.0);
    (unit(centre), Interval::new(unit(centre - radius), unit(centre + radius)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::verify::Verdict;

    fn normals(n: usize, mean: f64) -> Vec<f64> {
        Stream::new(1, &[]).normals(n).into_iter().map(|z| mean + 0.1 * z).collect()
    }

    #[test]
    fn every_interval_is_computed_again_from_its_raw_numbers() {
        let values = normals(64, 1.0);
        let near = Interval::within(1.0, 0.2);
        let lines: Vec<_> = values.iter().map(|v| vec![(0.0, 0.0), (1.0, *v), (2.0, 2.0 * v)]).collect();
        let limits = Interval::new(0.0, 2.0);
        let all = [
            Evidence::mean("mean", &values, near, 1e-12),
            Evidence::log_normal("log", &values, near, 1e-9),
            Evidence::catoni("catoni", &values, 0.01, near, 1e-9),
            Evidence::bounded("bounded", &[&values[..]; 20].concat(), limits, near, 1e-3),
            Evidence::pivot("pivot", 10_100.0, 10_000.0, 0.1, 1e-6),
            Evidence::slope("slope", &lines, near, 1e-9),
            Evidence::proportion("share", 990, 1000, near, 1e-6),
            Evidence::exact("count", 1.0, near),
            Evidence::exact("range", 1.0, near).found_in(0.9, 1.1),
        ];
        for evidence in all {
            assert_eq!(evidence.recomputed(), evidence.interval, "{}", evidence.figure);
            assert_eq!(evidence.verdict(), Verdict::Verified, "{evidence:?}");
            assert!(evidence.interval.from <= evidence.found && evidence.found <= evidence.interval.to);
        }
    }

    #[test]
    fn too_few_seeds_or_what_is_no_number_prove_nothing() {
        let near = Interval::within(1.0, 0.2);
        for values in [vec![], vec![1.0], vec![1.0, f64::NAN, 1.0]] {
            assert_eq!(Evidence::mean("mean", &values, near, 1e-9).verdict(), Verdict::Undecided, "{values:?}");
            assert_eq!(Evidence::log_normal("log", &values, near, 1e-9).verdict(), Verdict::Undecided);
            assert_eq!(Evidence::catoni("catoni", &values, 0.1, near, 1e-9).verdict(), Verdict::Undecided);
        }
        assert_eq!(Evidence::log_normal("log", &[1.0, -1.0, 1.0], near, 1e-9).verdict(), Verdict::Undecided);
        assert_eq!(Evidence::slope("slope", &[vec![(1.0, 1.0)]], near, 1e-9).verdict(), Verdict::Undecided);
        let outside = Evidence::bounded("bounded", &[3.0], Interval::new(0.0, 2.0), near, 1e-9);
        assert_eq!(outside.verdict(), Verdict::Undecided);
    }

    #[test]
    fn a_mean_that_rarer_draws_than_there_are_carry_is_not_told() {
        // s^2 = 16: one draw in 3000 carries the mean. Of 200 draws the largest say nothing of it, however narrow a law's interval.
        let draws = |n: usize| Stream::new(3, &[]).normals(2 * n).into_iter().map(|z| (4.0 * z).exp());
        let pairs = |n: usize| -> Vec<(f64, f64)> {
            let values: Vec<f64> = draws(n).collect();
            values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
        };
        let (any, none) = (Interval::around(0.0, 5.0), Interval::at_most(-100.0));
        for accepted in [any, none] {
            let of = |n| Evidence::exponent("exponent", &pairs(n), 4.0, accepted, 1e-9);
            assert_eq!(of(200).verdict(), Verdict::Undecided);
            assert_ne!(of(8000).verdict(), Verdict::Undecided);
        }
        let values: Vec<f64> = draws(100).collect();
        assert_eq!(Evidence::log_normal("mean", &values, none, 1e-9).verdict(), Verdict::Undecided);
        assert!(mean_is_seen(1.0, 2) && !mean_is_seen(16.0, 2900) && mean_is_seen(16.0, 3000));
    }

    #[test]
    fn a_growth_law_is_of_its_own_class_and_of_no_other() {
        type Law = fn(f64) -> f64;
        let laws: [(Growth, Law); 5] = [
            (Growth::Constant, |_| 2.0),
            (Growth::Logarithmic, |n| 3.0 + n.ln()),
            (Growth::SquareRoot, |n| 1.0 + n.sqrt()),
            (Growth::Linear, |n| 50.0 + n),
            (Growth::Exponential, |n| 1.1f64.powf(n)),
        ];
        let noise = normals(32, 0.0);
        for ((law, y), step) in laws.into_iter().flat_map(|law| [(law, 2), (law, 4)]) {
            let depths = [step * step, step, 1].map(|divisor| 32.0 / divisor as f64);
            let ladders: Vec<[f64; 3]> = noise.iter().map(|z| depths.map(|n| y(n) * (1.0 + 0.01 * z))).collect();
            let of = |class| {
                let parts = Evidence::growth("y", &ladders, step, class, 1e-9);
                parts.iter().map(Evidence::verdict).max().unwrap()
            };
            assert_eq!(of(law), Verdict::Verified, "{law:?}");
            let others = laws.iter().filter(|(other, _)| *other != law && *other != Growth::Constant);
            for (other, _) in others {
                assert_eq!(of(*other), Verdict::Refuted, "{law:?} as {other:?}");
            }
        }
    }
}
