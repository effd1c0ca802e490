//! Jacobians of LayerNorm and RMSNorm.

use candle_core::{D, Device, Tensor};

use crate::claims::exact::{Both, equal};
use crate::claims::normalizer::{
    ROUNDINGS, Subject, WIDTH, both, centred, cotangent, from_what, placed, products, rms, rows,
};
use crate::claims::subjects::{once, refuted};
use crate::claims::{About, Claim, Lab};
use crate::error::Result;
use crate::verify::{Evidence, Interval, Verdict};

const XIONG_D: &str = "Xiong et al. 2020, arXiv:2002.04745, appendix D; zoo C1, D3";

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, plan| Claim {
        id,
        statement,
        source,
        domain: "every input with more than two coordinates; gain 1, bias 0, eps = 0 unless said",
        about: About::Nothing,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            "normalizer.jacobian.layer_norm_formula",
            "J = (1/s)(I - 1 1^T/d - y y^T/d), y the normalized vector, s the standard deviation.",
            XIONG_D,
            |claim, _| once(claim, |lab, _| formula(lab, "layer_norm", true)),
        ),
        claim(
            "normalizer.jacobian.rms_norm_formula",
            "RMSNorm's J = (1/r)(I - y y^T/d), r the root mean square.",
            "Zhang & Sennrich 2019, arXiv:1910.07467; zoo C2",
            |claim, _| once(claim, |lab, _| formula(lab, "rms_norm", false)),
        ),
        claim(
            "normalizer.jacobian.layer_norm_projects",
            "LayerNorm's Jacobian is 1/s times an orthogonal projection of rank d - 2: its singular values are 0, 0 and d - 2 times 1/s.",
            XIONG_D,
            |claim, _| once(claim, |lab, _| projection(lab, "layer_norm", true)),
        ),
        claim(
            "normalizer.jacobian.rms_norm_projects",
            "RMSNorm's Jacobian is sqrt(d)/|x| times an orthogonal projection of rank d - 1: its norm is sqrt(d)/|x| exactly.",
            "zoo C2, D4",
            |claim, _| once(claim, |lab, _| projection(lab, "rms_norm", false)),
        ),
        Claim {
            expected: Verdict::Refuted,
            ..claim(
                "normalizer.jacobian.lemma_3_for_every_input",
                "|J_LN(x)| = O(sqrt(d)/|x|) for every x.",
                "Xiong et al. 2020, arXiv:2002.04745, Lemma 3 as printed",
                |claim, _| {
                    refuted(
                        claim,
                        |lab, _| lemma_3(lab),
                        |_| {
                            "the norm is sqrt(d)/|x - mean|, which exceeds sqrt(d)/|x| without bound as the mean of x grows; \
                         the lemma holds for inputs without a mean, and for RMSNorm"
                            .into()
                        },
                    )
                },
            )
        },
        claim(
            "normalizer.gradient.layer_norm_tangential",
            "What LayerNorm passes back is orthogonal to the centred input and to the constant vector.",
            "zoo D5; Xiong et al. 2020, arXiv:2002.04745, appendix D",
            |claim, _| once(claim, |lab, _| tangential(lab, "layer_norm", true)),
        ),
        claim(
            "normalizer.gradient.rms_norm_tangential",
            "What RMSNorm passes back is orthogonal to the input.",
            "zoo D5",
            |claim, _| once(claim, |lab, _| tangential(lab, "rms_norm", false)),
        ),
        claim(
            "normalizer.jacobian.eps_lets_the_scale_through",
            "With eps, J (x - mean) = eps/(s^2 + eps) y: the input's own direction is damped, not cut.",
            "zoo C1",
            |claim, _| once(claim, |lab, _| own_direction(lab)),
        ),
    ]
}

/// The input that the normalizer's scale is of.
fn scaled_part(x: &Tensor, without_mean: bool) -> candle_core::Result<Tensor> {
    if without_mean { centred(x) } else { Ok(x.clone()) }
}

fn formula(lab: &Lab, name: &str, without_mean: bool) -> Result<Vec<Evidence>> {
    let subject = Subject::new(lab, name, 0.0)?;
    let (x, g) = (rows(lab)?, cotangent(lab)?);
    let found = Both::of(&[&x, &g], |t| subject.transposed(&t[0], &t[1]))?;
    let expected = both(&[&x, &g], |t| {
        let part = scaled_part(&t[0], without_mean)?;
        let s = rms(&part)?;
        let y = part.broadcast_div(&s)?;
        let along = (products(&t[1], &y)? / WIDTH as f64)?;
        let rest = (scaled_part(&t[1], without_mean)? - y.broadcast_mul(&along)?)?;
        rest.broadcast_div(&s)
    })?;
    Ok(vec![equal("J^T g against the formula", &found, &expected, ROUNDINGS)])
}

