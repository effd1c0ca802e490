//! Who can be judged: an op of the registry, candle's own norms, a recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use safetensors::SafeTensors;
use serde::Deserialize;

use super::probe::{Call, Gradients, Group, Probe, Subject, numbers};
use crate::error::{Error, Result};
use crate::op::{Gradient, Initial, Op, Parameters, Series, Site, Stage};
use crate::spec::{Overrides, Shape};

/// A normalizer of a registry: its forward pass, and its vjp or candle's autograd where it has none.
pub struct OfOp(pub Arc<dyn Op>);

impl OfOp {
    fn site(&self, call: &Call) -> Result<(Site, Parameters)> {
        let (rows, width) = call.x.dims2().map_err(Error::at(&call.name))?;
        let shape = Shape { width, blocks: 1, tokens: rows, heads: 1, ffn_width: width, causal: false };
        let setting = Overrides { eps: Some(call.eps), ..Overrides::default() }.setting()?;
        let site = Site {
            stage: Stage::Output,
            series: Series::Norm,
            index: 1,
            width,
            shape,
            setting: Arc::new(setting),
            factors: Arc::default(),
            inner: Vec::new(),
            within: None,
        };
        let mut named = Vec::new();
        for parameter in self.0.parameters(&site) {
            let given = match parameter.name.as_str() {
                "gain" if parameter.shape == [width] => call.gain.clone(),
                "bias" if parameter.shape == [width] => call.bias.clone(),
                _ => match parameter.initial {
                    Initial::Constant(value) => Tensor::full(value, parameter.shape.as_slice(), &Device::Cpu)
                        .and_then(|t| t.to_dtype(call.x.dtype()))
                        .map_err(Error::at(&call.name))?,
                    Initial::Weight { .. } => {
                        return Err(Error::Refused {
                            subject: self.0.name().into(),
                            reason: format!("its parameter {} is a weight matrix", parameter.name),
                            help: "the kit judges normalizers".into(),
                        });
                    }
                },
            };
            named.push((parameter.name, given));
        }
        Ok((site, Parameters::new(named)))
    }
}

impl Subject for OfOp {
    fn name(&self) -> String {
        self.0.name().into()
    }

    fn forward(&self, call: &Call) -> Result<Option<Tensor>> {
        let (site, parameters) = self.site(call)?;
        let x = call.x.unsqueeze(0).map_err(Error::at(&call.name))?;
        let y = self.0.forward(&site, &parameters, &x)?;
        y.squeeze(0).map(Some).map_err(Error::at(&call.name))
    }

    fn backward(&self, call: &Call) -> Result<Option<Gradients>> {
        let (site, parameters) = self.site(call)?;
        let one = |t: &Tensor| t.unsqueeze(0).map_err(Error::at(&call.name));
        let (x, dy) = (one(&call.x)?, one(&call.dy)?);
        let (_, saved) = self.0.forward_saving(&site, &parameters, &x)?;
        let vjp = self.0.vjp(&site, &parameters, &x, &saved, &dy)?;
        let of = |name: &str| {
            let position = parameters.iter().position(|(n, _)| n == name);
            let gradient = position.and_then(|i| vjp.parameters.get(i));
            gradient.map(Gradient::tensor).transpose().map_err(Error::at(&call.name))
        };
        let input = vjp.input.squeeze(0).map_err(Error::at(&call.name))?;
        Ok(Some(Gradients { input: Some(input), gain: of("gain")?, bias: of("bias")? }))
    }
}

/// A function of x, gain, bias and eps on candle's tensors, with the gradients that candle's tape gives.
pub struct OfTensors {
    pub name: &'static str,
    pub function: fn(&Call) -> candle_core::Result<Tensor>,
}

