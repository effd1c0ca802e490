//! Changes to plant: ops that are a little wrong, and built-ins whose file says something else.

use candle_core::Tensor;
use normative::error::{Error, Result};
use normative::op::{
    Attention, DrawPull, Drawn, Elementwise, Ffn, Gradient, Matrices, Moments, Op, Parameter, Parameters, Radial,
    Registry, Responded, Response, Role, Rows, Site, Vjp,
};
use normative::spec::{File, Overrides, Placement};
use normative::zoo;

use normative::claims::Subject;

type At = fn(&Site) -> f64;

/// An op with its output, the cotangent it passes on, or its parameters' gradients multiplied; theory is left as it is.
#[derive(Debug)]
pub struct Off<O> {
    inner: O,
    output: At,
    back: At,
    gradient: At,
}

/// The op as it is.
pub fn off<O: Op + 'static>(inner: O) -> Off<O> {
    Off { inner, output: |_| 1.0, back: |_| 1.0, gradient: |_| 1.0 }
}

impl<O> Off<O> {
    /// As a larger gain would, forward and back.
    pub fn louder(self, output: At) -> Self {
        Off { output, ..self }
    }

    pub fn back(self, back: At) -> Self {
        Off { back, ..self }
    }

    pub fn gradient(self, gradient: At) -> Self {
        Off { gradient, ..self }
    }
}

impl<O: Response> Response for Off<O> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn role(&self) -> Role {
        self.inner.role()
    }

    fn slots(&self) -> &[&str] {
        self.inner.slots()
    }

    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        self.inner.parameters(at)
    }

    fn respond(&self, at: &Site, input: &Moments) -> Result<Responded> {
        self.inner.respond(at, input)
    }

    fn draw(&self, at: &Site, input: &Rows, stream: &mut dyn Matrices) -> Result<Drawn> {
        let drawn = self.inner.draw(at, input, stream)?;
        let factors = [(self.output)(at), (self.back)(at), (self.gradient)(at)];
        Ok(Drawn { output: drawn.output * factors[0], pull: Box::new(OffPull { inner: drawn.pull, factors }) })
    }
}

struct OffPull {
    inner: Box<dyn DrawPull>,
    factors: [f64; 3],
}

impl DrawPull for OffPull {
    fn pull(self: Box<Self>, cotangent: Rows, stream: &mut dyn Matrices) -> Result<(Rows, Vec<f64>)> {
        let [output, back, gradient] = self.factors;
        let (input, squares) = self.inner.pull(cotangent * output, stream)?;
        Ok((input * back, squares.iter().map(|g| g * gradient * gradient).collect()))
    }
}

impl<O: Op> Op for Off<O> {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        let y = self.inner.forward(at, parameters, x)?;
        (y * (self.output)(at)).map_err(Error::at("planted"))
    }

    fn forward_saving(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let (y, saved) = self.inner.forward_saving(at, parameters, x)?;
        Ok(((y * (self.output)(at)).map_err(Error::at("planted"))?, saved))
    }

    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, saved: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let planted = || Error::at("planted");
        let louder = (dy * (self.output)(at)).map_err(planted())?;
        let back = self.inner.vjp(at, parameters, x, saved, &louder)?;
        let scaled = |g: Gradient| Ok(Gradient::Tensor((g.tensor()? * (self.gradient)(at))?));
        let parameters = back.parameters.into_iter().map(scaled).collect::<candle_core::Result<_>>();
        Ok(Vjp {
            input: (back.input * (self.back)(at)).map_err(planted())?,
            parameters: parameters.map_err(planted())?,
        })
    }
}

/// Attention plus a multiple of its input.
#[derive(Debug)]
pub struct WithSkip(pub f64);

impl Response for WithSkip {
    fn name(&self) -> &str {
        "attn"
    }

    fn role(&self) -> Role {
        Role::Sublayer
    }

    fn slots(&self) -> &[&str] {
        Attention.slots()
    }

    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        Attention.parameters(at)
    }
}

impl Op for WithSkip {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        let y = Attention.forward(at, parameters, x)?;
        (y + (x * self.0).map_err(Error::at("planted"))?).map_err(Error::at("planted"))
    }
}

/// Attention whose W_Q takes the gradient of W_V.
#[derive(Debug)]
pub struct Misled;

impl Response for Misled {
    fn name(&self) -> &str {
        "attn"
    }

    fn role(&self) -> Role {
        Role::Sublayer
    }

    fn slots(&self) -> &[&str] {
        Attention.slots()
    }

    fn parameters(&self, at: &Site) -> Vec<Parameter> {
        Attention.parameters(at)
    }
}

impl Op for Misled {
    fn forward(&self, at: &Site, parameters: &Parameters, x: &Tensor) -> Result<Tensor> {
        Attention.forward(at, parameters, x)
    }

    fn vjp(&self, at: &Site, parameters: &Parameters, x: &Tensor, _: &[Tensor], dy: &Tensor) -> Result<Vjp> {
        let (_, saved) = Attention.forward_saving(at, parameters, x)?;
        let mut back = Attention.vjp(at, parameters, x, &saved, dy)?;
        let place = |name: &str| self.parameters(at).iter().position(|p| p.name == name);
        if let (Some(q), Some(v)) = (place("w_q"), place("w_v")) {
            back.parameters[q] = back.parameters[v].clone();
        }
        Ok(back)
    }
}

fn depth(at: &Site) -> f64 {
    at.stage.block().unwrap_or(1) as f64
}

