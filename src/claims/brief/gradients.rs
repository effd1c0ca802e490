//! What the texts say of the sizes of gradients at initialization: A6-A14. A gradient here is a Frobenius norm, for a
//! loss whose gradient by the output is of norm 1.

use super::figures::{EXPONENT, ROUGHLY, depths, ratios, roots};
use super::{Basis, Bench, Judge, Size, Sizes, Statement, Trial};
use crate::claims::About;
use crate::claims::experiment::Curves;
use crate::error::Result;
use crate::profile::Quantity;
use crate::verify::{Evidence, Interval, Verdict};

/// Largest over smallest up to which gradients are called approximately uniform.
const UNIFORM: f64 = 2.0;

/// Depths of one placement, from small networks to the one at which a ratio is judged.
const DEEPER: Sizes = &[[64, 2, 4], [64, 4, 4], [64, 8, 4], [64, 16, 4], [64, 32, 4], [64, 64, 4]];
/// Ladders of depths, by the deepest.
const LADDERS: Sizes = &[[64, 8, 4], [64, 64, 4]];
const TO_1000: Option<[usize; 3]> = Some([64, 1000, 4]);

const POST: About = About::BuiltIn(&["post-ln"]);
const PRE: About = About::BuiltIn(&["pre-ln"]);

/// At initialization in the setting of Xiong et al.
fn trial(about: About, expected: Verdict, sizes: Sizes, judge: Judge) -> Trial {
    let domain = "at initialization, Xiong et al.'s setting; gradients of W_2";
    Trial { domain, about, expected, setting: "xiong", stated: &[], sizes, full: TO_1000, judge, instead: "" }
}

