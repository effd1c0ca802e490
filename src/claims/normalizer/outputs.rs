//! Outputs of normalizers: lengths, invariances, and which normalizers are one.

use candle_core::{D, Device, Tensor};

use crate::claims::exact::{Both, bounded, equal, unequal};
use crate::claims::normalizer::{ROUNDINGS, Subject, WIDTH, both, centred, cotangent, placed, rms, rows};
use crate::claims::subjects::once;
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
use crate::verify::{Evidence, Interval, Verdict};

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, plan| Claim {
        id,
        statement,
        source,
        domain: "every input; initial parameters, eps = 0 unless said",
        about: About::Nothing,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "normalizer.output.layer_norm_length",
            "|LN(x)|^2 = d s^2/(s^2 + eps).",
            "zoo C1, D1; Brody, Alon & Yahav 2023, arXiv:2305.02582",
            |claim, _| once(claim, |lab, _| length(lab)),
        ),
        claim(
            "normalizer.output.layer_norm_largest_entry",
            "No entry of LN(x) exceeds sqrt(d - 1), and an input of one coordinate reaches it.",
            "zoo D13b",
            |claim, _| once(claim, |lab, _| largest_entry(lab)),
        ),
        claim(
            "normalizer.invariance.layer_norm_shift_and_scale",
            "LN(c x + b) = LN(x) for c > 0.",
            "Ba, Kiros & Hinton 2016, arXiv:1607.06450; zoo C1",
            |claim, _| once(claim, |lab, _| invariance(lab, "layer_norm", true)),
        ),
        claim(
            "normalizer.invariance.rms_norm_scale_alone",
            "RMSNorm(c x) = RMSNorm(x) for c > 0, but RMSNorm(x + b) is not RMSNorm(x).",
            "Zhang & Sennrich 2019, arXiv:1910.07467; zoo C2",
            |claim, _| once(claim, |lab, _| invariance(lab, "rms_norm", false)),
        ),
        claim(
            "normalizer.equality.rms_norm_of_centred_is_layer_norm",
            "RMSNorm(x - mean) = LN(x).",
            "Zhang & Sennrich 2019, arXiv:1910.07467; zoo C2",
            |claim, _| once(claim, |lab, _| same(lab, "rms_norm", true, "layer_norm", 1.0)),
        ),
        claim(
            "normalizer.equality.scale_norm_is_rms_norm",
            "ScaleNorm with its one gain at sqrt(d) is RMSNorm.",
            "Nguyen & Salazar 2019, arXiv:1910.05895; zoo C4",
            |claim, _| once(claim, |lab, _| same(lab, "scale_norm", false, "rms_norm", 1.0)),
        ),
        claim(
            "normalizer.equality.l2_norm_is_rms_norm_over_root_d",
            "The unit sphere's projection is RMSNorm over sqrt(d).",
            "zoo C5; Loshchilov et al. 2024, arXiv:2410.01131",
            |claim, _| once(claim, |lab, _| same(lab, "l2_norm", false, "rms_norm", (WIDTH as f64).sqrt())),
        ),
        claim(
            "normalizer.equality.gemma_norm_starts_as_rms_norm",
            "The gain 1 + w with w = 0 is RMSNorm at gain 1.",
            "Gemma 2, arXiv:2408.00118; zoo C15",
            |claim, _| once(claim, |lab, _| same(lab, "gemma_norm", false, "rms_norm", 1.0)),
        ),
        claim(
            "normalizer.equality.crms_norm",
            "CRMSNorm of d - 1 coordinates is LN of the d that sum to zero.",
            "Jiang et al. 2023, arXiv:2305.14858; zoo C7",
            |claim, _| once(claim, |lab, _| compressed(lab)),
        ),
        claim("normalizer.equality.layer_norm_idempotent", "LN(LN(x)) = LN(x).", "zoo B.4.13", |claim, _| {
            once(claim, |lab, _| idempotent(lab))
        }),
        claim(
            "normalizer.convention.sample_variance",
            "The Annotated Transformer's norm, over the sample standard deviation, is sqrt((d - 1)/d) times LN.",
            "zoo C.1",
            |claim, _| once(claim, |lab, _| sample_variance(lab)),
        ),
        claim(
            "normalizer.convention.eps_outside_the_root",
            "eps inside the root and eps outside are different functions.",
            "zoo C.1; bzhangGo/rmsnorm against torch.nn.RMSNorm",
            |claim, _| once(claim, |lab, _| eps_outside(lab)),
        ),
        claim(
            "normalizer.bound.dyt",
            "DyT is bounded by |gain| + |bias| and its slope by |alpha gain|.",
            "Zhu et al. 2025, arXiv:2503.10622; zoo C8",
            |claim, _| once(claim, |lab, _| elementwise(lab, "dyt", 0.5)),
        ),
        claim(
            "normalizer.bound.derf",
            "Derf is bounded by |gain| + |bias| and its slope by 2 |alpha gain|/sqrt(pi).",
            "Chen et al. 2025, arXiv:2512.10938; zoo C9",
            |claim, _| once(claim, |lab, _| elementwise(lab, "derf", 0.5 * std::f64::consts::FRAC_2_SQRT_PI)),
        ),
        claim(
            "normalizer.bound.qk_norm_scores",
            "With RMSNorm on queries and keys no score exceeds sqrt(d_k), however large they were.",
            "Henry et al. 2020, arXiv:2010.04245; zoo C11, D13",
            |claim, _| once(claim, |lab, _| scores(lab)),
        ),
    ]
}

