//! Faults 30-43 and 66: equations that are not the ones specified, and gradients of the ops they call.

use candle_core::{Device, Tensor};
use normative::error::{Error, Result};
use normative::op::{
    Attention, Drawn, Gradient, Matrices, Moments, Notation, Op, Parameter, Parameters, Responded, Response, Role,
    Rows, Site, Vjp,
};
use normative::profile::{Place, Profile, Quantity};
use normative::random::Stream;
use normative::reference::Canonical;

use crate::networks::{SHAPE, Spec, altered, by_hand_written, by_pivots, by_prediction, pre_ln};
use crate::support::{Network, values};
use crate::{Fault, Judged};

/// A specification against a subject that is built otherwise, by pivots.
fn wired(number: u8, name: &str, specified: Spec, subject: Spec, seeds: u64) -> Fault {
    let (clean, faulty) = (specified.clone(), specified.clone());
    Fault::new(
        number,
        name,
        "pivots",
        move || by_pivots(&clean, seeds, |seed| clean.network(SHAPE, seed)),
        move || by_pivots(&faulty, seeds, |seed| subject.network(SHAPE, seed)),
    )
}

/// A subject that is built otherwise than the paper's equations, by their hand-written code.
fn written(number: u8, name: &str, canonical: Canonical, specified: Spec, subject: Spec) -> Fault {
    Fault::new(
        number,
        name,
        "hand-written reference",
        move || by_hand_written(canonical, &specified),
        move || by_hand_written(canonical, &subject),
    )
}

pub fn faults() -> Vec<Fault> {
    let normed = "output = \"norm(x)\"";
    let post = Spec::layer("x = norm(x + attn(x))\nx = norm(x + ffn(x))", "");
    let peri = |output: &str| Spec::layer(output, "input = \"norm(x)\"\noutput = \"norm(x)\"");
    let deepnorm = |exponent: &str| {
        let rest = format!(
            "let = {{ alpha = \"(2*N)^({exponent})\", beta = \"(8*N)^(-1/4)\" }}\n\
             init = {{ w_v = \"beta\", w_o = \"beta\", w_1 = \"beta\", w_2 = \"beta\" }}"
        );
        Spec::layer("x = norm(alpha*x + attn(x))\nx = norm(alpha*x + ffn(x))", &rest)
    };
    let scaled =
        |by: &str| Spec::layer(&format!("x = x + attn(norm(x))/sqrt({by})\nx = x + ffn(norm(x))/sqrt({by})"), normed);
    let two_norms = |second: &str| {
        let segments = format!(
            "{normed}\n[[segment]]\nwhen = \"l == 2\"\nlayer = \"x = x + attn({second}(x))\\nx = x + ffn({second}(x))\"\n\
             [[segment]]\nlayer = \"x = x + attn(norm(x))\\nx = x + ffn(norm(x))\""
        );
        Spec { text: segments, ..pre_ln().rms() }
    };
    vec![
        written(30, "Pre-LN built as Post-LN", Canonical::PreLn, pre_ln(), post),
        written(
            31,
            "residual taken from the normalised stream",
            Canonical::PreLn,
            pre_ln(),
            Spec::layer("y = norm(x)\nx = y + attn(y)\nz = norm(x)\nx = z + ffn(z)", normed),
        ),
        written(
            32,
            "final norm missing",
            Canonical::PreLn,
            pre_ln(),
            Spec::layer("x = x + attn(norm(x))\nx = x + ffn(norm(x))", ""),
        ),
        wired(
            33,
            "norm on the attention branch only",
            pre_ln(),
            Spec::layer("x = x + attn(norm(x))\nx = x + ffn(x)", normed),
            2,
        ),
        written(
            34,
            "sandwich output norm omitted",
            Canonical::PeriLn,
            peri("x = x + norm(attn(norm(x)))\nx = x + norm(ffn(norm(x)))"),
            peri("x = x + attn(norm(x))\nx = x + ffn(norm(x))"),
        ),
        predicted(
            35,
            "residual scale alpha applied to the skip",
            Spec::layer("x = x + 0.8*attn(norm(x))\nx = x + 0.8*ffn(norm(x))", normed),
            Spec::layer("x = 0.8*x + attn(norm(x))\nx = 0.8*x + ffn(norm(x))", normed),
        ),
        written(36, "DeepNorm alpha with the exponent 1/2", Canonical::DeepNorm, deepnorm("1/4"), deepnorm("1/2")),
        wired(37, "layer index off by one in 1/sqrt(l)", scaled("l"), scaled("l + 1"), 4),
        tied_norms(),
        wide_norm(),
        wired(
            40,
            "parallel block computed sequentially",
            Spec::layer("y = norm(x)\nx = x + attn(y) + ffn(y)", normed),
            Spec::layer("y = x + attn(norm(x))\nx = y + ffn(norm(y))", normed),
            16,
        ),
        wired(
            41,
            "branch multiplied by 0.98",
            pre_ln(),
            Spec::layer("x = x + 0.98*attn(norm(x))\nx = x + 0.98*ffn(norm(x))", normed),
            80,
        ),
        half_as_many(),
        written(
            43,
            "LayerNorm in one layer of an RMSNorm stack",
            Canonical::PreLn,
            two_norms("norm"),
            two_norms("layer_norm"),
        ),
        score_gradients(),
    ]
}