/// What is changed.
pub enum Plant {
    /// A built-in's file, one text for another wherever it stands.
    Spec(&'static str, &'static str, &'static str),
    /// One built-in under the name of another.
    Instead(&'static str, &'static str),
    /// A placement of a name that is no built-in's.
    Text(&'static str, &'static str),
    Op(fn(Registry) -> Registry),
}

impl Plant {
    /// The registry and subjects of a run with the change.
    pub fn plant(&self) -> (Registry, Vec<Subject>) {
        let registry = Registry::builtin();
        let known = |name: &str| zoo::placement(name, &registry.vocabulary()).unwrap();
        let read =
            |text: &str| Placement::new(File::parse("planted.toml", text).unwrap(), &registry.vocabulary()).unwrap();
        let subjects = match self {
            Plant::Spec(name, from, to) => {
                let text = known(name).text.content.to_string();
                assert!(text.contains(from), "{name} does not say {from}");
                vec![subject(name, read(&text.replace(from, to)))]
            }
            Plant::Instead(name, other) => vec![subject(name, known(other))],
            Plant::Text(name, text) => vec![subject(name, read(text))],
            Plant::Op(change) => return (change(registry), Vec::new()),
        };
        (registry, subjects)
    }
}

/// A placement at the default shape.
pub fn subject(spec: &str, placement: Placement) -> Subject {
    let shape = Overrides::default().shape(128, 8, 16).unwrap();
    let setting = Overrides::default().setting().unwrap();
    Subject { spec: spec.into(), placement, setting, shape, generated: Vec::new() }
}

pub fn louder_ffn(r: Registry) -> Registry {
    r.with(off(Ffn).louder(|_| 1.5))
}
pub fn much_louder_ffn(r: Registry) -> Registry {
    r.with(off(Ffn).louder(|_| 4.0))
}
pub fn louder_attention(r: Registry) -> Registry {
    r.with(off(Attention).louder(|_| 2.0))
}
pub fn quieter_attention(r: Registry) -> Registry {
    r.with(off(Attention).louder(|_| 0.2))
}
pub fn ffn_passes_nothing(r: Registry) -> Registry {
    r.with(off(Ffn).back(|_| 0.0))
}
pub fn attention_passes_nothing(r: Registry) -> Registry {
    r.with(off(Attention).back(|_| 0.0))
}
pub fn ffn_gradient_a_thousandfold(r: Registry) -> Registry {
    r.with(off(Ffn).gradient(|_| 1e3))
}
pub fn ffn_gradient_with_width(r: Registry) -> Registry {
    r.with(off(Ffn).gradient(|at| (at.width as f64).sqrt()))
}
pub fn ffn_gradient_with_depth(r: Registry) -> Registry {
    r.with(off(Ffn).gradient(|at| (at.shape.blocks as f64).sqrt()))
}
pub fn attention_gradient_with_depth(r: Registry) -> Registry {
    r.with(off(Attention).gradient(|at| depth(at).exp2()))
}
pub fn norm_passes_more(r: Registry) -> Registry {
    r.with(off(Radial::layer_norm()).back(|_| 1.05))
}
pub fn sublayers_louder_with_depth(r: Registry) -> Registry {
    r.with(off(Ffn).louder(depth)).with(off(Attention).louder(depth))
}
pub fn attention_louder_with_depth(r: Registry) -> Registry {
    r.with(off(Attention).louder(depth))
}
pub fn sublayers_louder_with_width(r: Registry) -> Registry {
    r.with(off(Ffn).louder(|at| at.width as f64 / 64.0)).with(off(Attention).louder(|at| at.width as f64 / 64.0))
}
pub fn louder_layer_norm(r: Registry) -> Registry {
    r.with(off(Radial::layer_norm()).louder(|_| 1.1))
}
pub fn louder_rms_norm(r: Registry) -> Registry {
    r.with(off(Radial::rms_norm()).louder(|_| 1.1))
}
pub fn louder_scale_norm(r: Registry) -> Registry {
    r.with(off(Radial::scale_norm()).louder(|_| 1.1))
}
pub fn louder_l2_norm(r: Registry) -> Registry {
    r.with(off(Radial::l2_norm()).louder(|_| 1.1))
}
pub fn louder_gemma_norm(r: Registry) -> Registry {
    r.with(off(Radial::gemma_norm()).louder(|_| 1.1))
}
pub fn louder_dyt(r: Registry) -> Registry {
    r.with(off(Elementwise::dyt()).louder(|_| 1.1))
}
pub fn louder_derf(r: Registry) -> Registry {
    r.with(off(Elementwise::derf()).louder(|_| 1.1))
}
pub fn layer_norm_without_centring(r: Registry) -> Registry {
    r.with(Radial { name: "layer_norm", ..Radial::rms_norm() })
}
pub fn layer_norm_without_scale(r: Registry) -> Registry {
    r.with(Elementwise { name: "layer_norm", ..Elementwise::dyt() })
}
pub fn rms_norm_with_centring(r: Registry) -> Registry {
    r.with(Radial { name: "rms_norm", ..Radial::layer_norm() })
}
pub fn rms_norm_without_scale(r: Registry) -> Registry {
    r.with(Elementwise { name: "rms_norm", ..Elementwise::dyt() })
}
pub fn attention_with_skip(r: Registry) -> Registry {
    r.with(WithSkip(1.0))
}
pub fn attention_against_skip(r: Registry) -> Registry {
    r.with(WithSkip(-1.0))
}
pub fn misled_attention(r: Registry) -> Registry {
    r.with(Misled)
}