fn applied(lab: &Lab, name: &str, eps: f64, x: &Tensor) -> Result<Both> {
    let subject = Subject::new(lab, name, eps)?;
    Both::of(&[x], |t| subject.apply(&t[0]))
}

fn length(lab: &Lab) -> Result<Vec<Evidence>> {
    let x = rows(lab)?;
    [0.0, 0.25]
        .into_iter()
        .map(|eps| {
            let found = applied(lab, "layer_norm", eps, &x)?.of_rows(WIDTH, |y| y.iter().map(|v| v * v).sum());
            let expected = both(&[&x], |t| {
                let variance = centred(&t[0])?.sqr()?.mean_keepdim(D::Minus1)?;
                (variance.div(&(&variance + eps)?)? * WIDTH as f64)?.flatten_all()
            })?;
            Ok(equal(format!("|LN(x)|^2, eps {eps}"), &found, &expected, ROUNDINGS))
        })
        .collect()
}

fn largest_entry(lab: &Lab) -> Result<Vec<Evidence>> {
    let limit = (WIDTH as f64 - 1.0).sqrt();
    let one_hot = || {
        let mut values = vec![0.0; WIDTH];
        values[3] = 7.0;
        Tensor::from_vec(values, (1, 1, WIDTH), &Device::Cpu)
    };
    let reached = applied(lab, "layer_norm", 0.0, &placed(one_hot())?)?;
    Ok(vec![
        bounded("largest entry of LN of random rows", &applied(lab, "layer_norm", 0.0, &rows(lab)?)?, limit, ROUNDINGS),
        Evidence::exact(
            "largest entry of LN of one coordinate",
            reached.largest(),
            Interval::around(limit, reached.reach(ROUNDINGS)),
        )
        .stating(limit),
    ])
}

fn invariance(lab: &Lab, name: &str, shift: bool) -> Result<Vec<Evidence>> {
    let (x, plain) = (rows(lab)?, applied(lab, name, 0.0, &rows(lab)?)?);
    let scaled = applied(lab, name, 0.0, &placed(&x * 3.7)?)?;
    let shifted = applied(lab, name, 0.0, &placed(&x + 1.3)?)?;
    let moved = if shift { equal } else { unequal };
    Ok(vec![
        equal("x times 3.7", &scaled, &plain, ROUNDINGS),
        moved("x plus 1.3".to_owned(), &shifted, &plain, ROUNDINGS),
    ])
}

/// `left`, of centred input if `centre`, times `factor` is `right`, forward and back.
fn same(lab: &Lab, left: &str, centre: bool, right: &str, factor: f64) -> Result<Vec<Evidence>> {
    let (x, g) = (rows(lab)?, cotangent(lab)?);
    let input = |t: &Tensor| if centre { placed(centred(t)) } else { Ok(t.clone()) };
    let (one, other) = (Subject::new(lab, left, 0.0)?, Subject::new(lab, right, 0.0)?);
    let forward = Both::of(&[&x], |t| one.apply(&input(&t[0])?))?.times(factor);
    let back = Both::of(&[&x, &g], |t| input(&one.transposed(&input(&t[0])?, &t[1])?))?.times(factor);
    let expected = Both::of(&[&x, &g], |t| other.transposed(&t[0], &t[1]))?;
    Ok(vec![
        equal("output", &forward, &Both::of(&[&x], |t| other.apply(&t[0]))?, ROUNDINGS),
        equal("gradient", &back, &expected, ROUNDINGS),
    ])
}

