//! That the exact law is what networks do, that the closed form errs as one over the width, and how figures spread between draws.

use rayon::prelude::*;

use crate::claims::subjects::replay;
use crate::claims::{About, Claim, Item, LOOKS, Lab, Subject, Tier};
use crate::error::{Error, Result};
use crate::execute::{Measurement, measure};
use crate::fold::Graph;
use crate::predict::predict;
use crate::profile::{Draws, Place, Quantity};
use crate::sample::sample;
use crate::spec::{File, Placement, Setting, Shape};
use crate::verify::{
    Contrast, Equality, Evidence, FIRST_LEVEL, Family, Finding, Interval, Method, SECOND_LEVEL, Verdict, equality,
    generated_shapes, student_quantile,
};
use crate::zoo;

const AGREES: &str = "sampling.figures.agree";
const ERROR_LAW: &str = "sampling.prediction.error_falls_as_one_over_width";
const PLAIN_SPREAD: &str = "sampling.spread.plain_stack_as_depth_over_width";
const PRE_LN_SPREAD: &str = "sampling.spread.pre_ln_constant_in_depth";

pub fn claims() -> Vec<Claim> {
    vec![
        Claim {
            id: AGREES,
            statement: "Figures drawn from the exact law, without weights, have the law of figures of networks with weights, at every site and parameter.",
            source: "normative, sample; after Bayati & Montanari 2011, arXiv:1001.3448, and Yang 2019, arXiv:1910.12478",
            domain: "at initialization with Gaussian or orthogonal weights, tokens fewer than the width and the FFN's width",
            about: About::EveryPlacement,
            expected: Verdict::Verified,
            plan: plan_agreement,
        },
        Claim {
            id: ERROR_LAW,
            statement: "The wide limit of second moments, overlaps and gradients is off by c/d at width d, each figure with its own c.",
            source: "normative, predict; expansion in 1/width as in Hanin & Nica 2020, arXiv:1909.05989; Roberts, Yaida & Hanin 2022",
            domain: "two blocks, four tokens, setting xiong (no ensemble in the closed form), widths from 64",
            about: About::BuiltIn(&FITTED),
            expected: Verdict::Verified,
            plan: plan_error_law,
        },
        Claim {
            id: PLAIN_SPREAD,
            statement: "In a stack without norms or skips the logarithm of the second moment, and of the gradient, has variance N (2/d + 5/n_h).",
            source: "Hanin & Nica 2018, arXiv:1812.05994, Theorem 1",
            domain: "FFNs with ReLU of variance-preserving gain, one token; to leading order in 1/width",
            about: About::Nothing,
            expected: Verdict::Verified,
            plan: |_, lab| Ok(deep(lab).map(|shape| item(PLAIN_SPREAD, shape, plain_spread)).collect()),
        },
        Claim {
            id: PRE_LN_SPREAD,
            statement: "Pre-LN's second moment varies between draws by sum_l [4 q_l v/d + v^2 (2/d + 5/n_h)]/q_N^2, which goes to 2/d whatever the depth.",
            source: "normative, theory of fluctuations; Gaussian terms by Isserlis 1918",
            domain: "FFN sub-layers with ReLU behind RMSNorm without eps, one token",
            about: About::BuiltIn(&["pre-ln"]),
            expected: Verdict::Verified,
            plan: |_, lab| Ok(deep(lab).map(|shape| item(PRE_LN_SPREAD, shape, pre_ln_spread)).collect()),
        },
    ]
}

/// One item of a claim that is about no subject's own shape.
fn item(id: &'static str, shape: Shape, judge: fn(&Lab, Shape) -> Result<Finding>) -> Item {
    let key = format!("{id} @ {} blocks, width {}", shape.blocks, shape.width);
    Item { key, judge: Box::new(move |lab| Ok(vec![judge(lab, shape)?])) }
}

/// Depths and widths of the laws of spread; for every change the shallow one.
fn deep(lab: &Lab) -> impl Iterator<Item = Shape> {
    let all = [(10, 64), (100, 256), (1000, 1024)];
    let count = if lab.tier == Tier::Full { all.len() } else { 1 };
    let shape = |(blocks, width)| Shape { width, blocks, tokens: 1, heads: 1, ffn_width: width, causal: false };
    all.into_iter().take(count).map(shape)
}

