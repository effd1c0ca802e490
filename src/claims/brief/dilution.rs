//! What the texts say of a block's share in the stream: A36-A40.

use super::bench::{BRANCH, FIRST, MOVED};
use super::exact::{largest, moment_rounding};
use super::figures::{EXPONENT, ROUGHLY, depths, ratios, roots};
use super::{Basis, Bench, Size, Statement, Trial};
use crate::claims::About;
use crate::error::{Error, Result};
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

pub fn statements() -> Vec<Statement> {
    use Verdict::{Refuted, Verified};
    let trial = Trial {
        domain: "at initialization, Xiong et al.'s setting; per block",
        about: About::BuiltIn(&["pre-ln"]),
        expected: Verified,
        setting: "xiong",
        stated: &[],
        sizes: &[[64, 64, 4]],
        full: Some([64, 1000, 4]),
        judge: contribution,
        instead: "",
    };
    vec![
        Statement {
            id: "brief.a36.contribution_sqrt_d_relative_inverse_sqrt_l",
            text: "Each individual layer's contribution f_l has magnitude O(sqrt(d)); the relative contribution of layer l is O(1/sqrt(l)).",
            source: "brief 001, The Consequence",
            basis: Basis::Trial(Trial {
                stated: &[0.0, -0.5],
                instead: "What a block adds changes with depth, or its share in the stream does not fall as 1/sqrt(l).",
                ..trial
            }),
        },
        Statement {
            id: "brief.a37.last_of_96_layers_a_tenth",
            text: "In a 96-layer model, the last layer's contribution is roughly 1/10th the magnitude of the residual stream.",
            source: "brief 001, The Consequence",
            basis: Basis::Trial(Trial {
                stated: &[0.1],
                sizes: &[[64, 96, 4]],
                full: None,
                judge: last_share,
                instead: "The last block's share is another.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a38.dilution_order_depth",
            text: "The Consequence: O(L) Dilution. Each layer's contribution is diluted by a factor of O(sqrt(L)) relative to the total.",
            source: "brief 001, The Consequence: the heading, and the text below it",
            basis: Basis::Trial(Trial {
                expected: Refuted,
                stated: &[0.5, 1.0],
                sizes: &[[32, 8, 1], [64, 64, 4]],
                judge: dilution_order,
                instead: "The text is right and its heading is not: O(L) would need contributions that all point the same way.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a39.final_norm_compresses_uniformly",
            text: "The final layer normalization maps the O(sqrt(L * d))-magnitude stream back to O(sqrt(d)), uniformly shrinking all layers' \
                   contributions.",
            source: "brief 001, Why This Matters",
            basis: Basis::Trial(Trial {
                stated: &[0.5, 1.0],
                judge: compresses,
                instead: "The output is no multiple of the centred stream, or not of unit scale.",
                ..trial
            }),
        },
        Statement {
            id: "brief.a40.post_ln_does_not_dilute",
            text: "Post-LN does not suffer from dilution: the layer normalization resets the stream to norm sqrt(d), so every layer's contribution \
                   is re-weighted to be significant.",
            source: "brief 001, Comparison to Post-LN",
            basis: Basis::Trial(Trial {
                about: About::BuiltIn(&["post-ln"]),
                expected: Refuted,
                stated: &[0.0],
                sizes: &[[16, 4, 1], [32, 8, 4], [64, 32, 4]],
                full: Some([64, 64, 4]),
                judge: remembers,
                instead: "The newest block's share is the same at every depth, but each norm shrinks all that came before: the first block's \
                          share in the last state falls geometrically, below the 1/sqrt(L) of an evenly diluted stream.",
                ..trial
            }),
        },
    ]
}

/// What each block adds, and its share in the stream behind it.
fn shares(bench: &Bench, name: &str, size: Size, blocks: &[usize]) -> Result<[Vec<(f64, Vec<f64>)>; 2]> {
    let curves = bench.contributions(name, size)?;
    let added = |block: usize| Ok(roots(&curves.stream(BRANCH, block, Quantity::SecondMoment)?));
    let share = |block: usize| Ok(ratios(&added(block)?, &roots(&curves.at(block, Quantity::SecondMoment)?)));
    let each = |figure: &dyn Fn(usize) -> Result<Vec<f64>>| {
        blocks.iter().map(|block| Ok((*block as f64, figure(*block)?))).collect::<Result<Vec<_>>>()
    };
    Ok([each(&added)?, each(&share)?])
}

fn contribution(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [magnitude, relative] = bench.stated else { return Ok(Vec::new()) };
    let [added, share] = shares(bench, "pre-ln", size, &depths(size.blocks))?;
    Ok(vec![
        bench
            .exponent(
                "pre-ln: exponent in l of the rms of what block l adds",
                &added,
                Interval::around(*magnitude, EXPONENT),
            )
            .stating(*magnitude),
        bench
            .exponent("pre-ln: exponent in l of its share in the stream", &share, Interval::around(*relative, EXPONENT))
            .stating(*relative),
    ])
}

fn last_share(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [_, share] = shares(bench, "pre-ln", size, &[size.blocks])?;
    let figure = format!("pre-ln: rms of what block {} adds, in that of the stream", size.blocks);
    let last: Vec<f64> = share.into_iter().flat_map(|(_, share)| share).collect();
    Ok(vec![bench.mean(figure, &last, Interval::within(bench.stated[0], ROUGHLY)).stating(bench.stated[0])])
}

fn dilution_order(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let at = |blocks: usize| {
        let [_, share] = shares(bench, "pre-ln", Size { blocks, ..size }, &[blocks])?;
        let diluted = share.into_iter().flat_map(|(_, share)| share).map(|share| 1.0 / share).collect();
        Ok((blocks as f64, diluted))
    };
    let points: Vec<(f64, Vec<f64>)> = depths(size.blocks).into_iter().map(at).collect::<Result<_>>()?;
    let part = |(place, stated): (&str, &f64)| {
        let figure = format!("pre-ln: exponent in L of the stream over the last contribution, as the {place} has it");
        bench.exponent(figure, &points, Interval::around(*stated, EXPONENT)).stating(*stated)
    };
    Ok(["text", "heading"].into_iter().zip(bench.stated).map(part).collect())
}

/// The stream grows as `sqrt(L)`, the output does not, and the two are parallel but for the mean.
fn compresses(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [grows, normalized] = bench.stated else { return Ok(Vec::new()) };
    let deepest = bench.draws("pre-ln", size)?;
    let at = |blocks: usize| {
        let curves = bench.draws("pre-ln", Size { blocks, ..size })?;
        Ok((blocks as f64, roots(&curves.at(blocks, Quantity::SecondMoment)?)))
    };
    let points = depths(size.blocks).into_iter().map(at).collect::<Result<Vec<_>>>()?;
    let output = deepest.output(Quantity::SecondMoment)?;
    let error = output.iter().fold(0.0, |error: f64, q| error.max((q - normalized).abs()));
    let (unlike, bound) = direction(bench, Size { blocks: 2, ..size })?;
    Ok(vec![
        bench
            .exponent(
                "pre-ln: exponent in L of the rms of the last stream",
                &points,
                Interval::around(*grows, EXPONENT),
            )
            .stating(*grows),
        Evidence::rounding("pre-ln: largest |E y^2 - 1| of the output", error, moment_rounding(size)).stating(0.0),
        Evidence::rounding("pre-ln: largest entry of the output less the centred stream over its rms", unlike, bound)
            .stating(0.0),
    ])
}

/// The largest difference between the output and the last stream, centred and divided by its rms, with rounding's reach.
fn direction(bench: &Bench, size: Size) -> Result<(f64, f64)> {
    let network = bench.weighted("pre-ln", size)?;
    let run = network.run()?;
    let last = run
        .sites
        .last()
        .ok_or_else(|| Error::Option { message: "a network without a site".into(), help: "give it a block".into() })?;
    let difference = || -> candle_core::Result<_> {
        let centred = last.broadcast_sub(&last.mean_keepdim(2)?)?;
        let rms = centred.sqr()?.mean_keepdim(2)?.sqrt()?;
        &run.output - centred.broadcast_div(&rms)?
    };
    let difference = largest(&difference().map_err(Error::at("a difference"))?)?;
    Ok((difference, network.rounding() * largest(&run.output)?))
}

/// The newest block's share by l, and the cosine of the last state with that behind block 1.
fn remembers(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [_, share] = shares(bench, "post-ln", size, &depths(size.blocks))?;
    let curves = bench.contributions("post-ln", size)?;
    let last = curves.at(size.blocks, Quantity::SecondMoment)?;
    let first = curves.stream(FIRST, size.blocks, Quantity::SecondMoment)?;
    let moved = curves.stream(MOVED, size.blocks, Quantity::SecondMoment)?;
    let cosine = |draw: usize| (last[draw] + first[draw] - moved[draw]) / (2.0 * (last[draw] * first[draw]).sqrt());
    let cosines: Vec<f64> = (0..last.len()).map(cosine).collect();
    let evenly = 1.0 / (size.blocks as f64).sqrt();
    let figure = format!("post-ln: cosine of the states behind blocks 1 and {}", size.blocks);
    let stated = bench.stated[0];
    Ok(vec![
        bench
            .exponent(
                "post-ln: exponent in l of block l's share in the stream",
                &share,
                Interval::around(stated, EXPONENT),
            )
            .stating(stated),
        bench.mean(figure, &cosines, Interval::at_least(evenly)).stating(evenly),
    ])
}