pub fn statements() -> Vec<Statement> {
    use Verdict::{Refuted, Verified};
    vec![
        Statement {
            id: "brief.a6.post_ln_last_gradient_independent_of_depth",
            text: "Post-LN: the gradient norm of the last FFN layer is O(d * sqrt(ln d)), independent of model depth L.",
            source: "brief 001, Why Post-LN Is Unstable; Xiong et al. 2020, arXiv:2002.04745, Theorem 1",
            basis: Basis::Trial(Trial {
                stated: &[0.0],
                instead: "The last gradient changes with depth, or grows faster than d sqrt(ln d).",
                ..trial(POST, Verified, LADDERS, |bench, size| last_gradient(bench, size, "post-ln"))
            }),
        },
        Statement {
            id: "brief.a7.pre_ln_last_gradient_inverse_sqrt_depth",
            text: "Pre-LN: the gradient scale of the last layer is O(d * sqrt(ln d / L)).",
            source: "brief 001, Why Pre-LN Is Stable; Xiong et al. 2020, arXiv:2002.04745, Theorem 1",
            basis: Basis::Trial(Trial {
                stated: &[-0.5],
                instead: "The last gradient does not fall as the root of depth, or grows faster than d sqrt(ln d).",
                ..trial(PRE, Verified, LADDERS, |bench, size| last_gradient(bench, size, "pre-ln"))
            }),
        },
        Statement {
            id: "brief.a8.post_ln_gradients_decay_toward_input",
            text: "Post-LN gradients are large near the output and decay toward the input.",
            source: "brief 001, Why Post-LN Is Unstable; Xiong et al. 2020, arXiv:2002.04745, appendix F, gives the factor (2/3)^((L-l)/2)",
            basis: Basis::Trial(Trial {
                stated: &[2.0 / 3.0],
                full: Some([512, 64, 4]),
                instead: "The norm's factor below 1 is made up by the branch's own gain, so that the gradients of weights stay level.",
                ..trial(POST, Refuted, &[[64, 2, 4], [64, 4, 4], [64, 8, 4], [128, 24, 4]], decays_toward_input)
            }),
        },
        Statement {
            id: "brief.a9.pre_ln_gradients_uniform",
            text: "Pre-LN gradients are approximately uniform across all layers - no layer receives disproportionately large or small updates.",
            source: "brief 001, Why Pre-LN Is Stable",
            basis: Basis::Trial(Trial {
                stated: &[1.0],
                instead: "Gradients fall with l as 1/sqrt(E x_l^2): the first layers get the largest.",
                ..trial(PRE, Refuted, DEEPER, uniform)
            }),
        },
        Statement {
            id: "brief.a10.final_norm_divides_gradients_by_sqrt_depth",
            text: "The final layer normalization divides gradients by sqrt(L), producing well-behaved gradients of scale O(d * sqrt(ln d / L)).",
            source: "brief 001, Why Pre-LN Is Stable",
            basis: Basis::Trial(Trial {
                stated: &[-0.5],
                instead: "Just below the final norm it does; the gradients of the first layers do not depend on depth.",
                ..trial(PRE, Refuted, LADDERS, divided_by_final_norm)
            }),
        },
        Statement {
            id: "brief.a11.pre_ln_gradients_1_6_in_all_layers",
            text: "In tests, pre-norm models maintained gradient norms close to 1.6 across all layers.",
            source: "brief 000, Why Pre-Norm Wins for Deep Models",
            basis: Basis::Trial(Trial {
                stated: &[1.6],
                instead: "Whatever the loss's scale, no single number fits all layers. In Xiong et al. 2020, Fig. 3c, 1.6 is Post-LN's last \
                          gradient over models of several depths (brief.a6).",
                ..trial(PRE, Refuted, DEEPER, level_at)
            }),
        },
        Statement {
            id: "brief.a12.post_ln_gradients_0_3_at_layer_30",
            text: "Pre-norm models maintained gradient norms close to 1.6 across all layers. Post-norm? They dropped to 0.3 by layer 30.",
            source: "brief 000, Why Pre-Norm Wins for Deep Models",
            basis: Basis::Trial(Trial {
                stated: &[1.6, 0.3],
                full: None,
                instead: "Thirty blocks below the output, the gradient of a Post-LN network is about what it is at the top.",
                ..trial(POST, Refuted, &[[16, 30, 1], [32, 30, 2], [128, 30, 4]], dropped_by_last_block)
            }),
        },
        Statement {
            id: "brief.a13.post_ln_gradient_inverse_sqrt_layer",
            text: "Gradient strength in post-norm drops by roughly 1 over the square root of the layer number.",
            source: "brief 000, Why Pre-Norm Wins for Deep Models, and comments; ascribed to Xiong et al. 2020, arXiv:2002.04745",
            basis: Basis::Trial(Trial {
                stated: &[-0.5],
                full: Some([512, 64, 4]),
                instead: "The gradient depends neither on the distance from the output nor on depth (brief.a6); 1/sqrt(L) is the law of \
                          Pre-LN's last gradient (brief.a7).",
                ..trial(POST, Refuted, &[[64, 4, 4], [64, 8, 4], [256, 16, 4]], falls_with_distance)
            }),
        },
        Statement {
            id: "brief.a14.post_ln_gradient_below_15_percent_at_layer_50",
            text: "So at layer 50, you're working with less than 15% of the original gradient signal (a comment: it's actually around 14.14%).",
            source: "brief 000, Why Pre-Norm Wins for Deep Models, and comments",
            basis: Basis::Trial(Trial {
                stated: &[0.15, 0.1414],
                full: None,
                instead: "1/sqrt(50) is 14.14%, but it is no law of Post-LN's gradients (brief.a13).",
                ..trial(POST, Refuted, &[[16, 50, 1], [64, 50, 4], [128, 50, 4]], fifteen_percent)
            }),
        },
    ]
}

/// The gradients of a block's W_2, one a draw.
fn of_w2(curves: &Curves, block: usize) -> Result<Vec<f64>> {
    Ok(roots(&curves.gradient(&format!("block.{block}.call.2.w_2"))?))
}

/// The gradient of W_2 in block 1, in that in the last.
fn first_to_last(bench: &Bench, name: &str, size: Size) -> Result<Vec<f64>> {
    let curves = bench.draws(name, size)?;
    Ok(ratios(&of_w2(&curves, 1)?, &of_w2(&curves, size.blocks)?))
}

/// A figure of networks of several depths.
fn by_depth(
    bench: &Bench,
    name: &str,
    size: Size,
    figure: impl Fn(&Curves, usize) -> Result<Vec<f64>>,
) -> Result<Vec<(f64, Vec<f64>)>> {
    let at = |blocks: usize| {
        let curves = bench.draws(name, Size { blocks, ..size })?;
        Ok((blocks as f64, figure(&curves, blocks)?))
    };
    depths(size.blocks).into_iter().map(at).collect()
}

