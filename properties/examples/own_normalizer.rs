//! A normalizer and a sub-layer of one's own: one `impl` and one registration each, then every command knows them.
//!
//!     cargo run --release --example own_normalizer -- verify my-placement.toml
//!     cargo run --release --example own_normalizer -- measure pre-ln --normalizer l1_norm
//!
//! `cargo test` runs the tests below, in which the normalizer is verified in ten lines.

use candle_core::{D, Tensor};
use normative::error::{Error, Result};
use normative::op::{
    DrawPull, Drawn, Gain, Initial, Matrices, Moments, Op, Parameter, Parameters, Radial, Registry, Responded,
    Response, Role, Rows, Site,
};

/// sqrt(2/pi) x / mean |x|: a norm by the mean absolute value, scaled so that Gaussian vectors come out as from rms_norm.
///
/// Source: Hoffer, Banner, Golan & Soudry 2018, arXiv:1803.01814, section 3.3, there over batches.
#[derive(Debug)]
struct L1Norm;

/// E|z| of a standard normal z.
fn mean_absolute() -> f64 {
    std::f64::consts::FRAC_2_PI.sqrt()
}

impl Response for L1Norm {
    fn name(&self) -> &str {
        "l1_norm"
    }

    fn role(&self) -> Role {
        Role::Normalizer
    }

    /// Where coordinates are Gaussian, mean |x| tells the same as the root mean square: the theory is that of rms_norm.
    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        Radial { gain: Gain::None, ..Radial::rms_norm() }.respond(at, input)
    }

    /// Exact for any coordinates.
    fn draw(&self, _: &Site, input: &Rows, _: &mut dyn Matrices) -> Result<Drawn> {
        let mut output = input.clone();
        output.column_iter_mut().for_each(|mut x| x *= mean_absolute() / (x.lp_norm(1) / x.len() as f64));
        Ok(Drawn { output, pull: Box::new(Back(input.clone())) })
    }
}

/// The input of a draw, for its way back.
struct Back(Rows);

impl DrawPull for Back {
    /// With m = mean |x|: dx = sqrt(2/pi) (g - sign(x) <g, x>/(d m))/m.
    fn pull(self: Box<Self>, mut cotangent: Rows, _: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        for (x, mut g) in self.0.column_iter().zip(cotangent.column_iter_mut()) {
            let mean = x.lp_norm(1) / x.len() as f64;
            let along = g.dot(&x) / (x.len() as f64 * mean);
            g.zip_apply(&x, |g, x| *g = (*g - x.signum() * along) * mean_absolute() / mean);
        }
        Ok((cotangent, Vec::new()))
    }
}

impl Op for L1Norm {
    /// Its vjp is candle's, as it gives none.
    fn forward(&self, at: &Site, _: &Parameters, x: &Tensor) -> Result<Tensor> {
        let mean = x.abs().and_then(|a| a.mean_keepdim(D::Minus1)? * (1.0 / mean_absolute()));
        mean.and_then(|m| x.broadcast_div(&m)).map_err(Error::at(&at.path()))
    }
}

/// Every token takes from the one before it, through a matrix: y_t = x_{t-1} W. Forward only, and no theory.
#[derive(Debug)]
struct Shift;

impl Response for Shift {
    fn name(&self) -> &str {
        "shift"
    }

    fn role(&self) -> Role {
        Role::Sublayer
    }

    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        let shape = vec![at.width, at.width];
        vec![Parameter { name: "w_s".into(), shape, initial: Initial::Weight { factor: at.factor("w_s") } }]
    }
}

impl Op for Shift {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        let w = parameters.get(at, "w_s")?;
        let before = || {
            let first = x.narrow(1, 0, 1)?.zeros_like()?;
            let before = Tensor::cat(&[&first, &x.narrow(1, 0, x.dim(1)? - 1)?], 1)?;
            before.broadcast_matmul(w)
        };
        before().map_err(Error::at(&at.path()))
    }
}

/// The one registration.
fn registry() -> Registry {
    Registry::builtin().with(L1Norm).with(Shift)
}