fn predicted(number: u8, name: &str, specified: Spec, subject: Spec) -> Fault {
    let (clean, faulty) = (specified.clone(), specified);
    Fault::new(
        number,
        name,
        "prediction",
        move || by_prediction(&clean, &clean, |_| ()),
        move || by_prediction(&faulty, &subject, |_| ()),
    )
}

/// 39: where queries are normalized head by head, a factor on one head's part of W_Q changes no bit (eps = 0, powers of 2).
fn wide_norm() -> Fault {
    let judge = |slot: &str| -> Judged {
        let layer = format!("x = x + attn(norm(x), {slot} = rms_norm)");
        let spec = Spec::layer(&layer, "").with(|setting| setting.eps = Some(0.0));
        let head = SHAPE.width / SHAPE.heads;
        let by: Vec<f64> = (0..SHAPE.width).map(|column| if column < head { 4.0 } else { 1.0 }).collect();
        let by = Tensor::from_vec(by, SHAPE.width, &Device::Cpu).unwrap();
        let output = |scaled: bool| {
            let network = altered(spec.network(SHAPE, 1), |_, name, t| match scaled && name == "w_q" {
                true => t.broadcast_mul(&by).unwrap(),
                false => t.clone(),
            });
            values(&network.run().unwrap().output)
        };
        match output(true) == output(false) {
            true => Ok(()),
            false => Err("a factor on the queries of one head changes the output".into()),
        }
    };
    let name = "QK-norm over the whole width instead of per head";
    Fault::new(39, name, "scale of one head", move || judge("qk"), move || judge("qk_wide"))
}

/// 42: the stream behind block l is predicted as if a block had one sub-layer.
fn half_as_many() -> Fault {
    let halved = |profile: &mut Profile| {
        let at = |site: usize| {
            let of = |(place, quantity): &(Place, Quantity)| {
                (*place, *quantity) == (Place::Site(site), Quantity::SecondMoment)
            };
            profile.layout.figures.iter().position(of).unwrap()
        };
        let sites: Vec<usize> = (0..profile.layout.sites.len()).map(at).collect();
        let values: Vec<Option<f64>> = sites.iter().map(|s| profile.figures[*s].value).collect();
        // Site i has seen i sub-layers; counted by blocks, half of them.
        for (i, site) in sites.iter().enumerate() {
            profile.figures[*site].value = values[i.div_ceil(2)];
        }
    };
    Fault::new(
        42,
        "sub-layers counted N instead of 2N in the prediction",
        "prediction",
        || by_prediction(&pre_ln(), &pre_ln(), |_| ()),
        move || by_prediction(&pre_ln(), &pre_ln(), halved),
    )
}

/// 38: block 2 reads the norm parameters of block 1, and the gradient is reported as its own.
fn tied_norms() -> Fault {
    let tie = |mut network: Network| {
        let norm = |block: usize| {
            let of = |call: &normative::fold::Call| call.site.path() == format!("block.{block}.norm.1");
            network.graph.calls.iter().position(of).unwrap()
        };
        let (from, to) = (norm(1), norm(2));
        network.parameters[to] = network.parameters[from].clone();
        network
    };
    Fault::new(
        38,
        "a layer shares its norm's parameters with the next",
        "central differences",
        || differences(|n| n),
        move || differences(tie),
    )
}