// Sampled equals measured.

/// Shapes besides small ones where every change would pay for them.
const SHAPES: [usize; 2] = [1, 4];

/// Draws from the exact law for each network measured: they cost less.
const DRAWS_A_SEED: usize = 4;

/// Fresh draws of the second stage, as a multiple of the first's.
const ESCALATION: usize = 4;

/// One item a shape; the quick one is small.
fn plan_agreement(claim: &Claim, lab: &Lab) -> Result<Vec<Item>> {
    let small = Shape { width: 64, blocks: 2, tokens: 8, heads: 2, ffn_width: 128, causal: true };
    let shapes = generated_shapes(SHAPES[1] - 1, lab.seed).into_iter();
    let shapes = std::iter::once(small).chain(shapes).take(SHAPES[usize::from(lab.tier == Tier::Full)]);
    let item = |(index, shape)| Item {
        key: format!("{} @ shape {index}", claim.id),
        judge: Box::new(move |lab: &Lab| {
            lab.subjects.par_iter().map(|subject| agreement(lab, subject, fixed(subject, shape))).collect()
        }),
    };
    Ok(shapes.enumerate().map(item).collect())
}

/// The shape with what the subject's own settles: heads and the FFN's factor, where they fit.
fn fixed(subject: &Subject, shape: Shape) -> Shape {
    match subject.setting.output_projection {
        true => shape,
        false => Shape { heads: 1, ffn_width: shape.width, ..shape },
    }
}

fn agreement(lab: &Lab, subject: &Subject, shape: Shape) -> Result<Finding> {
    let graph = Graph::new(&subject.placement.at(shape)?, &subject.setting, lab.registry)?;
    let place = |finding: Finding| Finding {
        placement: Some(subject.spec.clone()),
        normalizer: Some(subject.setting.normalizer.clone()),
        setting: Some(subject.setting.name.clone()),
        shape: Some(shape),
        replay: format!("{} --seeds {}", replay(lab, &[&subject.spec], AGREES), lab.seeds),
        ..finding
    };
    let both = |first: usize, seeds: usize| -> Result<(Draws, Draws)> {
        let first_seed = lab.seed.wrapping_add(first as u64);
        let how = Measurement { seeds, first_seed, device: lab.device.clone(), dtype: lab.dtype };
        Ok((sample(&graph, DRAWS_A_SEED * seeds, first_seed)?, measure(&graph, &how)?))
    };
    let seeds = lab.seeds;
    let (sampled, measured) = match both(0, seeds) {
        Err(Error::Refused { reason, .. }) => return Ok(place(Finding::not_applicable(AGREES, reason))),
        other => other?,
    };
    let equality = equality(&sampled, &measured, || both(seeds, ESCALATION * seeds))?;
    Ok(place(finding(&sampled, &equality)))
}

/// How far two draws of one law are apart, root mean square, in its standard deviations: means that agree within it are resolved.
const TWO_DRAWS: f64 = std::f64::consts::SQRT_2;

/// The figures whose laws differ, else of every family the one that is resolved worst: within how much of the standard
/// deviation of a draw the two means agree.
fn finding(sampled: &Draws, equality: &Equality) -> Finding {
    let reach = |c: &Contrast| (c.difference.abs() + c.reach(FIRST_LEVEL)) / c.deviation;
    let widest = |family: Family| {
        let of = equality.contrasts.iter().filter(|c| c.family == family);
        of.max_by(|a, b| reach(a).total_cmp(&reach(b)))
    };
    let evidence = match equality.refuted.is_empty() {
        false => equality.refuted.iter().map(|c| difference(sampled, c, 0.0, SECOND_LEVEL)).collect(),
        true => {
            let widest = Family::ALL.into_iter().filter_map(widest);
            widest.map(|c| difference(sampled, c, TWO_DRAWS * c.deviation, FIRST_LEVEL)).collect()
        }
    };
    Finding::of(AGREES, evidence)
}

