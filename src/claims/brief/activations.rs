//! What the texts say of activations at initialization: A4, A5, A15, A16, A18, A24, A31, A42.

use half::f16;

use super::figures::{EXPONENT, MARGIN, ROUGHLY, differences, ratios, roots};
use super::{Basis, Bench, Size, Statement, Trial};
use crate::claims::About;
use crate::claims::experiment::Curves;
use crate::error::Result;
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

/// From this cosine on two tokens are called identical.
const IDENTICAL: f64 = 0.99;

/// Up to this share of its input a branch is called close to zero.
const NEGLIGIBLE: f64 = 0.1;

pub fn statements() -> Vec<Statement> {
    vec![
        Statement {
            id: "brief.a4.post_ln_hidden_state_three_halves_d",
            text: "Post-LN hidden states have constant norm across layers: E(||x||^2) = (3/2)d.",
            source: "brief 001, Why Post-LN Is Unstable; Xiong et al. 2020, arXiv:2002.04745, Lemma 2, says it of the input of a norm",
            basis: Basis::Trial(Trial {
                domain: "at initialization, Xiong et al.'s setting",
                about: About::BuiltIn(&["post-ln"]),
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[1.5],
                sizes: &[[16, 1, 2], [64, 32, 4]],
                full: Some([64, 1000, 4]),
                judge: three_halves,
                instead: "The hidden state has ||x||^2 = d exactly; (3/2)d is what enters a block's second norm.",
            }),
        },
        Statement {
            id: "brief.a5.pre_ln_second_moment_linear",
            text: "E(||x_l||^2) grows as Theta(l * d): the norm of the residual stream grows linearly with depth.",
            source: "brief 001, The Mechanism; Xiong et al. 2020, arXiv:2002.04745, Lemma 2: (1 + l/2)d to (1 + 3l/2)d",
            basis: Basis::Trial(Trial {
                domain: "at initialization, Xiong et al.'s setting",
                about: About::BuiltIn(&["pre-ln"]),
                expected: Verdict::Verified,
                setting: "xiong",
                stated: &[0.5, 1.5, 1.0],
                sizes: &[[128, 256, 4]],
                full: Some([128, 1000, 4]),
                judge: linear_growth,
                instead: "The second moment does not grow in proportion to l.",
            }),
        },
        Statement {
            id: "brief.a15.pre_ln_activations_exponential",
            text: "Pre-norm's hidden states can grow exponentially - a problem called \"massive activations\".",
            source: "brief 000, Post-Norm's Hidden Strengths",
            basis: Basis::Trial(Trial {
                domain: "at initialization; what training adds is not decided here",
                about: About::BuiltIn(&["pre-ln"]),
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[1.0],
                sizes: &[[64, 4, 4], [64, 8, 4], [64, 64, 4]],
                full: Some([64, 1000, 4]),
                judge: exponential_growth,
                instead: "ln E x^2 would grow as much over the second half of the blocks as over the first. At initialization growth is \
                          linear (brief.a5); massive activations are a few coordinates of trained models (Sun et al. 2024, arXiv:2402.17762), \
                          not a growth with depth.",
            }),
        },
        Statement {
            id: "brief.a16.pre_ln_activations_past_a_million",
            text: "In models over 80 layers, pre-norm could cause activation values to explode past 10^6, leading to NaNs; \
                   if they jump past 10^5, you're heading for a crash.",
            source: "brief 000, Post-Norm's Hidden Strengths and How to Switch",
            basis: Basis::Trial(Trial {
                domain: "at initialization; what training adds is not decided here",
                about: About::BuiltIn(&["pre-ln"]),
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[1e6, 1e5],
                sizes: &[[16, 81, 1], [64, 96, 4]],
                full: Some([64, 1000, 4]),
                judge: past_a_million,
                instead: "At initialization no entry comes near, and a watch at 10^5 is too late for f16, which ends at 65504; \
                          bf16 and f32 hold 10^6 and give no NaN.",
            }),
        },
        Statement {
            id: "brief.a18.pre_ln_tokens_collapse",
            text: "Representation collapse: in pre-norm models over 80 layers, hidden states start looking identical across different tokens.",
            source: "brief 000, Real-World Trade-Offs",
            basis: Basis::Trial(Trial {
                domain: "at initialization, uniform attention; pre-norm as against post-norm",
                about: About::BuiltIn(&["pre-ln", "post-ln"]),
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[1.0],
                sizes: &[[16, 81, 2], [64, 96, 4]],
                full: Some([64, 400, 4]),
                judge: tokens_collapse,
                instead: "Tokens become identical in post-norm, where 1 - cos halves with every block; in pre-norm 1 - cos falls as a power of \
                          depth. What becomes alike in pre-norm are the states of adjacent layers.",
            }),
        },
        Statement {
            id: "brief.a24.small_residual_factor_slows_growth",
            text: "If activation norms are growing, add a small residual scaling factor.",
            source: "brief 000, How to Switch",
            basis: Basis::Trial(Trial {
                domain: "at initialization: a factor s on the branches takes growth to s^2",
                about: About::BuiltIn(&["pre-ln"]),
                expected: Verdict::Verified,
                setting: "xiong",
                stated: &[0.01],
                sizes: &[[128, 64, 1]],
                full: None,
                judge: scaled_growth,
                instead: "The factor does not slow growth.",
            }),
        },
        Statement {
            id: "brief.a31.gemma_is_post_norm",
            text: "Llama 2? Post-norm. Mistral? Post-norm. Gemma? Post-norm.",
            source: "brief 000, comments",
            basis: Basis::Trial(Trial {
                domain: "Gemma's published layout as the built-in writes it down; the zoo has no file of the other two",
                about: About::BuiltIn(&["gemma"]),
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[1.0],
                sizes: &[[16, 1, 2], [64, 8, 4]],
                full: None,
                judge: stream_normalized,
                instead: "A post-norm stream is normalized behind every block; Gemma's accumulates, as a pre-norm stream does.",
            }),
        },
        Statement {
            id: "brief.a42.sublayer_is_a_zero_map_at_init",
            text: "At initialization the sublayer is close to a zero map.",
            source: "brief 002",
            basis: Basis::Trial(Trial {
                domain: "at initialization, weights N(0, 1/fan_in)",
                about: About::Nothing,
                expected: Verdict::Refuted,
                setting: "xiong",
                stated: &[0.0],
                sizes: &[[16, 1, 1], [64, 1, 4]],
                full: None,
                judge: zero_map,
                instead: "A branch is as large as its input, to a factor of order 1; it is zero where an init makes it so (ReZero, SkipInit, Fixup).",
            }),
        },
    ]
}