fn main() {
    std::process::exit(normative::cli::main_with(registry()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use normative::cli;
    use normative::execute::{Measurement, measure};
    use normative::fold::Graph;
    use normative::predict::predict;
    use normative::profile::Place;
    use normative::spec::{File, Placement};
    use normative::verify::{Verdict, checks, variant};

    #[test]
    fn own_normalizer_is_verified_in_ten_lines() {
        let text = r#"
            name = "mine"
            output = "l1_norm(x)"
            layer = """
            x = x + attn(l1_norm(x))
            x = x + ffn(l1_norm(x))
            """
        "#;
        let found = variant(&registry(), text).unwrap();
        // At the narrow shapes 24 seeds may not resolve every figure, which is no refutation.
        assert_eq!(found.agreements[0].verdict, Verdict::Verified);
        assert!(found.verdict() <= Verdict::Undecided, "{:?}", found.agreements);
    }

    /// The network of a text at d = 48.
    fn graph(text: &str) -> Graph {
        let placement = Placement::new(File::parse("mine.toml", text).unwrap(), &registry().vocabulary()).unwrap();
        let network = placement.at(placement.overrides.shape(48, 3, 5).unwrap()).unwrap();
        Graph::new(&network, &placement.overrides.setting().unwrap(), &registry()).unwrap()
    }

    /// Sampled and measured agree in distribution, so that nothing but sampling stands between them.
    #[test]
    fn own_normalizer_is_sampled_from_its_exact_law() {
        let graph = graph("name = \"mine\"\nlayer = \"x = l1_norm(x + attn(x))\\nx = l1_norm(x + ffn(x))\"");
        let mut sampled = normative::sample::sample(&graph, 256, 1).unwrap().profile();
        let measured = measure(&graph, &Measurement { seeds: 256, ..Measurement::default() }).unwrap().profile();
        // The law of the difference, at six of its standard errors.
        for (figure, real) in sampled.figures.iter_mut().zip(&measured.figures) {
            figure.law = figure.se.zip(real.se).map(|(a, b)| 6.0 * a.hypot(b));
        }
        let apart: Vec<_> = checks(&sampled, &measured, 0.5).into_iter().filter(|c| c.outside()).collect();
        assert!(apart.is_empty(), "{apart:#?}");
    }

    /// What stands behind an op without theory has no prediction, and says why; it is measured all the same.
    #[test]
    fn own_sublayer_without_theory_is_measured_and_its_predictions_are_null() {
        let graph = graph("name = \"mine\"\nlayer = \"x = x + shift(norm(x))\"");
        let measured = measure(&graph, &Measurement { seeds: 4, ..Measurement::default() }).unwrap().profile();
        let predicted = predict(&graph).unwrap();
        for (i, (theory, fact)) in predicted.figures.iter().zip(&measured.figures).enumerate() {
            let name = predicted.layout.name(i);
            assert!(fact.value.is_some_and(|value| value > 0.0 || name.contains("overlap")), "{name}: {fact:?}");
            match predicted.layout.figures[i].0 {
                Place::Output | Place::Parameter(0) => {
                    let reason = theory.reason.as_deref().unwrap_or_default();
                    assert_eq!((theory.value, reason), (None, "the op shift gives no prediction rule"), "{name}");
                }
                _ => assert!(theory.value.is_some() != theory.reason.is_some(), "{name}: {theory:?}"),
            }
        }
    }

    #[test]
    fn the_whole_command_knows_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "name = \"mine\"\nlayer = \"x = x + shift(l1_norm(x))\"\n").unwrap();
        let file = file.to_str().unwrap();
        let run = |line: &str| cli::run(&registry(), line.split(' ').map(Into::into));
        let shape = "--width 32 --blocks 2 --tokens 3";
        assert_eq!(run(&format!("normative measure {file} {shape} --seeds 2 --format json")), 0);
        assert_eq!(run(&format!("normative predict pre-ln {shape} --normalizer l1_norm")), 0);
        assert_eq!(run("normative list normalizers"), 0);
        let builtin = |line: &str| cli::run(&Registry::builtin(), line.split(' ').map(Into::into));
        assert_eq!(builtin(&format!("normative measure {file} {shape} --seeds 2")), 2);
    }
}