fn difference(sampled: &Draws, contrast: &Contrast, margin: f64, level: f64) -> Evidence {
    let Contrast { figure, difference, se, freedom, .. } = *contrast;
    let of = if contrast.family == Family::Overlap { "" } else { "logarithm of " };
    Evidence {
        figure: format!("{of}{}, measured less sampled", sampled.layout.name(figure)),
        stated: Some(0.0),
        accepted: Interval::around(0.0, margin),
        found: difference,
        interval: Interval::around(difference, contrast.reach(level)),
        method: Method::Summary,
        // Both stages must alarm.
        alpha: FIRST_LEVEL * SECOND_LEVEL,
        beta: None,
        sample: freedom as u64 + 1,
        raw: vec![difference, se, freedom + 1.0, level, 0.0],
    }
}

// The error of the wide limit.

/// Widths of the fit; for every change the narrower ones, where the error is far above its scatter.
const WIDTHS: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
const QUICK_WIDTHS: usize = 3;

/// Draws times width, the same at every width, so that all cost the same.
const WORK: usize = 1 << 20;
const FULL_WORK: usize = 1 << 22;

/// Groups of draws that the jackknife leaves out one by one.
const GROUPS: usize = 16;

/// A width that stands for the limit: what is left of c/d is below rounding in every figure that is used.
const LIMIT: usize = 1 << 40;

/// Expansions of expected figures are in whole powers of 1/width: half way to an error that stays, or falls with the square.
const HALF_WAY: f64 = 0.5;

/// Placements of the fit, whose figures share the exponent.
const FITTED: [&str; 3] = ["pre-ln", "post-ln", "peri-ln"];

fn plan_error_law(_: &Claim, _: &Lab) -> Result<Vec<Item>> {
    Ok(vec![Item { key: ERROR_LAW.into(), judge: Box::new(|lab: &Lab| Ok(vec![error_law(lab)?])) }])
}

/// At the first level, where that leaves it open on more draws; what is refuted there is judged again at the second. Every look
/// has fresh draws.
fn error_law(lab: &Lab) -> Result<Finding> {
    let look = |number: u64, times: usize, level: f64| {
        exponent_of_error(lab, lab.seed.wrapping_add(FRESH * number), times, level)
    };
    let mut evidence = look(0, 1, FIRST_LEVEL)?;
    if evidence.verdict() == Verdict::Undecided {
        evidence = look(1, MORE, FIRST_LEVEL)?;
    }
    if evidence.verdict() == Verdict::Refuted {
        evidence = look(2, MORE, SECOND_LEVEL)?;
    }
    Ok(Finding {
        setting: Some("xiong".into()),
        replay: replay(lab, &[], ERROR_LAW),
        ..Finding::of(ERROR_LAW, vec![evidence])
    })
}

/// How many times the draws of the first look a further one has.
const MORE: usize = 4;

/// Beyond every seed of a first stage.
const FRESH: u64 = 1 << 60;

fn exponent_of_error(lab: &Lab, seed: u64, times: usize, level: f64) -> Result<Evidence> {
    let (widths, work) = match lab.tier {
        Tier::Quick => (&WIDTHS[..QUICK_WIDTHS], WORK),
        Tier::Full => (&WIDTHS[..], FULL_WORK),
    };
    let of_placements =
        FITTED.iter().map(|name| errors(lab, seed, name, widths, times * work)).collect::<Result<Vec<_>>>()?;
    let errors: Vec<Vec<Grouped>> =
        (0..widths.len()).map(|i| of_placements.iter().flat_map(|of| of[i].clone()).collect()).collect();
    let widths: Vec<f64> = widths.iter().map(|d| *d as f64).collect();
    let exponent = |left_out: Option<usize>| exponent(&widths, &errors, left_out);
    let found = exponent(None);
    let groups = GROUPS as f64;
    let parts: Vec<f64> = (0..GROUPS).into_par_iter().map(|group| exponent(Some(group))).collect();
    let mean = parts.iter().sum::<f64>() / groups;
    let se = ((groups - 1.0) / groups * parts.iter().map(|p| (p - mean).powi(2)).sum::<f64>()).sqrt();
    Ok(Evidence {
        figure: format!("exponent of the wide limit's error in 1/d, d = {} to {}", widths[0], widths[widths.len() - 1]),
        stated: Some(1.0),
        accepted: Interval::around(1.0, HALF_WAY),
        found,
        interval: Interval::around(found, student_quantile(groups - 1.0, level) * se),
        method: Method::Summary,
        // Two looks may alarm, and one more must agree.
        alpha: 2.0 * FIRST_LEVEL * SECOND_LEVEL,
        beta: None,
        sample: GROUPS as u64,
        raw: vec![found, se, groups, level, 0.0],
    })
}