/// The reported gradient of block 2's first gain along a random direction, against central differences of the loss.
fn differences(subject: impl Fn(Network) -> Network) -> Judged {
    let shape = normative::spec::Shape { width: 12, blocks: 2, tokens: 3, heads: 2, ffn_width: 20, causal: false };
    let network = || pre_ln().network(shape, 3).perturbed(4);
    let call = network().graph.calls.iter().position(|c| c.site.path() == "block.2.norm.1").unwrap();
    let direction = Stream::new(5, &[]).normals(shape.width);
    let along = Tensor::from_vec(direction.clone(), shape.width, &Device::Cpu).unwrap();
    let moved = |by: f64| {
        let mut network = network();
        let each = |(n, t): (&str, &Tensor)| {
            let t = if n == "gain" { (t + (&along * by).unwrap()).unwrap() } else { t.clone() };
            (n.to_owned(), t)
        };
        network.parameters[call] = Parameters::new(network.parameters[call].iter().map(each).collect());
        let network = subject(network);
        let run = network.run().unwrap();
        let loss: f64 = values(&run.output).iter().zip(values(&network.cotangent)).map(|(a, b)| a * b).sum();
        let gradient = values(&run.gradients[call][0].tensor().unwrap());
        (loss, gradient.iter().zip(&direction).map(|(a, b)| a * b).sum::<f64>())
    };
    let step = f64::EPSILON.cbrt();
    let slope = |h: f64| (moved(h).0 - moved(-h).0) / (2.0 * h);
    let (wide, narrow, (loss, reported)) = (slope(2.0 * step), slope(step), moved(0.0));
    // The error of the narrow one is a third of their difference, and rounding in the loss over the step.
    let bound = (wide - narrow).abs() + network().roundings() * f64::EPSILON * (1.0 + loss.abs()) / step;
    match (narrow - reported).abs() <= bound {
        true => Ok(()),
        false => Err(format!("block.2.norm.1.gain reports {reported:.3e}, differences give {narrow:.3e}")),
    }
}

/// Attention whose gradients of queries and keys lack the 1/sqrt(d_k) of the scores.
#[derive(Debug)]
struct Unscaled;

impl Response for Unscaled {
    fn name(&self) -> &str {
        "attn"
    }
    fn role(&self) -> Role {
        Role::Sublayer
    }
    fn notation(&self) -> Notation {
        Attention.notation()
    }
    fn slots(&self) -> &[&str] {
        &["qk", "qkv", "qk_wide", "out"]
    }
    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        Attention.parameters(at)
    }
    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        Attention.respond(at, input)
    }
    fn draw(&self, at: &Site, input: &Rows, matrices: &mut dyn Matrices) -> Result<Drawn> {
        Attention.draw(at, input, matrices)
    }
}

impl Op for Unscaled {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Attention.forward(at, parameters, x)
    }
    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        Attention.forward_saving(at, parameters, x)
    }
    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let mut back = Attention.vjp(at, parameters, x, saved, dy)?;
        let by = ((at.shape.width / at.shape.heads) as f64).sqrt();
        for (i, name) in ["w_q", "w_k"].iter().enumerate() {
            let Gradient::Outer { x: rows, d } = &back.parameters[i] else { continue };
            let w = parameters.get(at, name)?;
            let scaled = || {
                let more = d.matmul(&w.t()?)?.reshape(back.input.shape())?;
                Ok(((&back.input + (more * (by - 1.0))?)?, (d * by)?))
            };
            let (input, d) = scaled().map_err(Error::at(&at.path()))?;
            back.parameters[i] = Gradient::Outer { x: rows.clone(), d };
            back.input = input;
        }
        Ok(back)
    }
}

/// 66
fn score_gradients() -> Fault {
    let subject = Spec { registry: pre_ln().registry.with(Unscaled), ..pre_ln() };
    wired(66, "gradient of the softmax's scale off by sqrt(d_k)", pre_ln(), subject, 2)
}