/// candle's own norms: fused, and of differentiable operations.
pub const CANDLE: [OfTensors; 4] = [
    OfTensors { name: "candle:layer_norm", function: |c| fused_layer_norm(c) },
    OfTensors { name: "candle:rms_norm", function: |c| fused_rms_norm(c) },
    OfTensors {
        name: "candle:layer_norm_slow",
        function: |c| candle_nn::ops::layer_norm_slow(&c.x, &c.gain, &c.bias, c.eps as f32),
    },
    OfTensors {
        name: "candle:rms_norm_slow",
        function: |c| candle_nn::ops::rms_norm_slow(&c.x, &c.gain, c.eps as f32),
    },
];

#[expect(clippy::disallowed_methods, reason = "it is what is judged here")]
fn fused_layer_norm(c: &Call) -> candle_core::Result<Tensor> {
    candle_nn::ops::layer_norm(&c.x, &c.gain, &c.bias, c.eps as f32)
}

#[expect(clippy::disallowed_methods, reason = "it is what is judged here")]
fn fused_rms_norm(c: &Call) -> candle_core::Result<Tensor> {
    candle_nn::ops::rms_norm(&c.x, &c.gain, c.eps as f32)
}

/// The kernels of this crate on tensors.
pub const KERNELS: [OfTensors; 2] = [
    OfTensors {
        name: "kernel:layer_norm",
        function: |c| {
            crate::kernels::layer_norm(&c.x, Some(&c.gain), Some(&c.bias), c.eps).map_err(candle_core::Error::wrap)
        },
    },
    OfTensors {
        name: "kernel:rms_norm",
        function: |c| crate::kernels::rms_norm(&c.x, Some(&c.gain), c.eps).map_err(candle_core::Error::wrap),
    },
];

impl Subject for OfTensors {
    fn name(&self) -> String {
        self.name.into()
    }

    fn forward(&self, call: &Call) -> Result<Option<Tensor>> {
        (self.function)(call).map(Some).map_err(Error::at(self.name))
    }

    fn backward(&self, call: &Call) -> Result<Option<Gradients>> {
        let back = || {
            let var = |t: &Tensor| Var::from_tensor(&t.detach());
            let (x, gain, bias) = (var(&call.x)?, var(&call.gain)?, var(&call.bias)?);
            let as_tensor = |v: &Var| v.as_tensor().clone();
            let tracked = Call { x: as_tensor(&x), gain: as_tensor(&gain), bias: as_tensor(&bias), ..call.clone() };
            let y = (self.function)(&tracked)?;
            let tape = (y * &call.dy)?.sum_all()?.backward()?;
            let of = |v: &Var| tape.get(v).cloned();
            Ok(Gradients { input: of(&x), gain: of(&gain), bias: of(&bias) })
        };
        back().map(Some).map_err(Error::at(self.name))
    }
}

/// Answers that any framework gave to a file of probes.
pub struct Recording {
    path: PathBuf,
    pub framework: String,
    /// The probes that the file holds.
    pub probes: Vec<Probe>,
    tensors: BTreeMap<String, Tensor>,
}

/// The metadata `normative.kernel`.
#[derive(Deserialize)]
struct About {
    eps: f64,
    #[serde(default)]
    framework: Option<String>,
}

const FORMAT: &str = "src/verify/conformance/README.md describes the format";

impl Recording {
    /// Reads `NAME.x`, `.gain`, `.bias`, `.dy` and the answers `.y`, `.dx`, `.dgain`, `.dbias`.
    ///
    /// # Errors
    /// A file that is none, metadata without eps, a tensor of a wrong shape.
    pub fn read(path: &Path) -> Result<Recording> {
        let bad = |cause: String| Error::File { path: path.into(), cause, help: FORMAT.into() };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| bad(format!("not a safetensors file: {e}")))?;
        let about = metadata.metadata().clone().unwrap_or_default();
        let about = about.get("normative.kernel").ok_or_else(|| bad("the metadata has no normative.kernel".into()))?;
        let about: About = serde_json::from_str(about).map_err(|e| bad(format!("normative.kernel: {e}")))?;
        if !(about.eps.is_finite() && about.eps >= 0.0) {
            return Err(bad(format!("normative.kernel: eps is {}", about.eps)));
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| bad(e.to_string()))?;
        let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let names = tensors.keys().filter_map(|key| key.strip_suffix(".x"));
        let mut probes = Vec::new();
        for name in names {
            probes.push(probe(&tensors, name, about.eps).map_err(&bad)?);
        }
        if probes.is_empty() {
            return Err(bad("no tensor has a name that ends in .x".into()));
        }
        // The corpus' order: its names end in their number.
        let number = |p: &Probe| p.name.rsplit('/').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(usize::MAX);
        probes.sort_by_key(number);
        let framework = about.framework.unwrap_or_else(|| "unknown framework".into());
        Ok(Recording { path: path.into(), framework, probes, tensors })
    }

    fn answer(&self, call: &Call, what: &str) -> Option<Tensor> {
        self.tensors.get(&format!("{}.{what}", call.name)).cloned()
    }
}