fn three_halves(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let curves = bench.draws("post-ln", size)?;
    let at = |block: usize| {
        let moment = curves.at(block, Quantity::SecondMoment)?;
        let figure = format!("post-ln: E x^2 behind block {block}");
        Ok(bench.mean(figure, &moment, Interval::within(bench.stated[0], MARGIN)).stating(bench.stated[0]))
    };
    [1, size.blocks].into_iter().map(at).collect()
}

/// What the blocks up to one of them added to the second moment.
fn added(curves: &Curves, block: usize) -> Result<Vec<f64>> {
    Ok(differences(&curves.at(block, Quantity::SecondMoment)?, &curves.at(0, Quantity::SecondMoment)?))
}

/// Blocks at which the lemma's two sides are told from what is between them: tokens become alike with depth, and the stream
/// nears the upper one.
const BETWEEN: [usize; 2] = [16, 32];

fn linear_growth(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [least, most, order] = bench.stated else { return Ok(Vec::new()) };
    let curves = bench.draws("pre-ln", size)?;
    let per_block = |block: usize| {
        let added: Vec<f64> = added(&curves, block)?.iter().map(|added| added / block as f64).collect();
        Ok(bench.mean(format!("pre-ln: (E x_l^2 - E x_0^2)/l, l = {block}"), &added, Interval::new(*least, *most)))
    };
    let point = |block: usize| Ok((block as f64, added(&curves, block)?));
    let mut evidence = BETWEEN.into_iter().map(per_block).collect::<Result<Vec<_>>>()?;
    let points = [size.blocks / 4, size.blocks / 2, size.blocks].into_iter().map(point).collect::<Result<Vec<_>>>()?;
    let accepted = Interval::around(*order, EXPONENT);
    evidence.push(bench.exponent("pre-ln: exponent in l of E x_l^2 - E x_0^2", &points, accepted).stating(*order));
    Ok(evidence)
}