/// By width and figure, the relative error of the wide limit in every draw.
fn errors(lab: &Lab, seed: u64, name: &str, widths: &[usize], work: usize) -> Result<Vec<Vec<Grouped>>> {
    let placement = zoo::placement(name, &lab.registry.vocabulary())?;
    let graph = |width: usize| {
        let shape = Shape { width, blocks: 2, tokens: 4, heads: 1, ffn_width: width, causal: false };
        Graph::new(&placement.at(shape)?, &Setting::xiong(), lab.registry)
    };
    let limit = predict(&graph(LIMIT)?)?;
    let errors = |width: &usize| -> Result<Vec<Grouped>> {
        let draws = sample(&graph(*width)?, work / width, seed)?;
        let of = |figure: usize| {
            let (place, _) = draws.layout.figures[figure];
            let limit = limit.figures[figure].value.filter(|v| *v != 0.0 && !matches!(place, Place::Parameter(_)))?;
            Some(Grouped::of(draws.rows.iter().map(|row| row[figure] / limit - 1.0)))
        };
        let of = |figure| of(figure).unwrap_or_default();
        Ok((0..draws.layout.figures.len()).map(of).collect())
    };
    widths.iter().map(errors).collect()
}

/// Sums of draws in groups, for the jackknife.
#[derive(Clone, Debug, Default)]
struct Grouped {
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// One over the variance of the mean; 0 for what does not vary.
    weight: f64,
}

impl Grouped {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut sums, mut counts, mut squares) = (vec![0.0; GROUPS], vec![0.0; GROUPS], 0.0);
        for (i, value) in values.enumerate() {
            sums[i % GROUPS] += value;
            counts[i % GROUPS] += 1.0;
            squares += value * value;
        }
        let count: f64 = counts.iter().sum();
        let mean = sums.iter().sum::<f64>() / count;
        let variance = (squares / count - mean * mean) / count;
        // A second moment behind a norm varies by rounding alone.
        let varies = variance.sqrt() > f64::EPSILON.sqrt() * (1.0 + mean.abs());
        Grouped { sums, counts, weight: if varies { 1.0 / variance } else { 0.0 } }
    }

    fn mean(&self, left_out: Option<usize>) -> f64 {
        let sum = |of: &[f64]| of.iter().sum::<f64>() - left_out.map_or(0.0, |group| of[group]);
        if self.weight == 0.0 { 0.0 } else { sum(&self.sums) / sum(&self.counts) }
    }
}

/// The p of least squares of error = c d^-p over all figures, each with its own c.
///
/// Given p each c is linear, and what is explained of the weighted squares is `(sum w x e)^2/(sum w x^2)`, x = d^-p: the
/// largest by golden section, in which it has one maximum over the exponents of interest.
fn exponent(widths: &[f64], errors: &[Vec<Grouped>], left_out: Option<usize>) -> f64 {
    let means: Vec<Vec<f64>> = errors.iter().map(|of| of.iter().map(|g| g.mean(left_out)).collect()).collect();
    let explained = |p: f64| {
        let of = |figure: usize| {
            let (mut along, mut square) = (0.0, 0.0);
            for (i, d) in widths.iter().enumerate() {
                let (w, x) = (errors[i][figure].weight, (d / widths[0]).powf(-p));
                along += w * x * means[i][figure];
                square += w * x * x;
            }
            if square > 0.0 { along * along / square } else { 0.0 }
        };
        (0..errors[0].len()).map(of).sum::<f64>()
    };
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut from, mut to) = (-1.0, 3.0);
    while to - from > f64::EPSILON.sqrt() {
        let (left, right) = (to - golden * (to - from), from + golden * (to - from));
        if explained(left) >= explained(right) { to = right } else { from = left }
    }
    (from + to) / 2.0
}

