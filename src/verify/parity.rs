//! Recorded weights, outputs and gradients of any framework against ours, in f64.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::execute::{Run, run};
use crate::fold::Graph;
use crate::op::{Initial, Parameters, Registry};
use crate::profile::Layout;
use crate::spec::{Activation, File, Overrides, Placement, Setting, Shape};
use crate::verify::rounding::{bound, relative_error, roundings};

/// How one tensor of a fixture compares.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorParity {
    /// `output`, `grad.input`, `grad.block.1.call.1.w_q`.
    pub name: String,
    /// Largest absolute difference over the largest absolute recorded value.
    pub error: f64,
    /// The largest such error that rounding explains.
    pub bound: f64,
}

impl TensorParity {
    /// Whether rounding does not explain the difference.
    pub fn differs(&self) -> bool {
        // A NaN differs.
        self.error.is_nan() || self.error > self.bound
    }
}

/// How a fixture compares, worst tensor first.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    pub file: String,
    pub placement: String,
    pub framework: String,
    pub tensors: Vec<TensorParity>,
}

impl Parity {
    /// The tensor with the largest error over bound.
    pub fn worst(&self) -> Option<&TensorParity> {
        self.tensors.first()
    }

    pub fn differs(&self) -> bool {
        self.tensors.iter().any(TensorParity::differs)
    }
}

/// The metadata `normative.shape` of a fixture.
#[derive(Deserialize)]
struct WireShape {
    width: usize,
    blocks: usize,
    tokens: usize,
    batch: usize,
    heads: usize,
    ffn_width: usize,
    #[serde(default)]
    causal: Switch,
    normalizer: String,
    #[serde(default)]
    activation: Option<Activation>,
    #[serde(default)]
    eps: Option<f64>,
    #[serde(default)]
    uniform: Switch,
    #[serde(default)]
    output_projection: Option<Switch>,
}

/// `true`, `false`, 0 or 1: frameworks write either.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
struct Switch(bool);

impl From<serde_json::Value> for Switch {
    fn from(value: serde_json::Value) -> Self {
        Switch(value.as_bool().unwrap_or(value.as_f64().is_some_and(|n| n != 0.0)))
    }
}

/// A fixture, read and checked.
struct Fixture {
    name: String,
    framework: String,
    graph: Graph,
    batch: usize,
    tensors: BTreeMap<String, Tensor>,
}

/// Replays a fixture in f64 and compares the output and every gradient.
///
/// Runs on `device`; `bound` in rounding.rs says how far rounding may take a tensor.
///
/// # Errors
/// Bad input: a file that is no fixture, a missing or extra tensor, a wrong shape.
pub fn parity(path: &Path, registry: &Registry, device: &Device) -> Result<Parity> {
    let fixture = Fixture::read(path, registry)?;
    let exact = fixture.replay(DType::F64, device)?;
    let single = fixture.replay(DType::F32, &Device::Cpu)?;
    let roundings = roundings(&fixture.graph, fixture.batch);
    let mut tensors = Vec::new();
    for (name, recorded) in fixture.results() {
        let (ours, rough) = (fixture.result(&exact, name)?, fixture.result(&single, name)?);
        let error = relative_error(&ours, recorded).map_err(Error::at(name))?;
        let reach = relative_error(&rough, recorded).map_err(Error::at(name))?;
        let bound = bound(roundings, DType::F64, reach);
        tensors.push(TensorParity { name: name.clone(), error, bound });
    }
    let ratio = |t: &TensorParity| if t.error.is_nan() { f64::INFINITY } else { t.error / t.bound };
    tensors.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    Ok(Parity {
        file: fixture.name.clone(),
        placement: fixture.graph.network.placement.name.clone(),
        framework: fixture.framework,
        tensors,
    })
}