fn exponential_growth(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let curves = bench.draws("pre-ln", size)?;
    let moment = |block: usize| curves.at(block, Quantity::SecondMoment);
    let [start, middle, end] = [moment(0)?, moment(size.blocks / 2)?, moment(size.blocks)?];
    let half = |draw: usize| (end[draw] / middle[draw]).ln() / (middle[draw] / start[draw]).ln();
    let halves: Vec<f64> = (0..start.len()).map(half).collect();
    let accepted = Interval::at_least(bench.stated[0] * (1.0 - ROUGHLY));
    let figure = "pre-ln: growth of ln E x^2 over the second half of the blocks, in that over the first";
    Ok(vec![bench.mean(figure, &halves, accepted).stating(bench.stated[0])])
}

/// The largest entry lies between the rms and `sqrt(tokens width)` times it.
fn past_a_million(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [exploded, watch] = bench.stated else { return Ok(Vec::new()) };
    let moments = bench.draws("pre-ln", size)?.at(size.blocks, Quantity::SecondMoment)?;
    let rms = moments.iter().fold(0.0, |most: f64, q| most.max(q.sqrt()));
    let entries = ((size.tokens * size.width) as f64).sqrt();
    let figure = format!("pre-ln: largest entry behind block {}, of all draws", size.blocks);
    let f16_ends = f64::from(f16::MAX.to_f32());
    Ok(vec![
        Evidence::exact(figure, rms, Interval::at_least(*exploded)).found_in(rms, rms * entries).stating(*exploded),
        Evidence::exact("largest number of f16", f16_ends, Interval::at_most(*exploded)).stating(*exploded),
        Evidence::exact("largest number of f16, to warn before", f16_ends, Interval::at_least(*watch)).stating(*watch),
    ])
}

fn tokens_collapse(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let overlap = |name: &str| bench.draws(name, size)?.at(size.blocks, Quantity::Overlap);
    let (pre, post) = (overlap("pre-ln")?, overlap("post-ln")?);
    let lead = differences(&pre, &post);
    let alike = format!("pre-ln: cosine between tokens behind block {}", size.blocks);
    let more = format!("cosine between tokens behind block {}, pre-ln less post-ln", size.blocks);
    Ok(vec![
        bench.mean(alike, &pre, Interval::at_least(IDENTICAL)).stating(bench.stated[0]),
        bench.mean(more, &lead, Interval::at_least(0.0)),
    ])
}

fn scaled_growth(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let grown = |name: &str| added(&*bench.draws(name, size)?, size.blocks);
    let share = ratios(&grown("pre-ln with small branches")?, &grown("pre-ln")?);
    let figure = "growth of E x^2 with a factor 0.1 on the branches, in that without";
    Ok(vec![bench.mean(figure, &share, Interval::within(bench.stated[0], ROUGHLY)).stating(bench.stated[0])])
}

fn stream_normalized(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let moment = bench.draws("gemma", size)?.at(size.blocks, Quantity::SecondMoment)?;
    let figure = format!("gemma: E x^2 behind block {}", size.blocks);
    Ok(vec![bench.mean(figure, &moment, Interval::within(bench.stated[0], MARGIN)).stating(bench.stated[0])])
}

fn zero_map(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let share = |(name, sublayer): (&str, &str)| {
        let branch = roots(&bench.draws(name, size)?.at(1, Quantity::SecondMoment)?);
        let figure = format!("rms of {sublayer}(v), in that of its normalized input v");
        let accepted = Interval::around(bench.stated[0], NEGLIGIBLE);
        Ok(bench.mean(figure, &branch, accepted).stating(bench.stated[0]))
    };
    [("attention alone", "attn"), ("ffn alone", "ffn")].into_iter().map(share).collect()
}