fn projection(lab: &Lab, name: &str, without_mean: bool) -> Result<Vec<Evidence>> {
    let subject = Subject::new(lab, name, 0.0)?;
    let x = rows(lab)?;
    let scaled = |t: &Tensor| -> Result<Tensor> {
        let part = placed(scaled_part(&t.narrow(1, 0, 1).map_err(crate::error::Error::at("a row"))?, without_mean))?;
        let s = placed(rms(&part))?;
        placed(subject.jacobian(t)?.broadcast_mul(&s).and_then(|j| j.squeeze(0)))
    };
    let matrix = Both::of(&[&x], |t| scaled(&t[0]))?;
    let square = Both::of(&[&x], |t| {
        let p = scaled(&t[0])?;
        placed(p.matmul(&p))
    })?;
    let transposed = Both::of(&[&x], |t| placed(scaled(&t[0])?.t().and_then(|p| p.contiguous())))?;
    let trace = Both::of(&[&x], |t| {
        let p = scaled(&t[0])?;
        let diagonal = Tensor::eye(WIDTH, p.dtype(), &Device::Cpu).and_then(|eye| (&p * eye)?.sum_all()?.reshape(1));
        placed(diagonal)
    })?;
    let rank = WIDTH as f64 - if without_mean { 2.0 } else { 1.0 };
    let n = ROUNDINGS * WIDTH as f64;
    Ok(vec![
        equal("(sJ)^2 against sJ", &square, &matrix, n),
        equal("(sJ)^T against sJ", &transposed, &matrix, n),
        equal("trace of sJ against its rank", &trace, &trace.map(|_| rank), n),
    ])
}

/// The largest singular value of 1/s times a projection is that of any vector it keeps; here by the Frobenius norm, which
/// is sqrt(d - 2)/s.
fn lemma_3(lab: &Lab) -> Result<Vec<Evidence>> {
    let subject = Subject::new(lab, "layer_norm", 0.0)?;
    let x = rows(lab)?;
    let ratio = |mean: f64| -> Result<f64> {
        let moved = placed(centred(&x).and_then(|c| c.broadcast_div(&rms(&c)?)? + mean))?;
        let j = subject.jacobian(&moved)?;
        let value = |t: candle_core::Result<Tensor>| -> Result<f64> {
            placed(t)?.to_scalar::<f64>().map_err(crate::error::Error::at("a norm"))
        };
        let norm = value(j.sqr().and_then(|s| s.sum_all()))?.sqrt() / (WIDTH as f64 - 2.0).sqrt();
        let length = value(moved.narrow(1, 0, 1).and_then(|r| r.sqr()?.sum_all()))?.sqrt();
        Ok(norm * length / (WIDTH as f64).sqrt())
    };
    let (near, far) = (ratio(16.0)?, ratio(256.0)?);
    let exponent = (far / near).ln() / 16f64.ln();
    // A bounded ratio has exponent 0; halfway to proportional is the boundary.
    let bounded = Interval::new(-0.5, 0.5);
    Ok(vec![Evidence::exact("exponent of |J| |x|/sqrt(d) in the mean of x", exponent, bounded).stating(0.0)])
}

fn tangential(lab: &Lab, name: &str, without_mean: bool) -> Result<Vec<Evidence>> {
    let subject = Subject::new(lab, name, 0.0)?;
    let (x, g) = (rows(lab)?, cotangent(lab)?);
    let part = placed(scaled_part(&x, without_mean))?;
    let back = subject.transposed(&x, &g)?;
    let against = |direction: &Tensor, figure: &str| -> Result<Evidence> {
        let along = both(&[direction], |t| products(&t[0], &back.to_dtype(t[0].dtype())?))?;
        let bound = ROUNDINGS * f64::EPSILON * from_what(direction, &back)?.max(f64::MIN_POSITIVE);
        Ok(Evidence::rounding(figure, along.largest(), bound))
    };
    let mut evidence = vec![against(&part, "<J^T g, x - mean>")?];
    if without_mean {
        let ones = placed(x.ones_like())?;
        evidence.push(against(&ones, "<J^T g, 1>")?);
    } else {
        evidence[0].figure = "<J^T g, x>".into();
    }
    Ok(evidence)
}

fn own_direction(lab: &Lab) -> Result<Vec<Evidence>> {
    const EPS: f64 = 0.25;
    let subject = Subject::new(lab, "layer_norm", EPS)?;
    let x = rows(lab)?;
    // J is symmetric at gain 1, so the transposed one serves.
    let found = Both::of(&[&x], |t| subject.transposed(&t[0], &placed(centred(&t[0]))?))?;
    let expected = both(&[&x], |t| {
        let c = centred(&t[0])?;
        let total = (c.sqr()?.mean_keepdim(D::Minus1)? + EPS)?;
        let y = c.broadcast_div(&total.sqrt()?)?;
        y.broadcast_mul(&(total.recip()? * EPS)?)
    })?;
    Ok(vec![equal("J (x - mean) against eps/(s^2 + eps) y", &found, &expected, ROUNDINGS)])
}