fn probe(tensors: &BTreeMap<String, Tensor>, name: &str, eps: f64) -> std::result::Result<Probe, String> {
    let x = &tensors[&format!("{name}.x")];
    let &[rows, width] = x.dims() else { return Err(format!("{name}.x is {:?}, not (rows, width)", x.dims())) };
    if !matches!(x.dtype(), DType::F64 | DType::F32 | DType::BF16 | DType::F16) {
        return Err(format!("{name}.x is of type {}", x.dtype().as_str()));
    }
    let get = |what: &str, shape: &[usize], absent: f64| match tensors.get(&format!("{name}.{what}")) {
        Some(t) if t.dims() == shape => numbers(t).map_err(|e| e.to_string()),
        Some(t) => Err(format!("{name}.{what} is {:?}, expected {shape:?}", t.dims())),
        None => Ok(vec![absent; shape.iter().product()]),
    };
    for (what, shape) in [("y", &[rows, width][..]), ("dx", &[rows, width]), ("dgain", &[width]), ("dbias", &[width])] {
        get(what, shape, 0.0)?;
    }
    let group = Group::ALL.into_iter().find(|g| name.split('/').next() == Some(g.word())).unwrap_or(Group::Recorded);
    Ok(Probe {
        name: name.into(),
        group,
        dtype: x.dtype(),
        width,
        eps,
        x: get("x", &[rows, width], 0.0)?,
        gain: get("gain", &[width], 1.0)?,
        bias: get("bias", &[width], 0.0)?,
        dy: get("dy", &[rows, width], 0.0)?,
    })
}

impl Subject for Recording {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn forward(&self, call: &Call) -> Result<Option<Tensor>> {
        Ok(self.answer(call, "y"))
    }

    fn backward(&self, call: &Call) -> Result<Option<Gradients>> {
        let [input, gain, bias] = ["dx", "dgain", "dbias"].map(|what| self.answer(call, what));
        // A file without any gradient was recorded without a backward pass, which says nothing of one.
        let recorded = self.tensors.keys().any(|key| key.ends_with(".dx"));
        Ok((recorded && self.answer(call, "y").is_some()).then_some(Gradients { input, gain, bias }))
    }

    fn is_live(&self) -> bool {
        false
    }
}

/// Writes probes for a recorder of another framework to answer.
///
/// # Errors
/// A file that cannot be written.
pub fn write_probes(probes: &[Probe], eps: f64, path: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for probe in probes {
        let Call { name, x, gain, bias, dy, .. } = probe.call()?;
        tensors.extend([("x", x), ("gain", gain), ("bias", bias), ("dy", dy)].map(|(w, t)| (format!("{name}.{w}"), t)));
    }
    let about = serde_json::json!({ "eps": eps }).to_string();
    let metadata = std::collections::HashMap::from([("normative.kernel".to_owned(), about)]);
    let file = |cause: String| Error::File { path: path.into(), cause, help: "give a path that can be written".into() };
    safetensors::serialize_to_file(tensors.iter().map(|(n, t)| (n.as_str(), t)), Some(metadata), path)
        .map_err(|e| file(e.to_string()))
}