impl Fixture {
    fn read(path: &Path, registry: &Registry) -> Result<Fixture> {
        let bad = |cause: String, help: &str| Error::File { path: path.into(), cause, help: help.into() };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string(), "give a safetensors file"))?;
        let format = "properties/fixtures/README.md describes the format";
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| bad(format!("not a safetensors file: {e}"), format))?;
        let about = metadata.metadata().clone().unwrap_or_default();
        let entry =
            |key: &str| about.get(key).cloned().ok_or_else(|| bad(format!("the metadata has no {key}"), format));
        let shape: WireShape = serde_json::from_str(&entry("normative.shape")?)
            .map_err(|e| bad(format!("normative.shape: {e}"), format))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let file = File::parse(&format!("{name}, normative.spec"), &entry("normative.spec")?)?;
        let placement = Placement::new(file, &registry.vocabulary())?;
        let graph = shape.graph(&placement, registry)?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .and_then(|all| all.into_iter().map(|(n, t)| Ok((n, t.to_dtype(DType::F64)?))).collect())
            .map_err(|e: candle_core::Error| bad(e.to_string(), format))?;
        let framework = about.get("framework").cloned().unwrap_or_else(|| "unknown framework".into());
        let fixture = Fixture { name, framework, graph, batch: shape.batch, tensors };
        fixture.check().map_err(|cause| bad(cause, format))?;
        Ok(fixture)
    }

    /// Every tensor that must be there is, with its shape, and no other.
    fn check(&self) -> std::result::Result<(), String> {
        let shape = self.graph.network.shape;
        let values = vec![self.batch, shape.tokens, shape.width];
        let mut expected: BTreeMap<String, Vec<usize>> =
            ["input", "cotangent", "output", "grad.input"].map(|n| (n.to_owned(), values.clone())).into();
        for point in &Layout::new(&self.graph).parameters {
            let weight = matches!(point.parameter.initial, Initial::Weight { .. });
            if weight || self.tensors.contains_key(&point.path) {
                expected.insert(point.path.clone(), point.parameter.shape.clone());
                expected.insert(format!("grad.{}", point.path), point.parameter.shape.clone());
            }
        }
        let given: BTreeSet<&String> = self.tensors.keys().collect();
        if let Some(missing) = expected.keys().find(|name| !given.contains(name)) {
            return Err(format!("tensor {missing} is missing"));
        }
        if let Some(extra) = given.iter().find(|name| !expected.contains_key(**name)) {
            return Err(format!("tensor {extra} belongs to no parameter of {}", self.graph.network.placement.name));
        }
        for (name, shape) in &expected {
            let found = self.tensors[name].dims();
            if found.iter().product::<usize>() != shape.iter().product::<usize>() || (found != shape && shape != &[1]) {
                return Err(format!("tensor {name} has shape {found:?}, expected {shape:?}"));
            }
        }
        Ok(())
    }

    /// Runs on the recorded numbers.
    fn replay(&self, dtype: DType, device: &Device) -> Result<Run> {
        let mut calls: Vec<Vec<(String, Tensor)>> = vec![Vec::new(); self.graph.calls.len()];
        for point in &Layout::new(&self.graph).parameters {
            let shape = point.parameter.shape.as_slice();
            let tensor = match (self.tensors.get(&point.path), point.parameter.initial) {
                (Some(recorded), _) => recorded.reshape(shape).and_then(|t| t.to_device(device)),
                (None, Initial::Constant(value)) => Tensor::full(value, shape, device),
                (None, Initial::Weight { .. }) => unreachable!("check refuses a fixture without this weight"),
            };
            let tensor = tensor.and_then(|t| t.to_dtype(dtype)).map_err(Error::at(&point.path))?;
            calls[point.call].push((point.parameter.name.clone(), tensor));
        }
        let parameters: Vec<Parameters> = calls.into_iter().map(Parameters::new).collect();
        let value =
            |name: &str| self.tensors[name].to_dtype(dtype).and_then(|t| t.to_device(device)).map_err(Error::at(name));
        run(&self.graph, &parameters, &value("input")?, &value("cotangent")?)
    }

    /// The recorded output and gradients, by name.
    fn results(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter().filter(|(name, _)| *name == "output" || name.starts_with("grad."))
    }

    /// Our tensor of a recorded name, in f64; a gradient that does not exist is zero.
    fn result(&self, run: &Run, name: &str) -> Result<Tensor> {
        let ours = match name.strip_prefix("grad.") {
            None => Some(run.output.clone()),
            Some("input") => run.input_cotangent.clone(),
            Some(parameter) => {
                let points = Layout::new(&self.graph).parameters;
                let point = points.iter().find(|p| p.path == parameter).expect("check refuses tensors of no parameter");
                let gradient = run.gradients[point.call].get(point.order);
                gradient.map(|g| g.tensor()).transpose().map_err(Error::at(name))?
            }
        };
        let zero = || self.tensors[name].zeros_like();
        ours.map_or_else(zero, |t| t.to_dtype(DType::F64)).map_err(Error::at(name))
    }
}

impl WireShape {
    fn graph(&self, placement: &Placement, registry: &Registry) -> Result<Graph> {
        let overrides = Overrides {
            normalizer: Some(self.normalizer.clone()),
            eps: self.eps,
            activation: self.activation,
            uniform_attention: Some(self.uniform.0),
            output_projection: Some(self.output_projection.is_none_or(|s| s.0)),
            ..Overrides::default()
        };
        let setting: Setting = overrides.setting()?;
        let shape = Shape {
            width: self.width,
            blocks: self.blocks,
            tokens: self.tokens,
            heads: self.heads,
            ffn_width: self.ffn_width,
            causal: self.causal.0,
        };
        Graph::new(&placement.at(shape)?, &setting, registry)
    }
}