fn compressed(lab: &Lab) -> Result<Vec<Evidence>> {
    let x = placed(rows(lab)?.narrow(2, 0, WIDTH - 1).and_then(|t| t.contiguous()))?;
    let subject = Subject::new(lab, "layer_norm", 0.0)?;
    let whole = |t: &Tensor| Tensor::cat(&[t, &t.sum_keepdim(D::Minus1)?.neg()?], 2);
    let found = Both::of(&[&x], |t| placed(subject.apply(&placed(whole(&t[0]))?)?.narrow(2, 0, WIDTH - 1)))?;
    let expected = both(&[&x], |t| {
        let squares = (t[0].sqr()?.sum_keepdim(D::Minus1)? + t[0].sum_keepdim(D::Minus1)?.sqr()?)?;
        t[0].broadcast_div(&(squares / WIDTH as f64)?.sqrt()?)
    })?;
    Ok(vec![equal("LN of (x, -sum x) against CRMSNorm(x)", &found, &expected, ROUNDINGS)])
}

fn idempotent(lab: &Lab) -> Result<Vec<Evidence>> {
    let x = rows(lab)?;
    let subject = Subject::new(lab, "layer_norm", 0.0)?;
    let twice = Both::of(&[&x], |t| subject.apply(&subject.apply(&t[0])?))?;
    Ok(vec![equal("LN(LN(x)) against LN(x)", &twice, &applied(lab, "layer_norm", 0.0, &x)?, ROUNDINGS)])
}

fn sample_variance(lab: &Lab) -> Result<Vec<Evidence>> {
    let x = rows(lab)?;
    let annotated = both(&[&x], |t| {
        let c = centred(&t[0])?;
        c.broadcast_div(&(c.sqr()?.sum_keepdim(D::Minus1)? / (WIDTH as f64 - 1.0))?.sqrt()?)
    })?;
    let factor = ((WIDTH as f64 - 1.0) / WIDTH as f64).sqrt();
    let population = applied(lab, "layer_norm", 0.0, &x)?;
    Ok(vec![equal("against sqrt((d - 1)/d) LN(x)", &annotated, &population.times(factor), ROUNDINGS)])
}

fn eps_outside(lab: &Lab) -> Result<Vec<Evidence>> {
    const EPS: f64 = 0.25;
    let x = rows(lab)?;
    let outside = both(&[&x], |t| t[0].broadcast_div(&(rms(&t[0])? + EPS)?))?;
    let inside = both(&[&x], |t| t[0].broadcast_div(&(t[0].sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?))?;
    let ours = applied(lab, "rms_norm", EPS, &x)?;
    Ok(vec![
        unequal("eps outside against the op", &outside, &ours, ROUNDINGS),
        equal("eps inside against the op", &inside, &ours, ROUNDINGS),
    ])
}

fn elementwise(lab: &Lab, name: &str, slope: f64) -> Result<Vec<Evidence>> {
    let x = rows(lab)?;
    let subject = Subject::new(lab, name, 0.0)?;
    // The Jacobian is diagonal, so that what ones become are the slopes.
    let slopes = Both::of(&[&x], |t| subject.transposed(&t[0], &placed(t[0].ones_like())?))?;
    let at_zero = Both::of(&[&x], |t| {
        let zero = placed(t[0].zeros_like())?;
        subject.transposed(&zero, &placed(t[0].ones_like())?)
    })?;
    Ok(vec![
        bounded("largest output", &applied(lab, name, 0.0, &x)?, 1.0, ROUNDINGS),
        bounded("largest slope", &slopes, slope, ROUNDINGS),
        equal("slope at 0", &at_zero, &at_zero.map(|_| slope), ROUNDINGS),
    ])
}

fn scores(lab: &Lab) -> Result<Vec<Evidence>> {
    let subject = Subject::new(lab, "rms_norm", 0.0)?;
    let keys = placed(rows(lab)? * 1e6)?;
    let queries = placed(keys.neg())?;
    let found = Both::of(&[&queries, &keys], |t| {
        let (q, k) = (subject.apply(&t[0])?, subject.apply(&t[1])?);
        let product = k.transpose(1, 2).and_then(|k| q.matmul(&k.contiguous()?));
        placed(product.and_then(|s| s / (WIDTH as f64).sqrt()))
    })?;
    Ok(vec![bounded("largest score of keys a million times as long", &found, (WIDTH as f64).sqrt(), ROUNDINGS)])
}