fn last_gradient(bench: &Bench, size: Size, name: &str) -> Result<Vec<Evidence>> {
    let deeper = by_depth(bench, name, size, of_w2)?;
    // In units of the bound, which may not be outgrown.
    let in_bound = |width: usize| {
        let narrow = Size { width, blocks: 4, ..size };
        let d = width as f64;
        let gradients = of_w2(&*bench.draws(name, narrow)?, narrow.blocks)?;
        Ok((d, gradients.iter().map(|g| g / (d * d.ln().sqrt())).collect()))
    };
    let wider = [size.width / 4, size.width / 2, size.width, 2 * size.width].into_iter().map(in_bound);
    let wider: Vec<(f64, Vec<f64>)> = wider.collect::<Result<_>>()?;
    let stated = bench.stated[0];
    Ok(vec![
        bench
            .exponent(
                format!("{name}: exponent in L of |dW_2| of the last block"),
                &deeper,
                Interval::around(stated, EXPONENT),
            )
            .stating(stated),
        bench.exponent(
            format!("{name}: exponent in d of |dW_2|/(d sqrt(ln d)) of the last block"),
            &wider,
            Interval::at_most(0.0),
        ),
    ])
}

fn decays_toward_input(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let stated = bench.stated[0].powf((size.blocks - 1) as f64 / 2.0);
    let figure = format!("post-ln: |dW_2| in block 1, in that in block {}", size.blocks);
    let accepted = Interval::at_most(stated * (1.0 + ROUGHLY));
    Ok(vec![bench.mean(figure, &first_to_last(bench, "post-ln", size)?, accepted).stating(stated)])
}

fn uniform(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let figure = format!("pre-ln: |dW_2| in block 1, in that in block {}", size.blocks);
    let accepted = Interval::new(bench.stated[0] / UNIFORM, bench.stated[0] * UNIFORM);
    Ok(vec![bench.mean(figure, &first_to_last(bench, "pre-ln", size)?, accepted).stating(bench.stated[0])])
}

fn divided_by_final_norm(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let below = by_depth(bench, "pre-ln", size, |curves, blocks| Ok(roots(&curves.at(blocks, Quantity::Gradient)?)))?;
    let first = by_depth(bench, "pre-ln", size, |curves, _| of_w2(curves, 1))?;
    let stated = bench.stated[0];
    let law = |figure: &str, points: &[(f64, Vec<f64>)]| {
        bench
            .exponent(format!("pre-ln: exponent in L of {figure}"), points, Interval::around(stated, EXPONENT))
            .stating(stated)
    };
    Ok(vec![law("the gradient below the final norm", &below), law("|dW_2| in block 1", &first)])
}

fn level_at(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let stated = bench.stated[0];
    let scaled: Vec<f64> = first_to_last(bench, "pre-ln", size)?.iter().map(|ratio| stated * ratio).collect();
    let figure = format!("pre-ln: |dW_2| in block 1, in units in which block {} has {stated}", size.blocks);
    Ok(vec![bench.mean(figure, &scaled, Interval::within(stated, ROUGHLY)).stating(stated)])
}

fn dropped_by_last_block(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [top, dropped] = bench.stated else { return Ok(Vec::new()) };
    let scaled: Vec<f64> = first_to_last(bench, "post-ln", size)?.iter().map(|ratio| top * ratio).collect();
    let figure =
        format!("post-ln: |dW_2| {} blocks below the output, in units in which it is {top} at the top", size.blocks);
    Ok(vec![bench.mean(figure, &scaled, Interval::within(*dropped, ROUGHLY)).stating(*dropped)])
}

fn falls_with_distance(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let curves = bench.draws("post-ln", size)?;
    // A distance of 1 is the last block.
    let at = |distance: usize| Ok((distance as f64, of_w2(&curves, size.blocks - distance + 1)?));
    let points = depths(size.blocks).into_iter().map(at).collect::<Result<Vec<_>>>()?;
    let stated = bench.stated[0];
    let figure = format!("post-ln: exponent of |dW_2| in the distance from the output, {} blocks", size.blocks);
    Ok(vec![bench.exponent(figure, &points, Interval::around(stated, EXPONENT)).stating(stated)])
}

fn fifteen_percent(bench: &Bench, size: Size) -> Result<Vec<Evidence>> {
    let [below, exactly] = bench.stated else { return Ok(Vec::new()) };
    let root = 1.0 / (size.blocks as f64).sqrt();
    // Half a unit of the last digit that the comment prints.
    let digit = 0.5e-4;
    let figure = format!("1/sqrt({})", size.blocks);
    let measured = format!("post-ln: |dW_2| {} blocks below the output, in that at the top", size.blocks);
    Ok(vec![
        Evidence::exact(figure.clone(), root, Interval::at_most(*below)).stating(*below),
        Evidence::exact(figure, root, Interval::around(*exactly, digit)).stating(*exactly),
        bench.mean(measured, &first_to_last(bench, "post-ln", size)?, Interval::at_most(*below)).stating(*below),
    ])
}
