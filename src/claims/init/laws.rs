//! The init laws by name: what each is said to be, on matrices as the suite draws them.

use candle_core::{DType, Device};

use crate::claims::init::FIRST_SEED;
use crate::claims::subjects::replay;
use crate::claims::{About, Claim, Item, Lab};
use crate::error::{Error, Result};
use crate::execute::Weights;
use crate::fold::Graph;
use crate::op::{Initial, Registry};
use crate::profile::Layout;
use crate::spec::{File, InitLaw, Placement, Setting, Shape};
use crate::verify::{Evidence, Finding, Interval, Verdict, entries, places, squares};

const UNIFORM: &str = "init.law.uniform";
const TRUNCATED: &str = "init.law.truncated_normal";
const ORTHOGONAL: &str = "init.law.orthogonal";

/// Seeds on which a law is judged: 2 million entries.
const SEEDS: usize = 8;

pub fn claims() -> Vec<Claim> {
    let claim = |id, statement, source, plan| Claim {
        id,
        statement,
        source,
        domain: "matrices of an FFN and an attention, width 128",
        about: About::Nothing,
        expected: Verdict::Verified,
        plan,
    };
    vec![
        claim(
            UNIFORM,
            "Uniform weights lie within sqrt(3/fan_in), not sqrt(1/fan_in), and so have variance 1/fan_in.",
            "He et al. 2015, arXiv:1502.01852, section 2.2; variance a^2/3 of U(-a, a)",
            |_, _| Ok(item(UNIFORM, InitLaw::Uniform)),
        ),
        claim(
            TRUNCATED,
            "A normal cut at two standard deviations has 0.880 of its standard deviation left; rescaled, its variance is 1/fan_in.",
            "Johnson and Kotz 1970, chapter 13.7: variance 1 - 2 c phi(c)/(2 Phi(c) - 1) at c = 2",
            |_, _| Ok(item(TRUNCATED, InitLaw::TruncatedNormal)),
        ),
        claim(
            ORTHOGONAL,
            "Orthogonal weights have orthonormal rows or columns, up to one factor: lengths are kept exactly.",
            "Saxe et al. 2014, arXiv:1312.6120, section 3; Mezzadri 2007, arXiv:math-ph/0609050",
            |_, _| Ok(item(ORTHOGONAL, InitLaw::Orthogonal)),
        ),
    ]
}

fn item(id: &'static str, law: InitLaw) -> Vec<Item> {
    vec![Item { key: id.into(), judge: Box::new(move |lab: &Lab| judge(id, law, lab)) }]
}

/// The network whose matrices are drawn: one block with every kind of matrix.
fn graph(law: InitLaw) -> Result<Graph> {
    let registry = Registry::builtin();
    let text = "name = \"matrices\"\nlayer = \"x = x + attn(x) + ffn(x)\"";
    let placement = Placement::new(File::parse("matrices", text)?, &registry.vocabulary())?;
    let shape = Shape { width: 128, blocks: 1, tokens: 4, heads: 4, ffn_width: 512, causal: false };
    Graph::new(&placement.at(shape)?, &Setting { init: law, ..Setting::standard() }, &registry)
}

fn judge(id: &'static str, law: InitLaw, lab: &Lab) -> Result<Vec<Finding>> {
    let graph = graph(law)?;
    let points = Layout::new(&graph).parameters;
    let mut variances = Vec::new();
    let (mut farthest, mut gram) = (0f64, 0f64);
    for seed in 0..lab.draws(SEEDS, SEEDS) as u64 {
        let mut weights = Weights::new(lab.seed.wrapping_add(FIRST_SEED + 2_000_000 + seed));
        let parameters = weights.of(&graph, &Device::Cpu, DType::F64)?;
        variances.extend(entries(&graph, &parameters, squares)?);
        for point in &points {
            let (Initial::Weight { .. }, Some((_, w))) =
                (point.parameter.initial, parameters[point.call].iter().nth(point.order))
            else {
                continue;
            };
            let (rows, columns) = (point.parameter.shape[0], point.parameter.shape[1]);
            let measure = || {
                let unit = (w * (rows as f64).sqrt())?;
                let off = match law {
                    // The shorter side's products: a multiple of the identity.
                    InitLaw::Orthogonal => {
                        let gram = if rows <= columns { w.matmul(&w.t()?)? } else { w.t()?.matmul(w)? };
                        let square = rows.max(columns) as f64 / rows as f64;
                        let wanted = candle_core::Tensor::eye(rows.min(columns), DType::F64, &Device::Cpu)?;
                        (gram - (wanted * square)?)?.abs()?.max_all()?.to_scalar::<f64>()?
                    }
                    _ => 0.0,
                };
                Ok((unit.abs()?.max_all()?.to_scalar::<f64>()?, off))
            };
            let (largest, off) = measure().map_err(Error::at(&point.path))?;
            (farthest, gram) = (farthest.max(largest), gram.max(off));
        }
    }
    let claims = claims();
    let claim = claims.iter().find(|claim| claim.id == id).expect("the item was planned by a claim of this file");
    // So many entries come nearer to the end of their range than this, but for a probability below alpha.
    let entries_seen: f64 = variances.iter().map(|pivot| pivot.degrees).sum();
    let alpha = claim.alpha(2);
    let near = |end: f64, density: f64| {
        let gap = (1.0 / alpha).ln() / (entries_seen * density);
        Interval::new(end - gap, end * (1.0 + 2.0 * f64::EPSILON))
    };
    let mut evidence = places(&variances, alpha);
    match law {
        InitLaw::Uniform => {
            let end = 3f64.sqrt();
            // Both ends of a density 1/(2 sqrt 3).
            let figure = "largest |w| sqrt(fan_in)";
            evidence.push(Evidence::exact(figure, farthest, near(end, 1.0 / end)).stating(end));
        }
        InitLaw::TruncatedNormal => {
            let density = (-2f64).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let deviation = (1.0 - 4.0 * density / libm::erf(2f64.sqrt())).sqrt();
            let end = 2.0 / deviation;
            let figure = "largest |w| sqrt(fan_in)";
            evidence.push(Evidence::exact(figure, farthest, near(end, 2.0 * density * deviation)).stating(end));
        }
        _ => {
            // Householder's QR of (n, m): a few n sqrt(m) roundings an entry of Q^T Q (Higham 2002, theorem 19.4).
            let bound = 512.0 * 128f64.sqrt() * 4.0 * f64::EPSILON;
            evidence = vec![Evidence::rounding("largest entry of W^T W - c 1", gram, bound)];
        }
    }
    Ok(vec![Finding { replay: replay(lab, &[], id), ..Finding::of(id, evidence) }])
}