// The spread between draws.

/// The variance of so many draws is known within a third at the level of the two stages together.
const SPREAD_DRAWS: usize = 1600;

/// Between the law and none at all: half of it. Next orders in 1/width are below that from width 64.
const HALF: f64 = 0.5;

fn sampled(lab: &Lab, text: &str, shape: Shape) -> Result<Draws> {
    let placement = Placement::new(File::parse("claim.toml", text)?, &lab.registry.vocabulary())?;
    let draws = lab.draws(SPREAD_DRAWS, SPREAD_DRAWS);
    sample(&Graph::new(&placement.at(shape)?, &placement.overrides.setting()?, lab.registry)?, draws, lab.seed)
}

/// One figure over the draws.
fn column(draws: &Draws, place: Place, quantity: Quantity) -> Vec<f64> {
    let figure = draws.layout.figures.iter().position(|f| *f == (place, quantity)).unwrap_or(0);
    draws.rows.iter().map(|row| row[figure]).collect()
}

fn plain_spread(lab: &Lab, shape: Shape) -> Result<Finding> {
    let text = "name = \"plain\"\nlayer = \"x = ffn(x)\"\ninit = { w_1 = \"sqrt(2)\" }";
    let draws = sampled(lab, text, shape)?;
    let stated = shape.blocks as f64 * (2.0 / shape.width as f64 + 5.0 / shape.ffn_width as f64);
    let logarithms = |place, quantity| column(&draws, place, quantity).iter().map(|v| v.ln()).collect::<Vec<f64>>();
    Ok(spread(
        lab,
        PLAIN_SPREAD,
        shape,
        vec![
            variance("variance of ln q_N over the law", &logarithms(Place::Output, Quantity::SecondMoment), stated),
            variance("variance of ln |g_0|^2 over the law", &logarithms(Place::Input, Quantity::Gradient), stated),
        ],
    ))
}

fn pre_ln_spread(lab: &Lab, shape: Shape) -> Result<Finding> {
    let text = "name = \"pre-ffn\"\nlayer = \"x = x + ffn(norm(x))\"\n[setting]\nnormalizer = \"rms_norm\"\neps = 0.0";
    let draws = sampled(lab, text, shape)?;
    let (d, n_h, v) = (shape.width as f64, shape.ffn_width as f64, 0.5);
    let q = |l: usize| 1.0 + v * l as f64;
    let added = |l| 4.0 * q(l) * v / d + v * v * (2.0 / d + 5.0 / n_h);
    let last = q(shape.blocks);
    let stated = ((0..shape.blocks).map(added).sum::<f64>() + 2.0 / d) / (last * last);
    let values = column(&draws, Place::Output, Quantity::SecondMoment);
    let relative: Vec<f64> = values.iter().map(|value| value / last).collect();
    Ok(spread(lab, PRE_LN_SPREAD, shape, vec![variance("relative variance of q_N over the law", &relative, stated)]))
}

fn spread(lab: &Lab, id: &str, shape: Shape, evidence: Vec<Evidence>) -> Finding {
    Finding { shape: Some(shape), replay: replay(lab, &[], id), ..Finding::of(id, evidence) }
}

/// The variance of values in units of the one stated.
fn variance(figure: &str, values: &[f64], stated: f64) -> Evidence {
    let freedom = values.len() as f64 - 1.0;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let statistic = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / stated;
    Evidence::pivot(figure, statistic, freedom, HALF, FIRST_LEVEL * SECOND_LEVEL / LOOKS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Drawn, Ffn, Matrices, Op, Parameter, Parameters, Registry, Response, Role, Rows, Site};
    use candle_core::Tensor;

    fn subject(spec: &str, registry: &Registry) -> Subject {
        let placement = zoo::placement(spec, &registry.vocabulary()).unwrap();
        let (setting, shape) = (placement.overrides.setting().unwrap(), deep_shape());
        Subject { spec: spec.into(), placement, setting, shape, generated: Vec::new() }
    }

    fn deep_shape() -> Shape {
        Shape { width: 64, blocks: 2, tokens: 4, heads: 1, ffn_width: 64, causal: false }
    }

    fn findings(claim: &str, subjects: &[Subject], registry: &Registry) -> Vec<Finding> {
        let lab = Lab { seed: 7, seeds: 48, seeds_per_shape: 32, ..Lab::quick(registry, subjects) };
        let claim = claims().into_iter().find(|c| c.id == claim).unwrap();
        let items = (claim.plan)(&claim, &lab).unwrap();
        items.iter().flat_map(|item| item.judged(&lab).unwrap()).collect()
    }

    #[test]
    fn every_claim_about_sampling_holds_in_the_quick_tier() {
        let registry = Registry::builtin();
        let subjects = ["pre-ln", "post-ln", "rezero"].map(|spec| subject(spec, &registry));
        for claim in claims() {
            let findings = findings(claim.id, &subjects, &registry);
            assert!(!findings.is_empty(), "{}", claim.id);
            for finding in findings {
                assert_eq!(finding.verdict, claim.expected, "{finding:?}");
            }
        }
    }

    /// Draws in groups of a figure that is off by `error(d)`, with the scatter of a real one.
    fn planted(error: impl Fn(f64) -> f64) -> f64 {
        let widths = [64.0, 128.0, 256.0, 512.0];
        let mut stream = crate::random::Stream::new(1, &[]);
        let mut figure = |d: f64| Grouped::of(stream.normals(4096).into_iter().map(|z| error(d) + 0.1 * z / d.sqrt()));
        let errors: Vec<Vec<Grouped>> = widths.iter().map(|d| vec![figure(*d)]).collect();
        exponent(&widths, &errors, None)
    }

    #[test]
    fn an_error_that_stays_or_falls_with_the_square_of_the_width_is_told_apart() {
        assert!((planted(|d| 3.0 / d) - 1.0).abs() < HALF_WAY);
        for wrong in [planted(|_| 0.02), planted(|d| 200.0 / (d * d))] {
            assert!((wrong - 1.0).abs() > HALF_WAY, "{wrong}");
        }
    }

    /// An FFN that is half as loud again as its sampling rule says.
    #[derive(Debug)]
    struct Louder;

    impl Response for Louder {
        fn name(&self) -> &str {
            Ffn.name()
        }

        fn role(&self) -> Role {
            Ffn.role()
        }

        fn parameters(&self, at: &Site) -> Vec<Parameter> {
            Ffn.parameters(at)
        }

        fn draw(&self, at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
            Ffn.draw(at, input, matrices)
        }
    }

    impl Op for Louder {
        fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
            (Ffn.forward(at, parameters, x)? * 1.5).map_err(Error::at("planted"))
        }
    }

    #[test]
    fn a_network_that_is_not_what_its_sampling_rule_says_is_refuted() {
        let registry = Registry::builtin().with(Louder);
        assert_eq!(findings(AGREES, &[subject("pre-ln", &registry)], &registry)[0].verdict, Verdict::Refuted);
    }

    #[test]
    fn a_law_of_another_variance_is_refuted_and_a_refused_one_does_not_apply() {
        let registry = Registry::builtin();
        let mut one = subject("pre-ln", &registry);
        one.setting.init = crate::spec::InitLaw::Uniform;
        assert_eq!(findings(AGREES, &[one], &registry)[0].verdict, Verdict::NotApplicable);
        let values: Vec<f64> = crate::random::Stream::new(2, &[]).normals(SPREAD_DRAWS);
        assert_eq!(variance("its own", &values, 1.0).verdict(), Verdict::Verified);
        assert_eq!(variance("of twice", &values, 4.0).verdict(), Verdict::Refuted);
    }
}
