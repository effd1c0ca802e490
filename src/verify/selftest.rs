//! Does a device compute what the host computes? Every op, every placement, recorded networks, bits of weights, and whether
//! the device repeats itself.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::execute::{Run, Seeds, Weights, draw_cotangent, draw_input, run};
use crate::fold::Graph;
use crate::op::Registry;
use crate::profile::Layout;
use crate::spec::{File, Overrides, Placement, Setting, Shape};
use crate::verify::parity;
use crate::verify::rounding::{bound, relative_error, roundings};
use crate::zoo;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Weights and inputs, bit by bit.
    Weights,
    /// One op in a network of one block.
    Op,
    /// A built-in placement.
    Placement,
    /// A recorded network of another framework.
    Fixture,
    /// The same network ten times.
    Repeats,
    /// The quick tier of claims.
    Verdicts,
}

impl Part {
    pub const ALL: [Part; 6] = [Part::Weights, Part::Op, Part::Placement, Part::Fixture, Part::Repeats, Part::Verdicts];

    pub fn word(self) -> &'static str {
        match self {
            Part::Weights => "weights",
            Part::Op => "ops",
            Part::Placement => "placements",
            Part::Fixture => "fixtures",
            Part::Repeats => "repeats",
            Part::Verdicts => "verdicts",
        }
    }
}

/// One comparison, at the result that comes nearest to its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub part: Part,
    /// `pre-ln f64`.
    pub name: String,
    /// The result with the largest error over bound: `output`, `gradient block.1.call.1.w_q`.
    pub result: String,
    /// Relative to the result's largest number; for bits and repeats the number of results that differ.
    pub error: f64,
    /// The largest error that rounding explains.
    pub bound: f64,
}

impl Probe {
    pub fn differs(&self) -> bool {
        // A NaN differs.
        self.error.is_nan() || self.error > self.bound
    }

    /// How much of its bound the error uses.
    pub fn ratio(&self) -> f64 {
        match () {
            () if self.error.is_nan() => f64::INFINITY,
            () if self.error == 0.0 => 0.0,
            () => self.error / self.bound,
        }
    }
}

/// The networks that run side by side on the device.
const NETWORKS: Seeds = Seeds { first: 0, count: 3 };
/// An odd number of tokens and a width that no vector divides, so that no tail is left out.
const SHAPE: Shape = Shape { width: 78, blocks: 2, tokens: 7, heads: 3, ffn_width: 157, causal: false };
/// How often a network is run for [`Part::Repeats`].
const REPEATS: usize = 10;

/// Sub-layers with every inner norm and activation that they take.
const CALLS: [(&str, &str); 12] = [
    ("attn", "attn(x)"),
    ("attn, causal", "attn(x)"),
    ("attn, qk = layer_norm", "attn(x, qk = layer_norm)"),
    ("attn, qkv = rms_norm", "attn(x, qkv = rms_norm)"),
    ("attn, qk_wide = rms_norm", "attn(x, qk_wide = rms_norm)"),
    ("attn, out = gemma_norm", "attn(x, out = gemma_norm)"),
    ("ffn, relu", "ffn(x)"),
    ("ffn, gelu", "ffn(x)"),
    ("ffn, silu", "ffn(x)"),
    ("ffn, swiglu", "ffn(x)"),
    ("ffn, hidden = layer_norm", "ffn(x, hidden = layer_norm)"),
    ("attend", "attend(history) + ffn(x)"),
];

/// Every op of a registry on a device, forward and back, against the host in f64.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn ops(registry: &Registry, device: &Device) -> Result<Vec<Probe>> {
    let normalizers = registry.vocabulary().normalizers;
    let normalizers = normalizers.iter().map(|name| (name.clone(), format!("{name}(x)")));
    let calls = CALLS.iter().map(|(name, formula)| ((*name).to_owned(), (*formula).to_owned()));
    let each = |(name, formula): (String, String)| -> Result<Vec<Probe>> {
        let text = format!("name = \"op\"\nlayer = \"\"\"\nx = 0.5*x + {formula}\n\"\"\"");
        let placement = Placement::new(File::parse(&name, &text)?, &registry.vocabulary())?;
        let activation = name.strip_prefix("ffn, ").filter(|rest| !rest.contains('='));
        let activation = activation.and_then(|a| serde_json::from_value(a.into()).ok());
        let setting = Overrides { activation, ..Overrides::default() }.setting()?;
        let shape = Shape { causal: name.ends_with("causal"), blocks: 1, ..SHAPE };
        network(Part::Op, &name, &placement, shape, &setting, registry, device)
    };
    Ok(normalizers.chain(calls).map(each).collect::<Result<Vec<_>>>()?.concat())
}

/// Every built-in placement on a device, forward and back, against the host in f64.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn placements(registry: &Registry, device: &Device) -> Result<Vec<Probe>> {
    let each = |placement: &Placement| {
        let (setting, shape) = at(placement)?;
        network(Part::Placement, &placement.name, placement, shape, &setting, registry, device)
    };
    Ok(zoo::all(&registry.vocabulary())?.iter().map(each).collect::<Result<Vec<_>>>()?.concat())
}

/// A placement's own setting, and its shape with the sizes of this test.
fn at(placement: &Placement) -> Result<(Setting, Shape)> {
    let overrides = placement.overrides.clone();
    let shape = overrides.shape(SHAPE.width, SHAPE.blocks, SHAPE.tokens)?;
    Ok((overrides.setting()?, shape))
}

/// One placement, in f64 and in f32: the device's stack of networks against each of them alone on the host.
fn network(
    part: Part,
    name: &str,
    placement: &Placement,
    shape: Shape,
    setting: &Setting,
    registry: &Registry,
    device: &Device,
) -> Result<Vec<Probe>> {
    let graph = Graph::new(&placement.at(shape)?, setting, registry)?;
    let n = roundings(&graph, 1);
    let alone = |i: usize, dtype| results(&graph, (NETWORKS.first + i as u64).into(), &Device::Cpu, dtype);
    let exact = (0..NETWORKS.count).into_par_iter().map(|i| alone(i, DType::F64)).collect::<Result<Vec<_>>>()?;
    let single = (0..NETWORKS.count).into_par_iter().map(|i| alone(i, DType::F32)).collect::<Result<Vec<_>>>()?;
    let judge = |dtype: DType| -> Result<Probe> {
        let stacked = results(&graph, NETWORKS, device, dtype)?;
        let mut worst: Option<Probe> = None;
        for i in 0..NETWORKS.count {
            for (((result, exact), (_, single)), (_, ours)) in exact[i].iter().zip(&single[i]).zip(&stacked) {
                let (error, reach) = match (exact, single, ours) {
                    (Some(exact), Some(single), Some(ours)) => {
                        let ours = ours.reshape((NETWORKS.count, ())).and_then(|t| t.get(i));
                        let error = ours.and_then(|t| relative_error(&t, exact)).map_err(Error::at(result))?;
                        (error, relative_error(single, exact).map_err(Error::at(result))?)
                    }
                    (None, _, None) => continue,
                    _ => (f64::NAN, 0.0),
                };
                let name = format!("{name} {}", dtype.as_str());
                let probe = Probe { part, name, result: result.clone(), error, bound: bound(n, dtype, reach) };
                if worst.as_ref().is_none_or(|w| probe.ratio() > w.ratio()) {
                    worst = Some(probe);
                }
            }
        }
        worst.ok_or_else(|| Error::Refused {
            subject: name.into(),
            reason: "the network has no result to compare".into(),
            help: "give a placement that writes its stream".into(),
        })
    };
    [DType::F64, DType::F32].into_iter().map(judge).collect()
}

/// Named tensors of a run; `None` where the loss does not depend on one.
type Results = Vec<(String, Option<Tensor>)>;

fn results(graph: &Graph, seeds: Seeds, device: &Device, dtype: DType) -> Result<Results> {
    let shape = graph.network.shape;
    let parameters = Weights::new(seeds).of(graph, device, dtype)?;
    let input = draw_input(seeds, shape, device, dtype)?;
    let Run { output, site_cotangents, input_cotangent, gradients, .. } =
        run(graph, &parameters, &input, &draw_cotangent(seeds, shape, device, dtype)?)?;
    let mut results = vec![("output".to_owned(), Some(output)), ("gradient input".to_owned(), input_cotangent)];
    for (site, cotangent) in graph.sites.iter().zip(site_cotangents) {
        results.push((format!("gradient {} block {} step {}", site.stream, site.block, site.step), cotangent));
    }
    for point in &Layout::new(graph).parameters {
        let gradient = gradients[point.call].get(point.order).map(|g| g.tensor()).transpose();
        results.push((format!("gradient {}", point.path), gradient.map_err(Error::at(&point.path))?));
    }
    Ok(results)
}

/// Weights, input and cotangent of a network on a device, bit for bit those of the host.
///
/// # Errors
/// A tensor that the device cannot hold.
pub fn weights(registry: &Registry, device: &Device) -> Result<Vec<Probe>> {
    let placement = zoo::placement("deepnorm", &registry.vocabulary())?;
    let (setting, shape) = at(&placement)?;
    let graph = Graph::new(&placement.at(shape)?, &setting, registry)?;
    let numbers = |device: &Device, dtype: DType| -> Result<Vec<Vec<f64>>> {
        let parameters = Weights::new(NETWORKS).of(&graph, device, dtype)?;
        let weights = parameters.iter().flat_map(|p| p.iter().map(|(_, t)| t.clone()).collect::<Vec<_>>());
        let drawn = [draw_input(NETWORKS, shape, device, dtype)?, draw_cotangent(NETWORKS, shape, device, dtype)?];
        weights.chain(drawn).map(|t| host(&t)).collect()
    };
    let judge = |dtype: DType| -> Result<Probe> {
        let (ours, theirs) = (numbers(device, dtype)?, numbers(&Device::Cpu, dtype)?);
        let different = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        let name = format!("weights {}", dtype.as_str());
        Ok(Probe { part: Part::Weights, name, result: "bits".into(), error: different as f64, bound: 0.0 })
    };
    [DType::F64, DType::F32, DType::BF16].into_iter().map(judge).collect()
}

/// Ten runs of every built-in placement in f32 give the same bits.
///
/// # Errors
/// A tensor operation that fails, with its site.
pub fn repeats(registry: &Registry, device: &Device) -> Result<Vec<Probe>> {
    let each = |placement: &Placement| -> Result<Probe> {
        let (setting, shape) = at(placement)?;
        let graph = Graph::new(&placement.at(shape)?, &setting, registry)?;
        let numbers = || -> Result<Vec<Option<Vec<f64>>>> {
            let all = results(&graph, NETWORKS, device, DType::F32)?;
            all.into_iter().map(|(_, t)| t.map(|t| host(&t)).transpose()).collect()
        };
        let first = numbers()?;
        let mut different = 0;
        for _ in 1..REPEATS {
            different += numbers()?.iter().zip(&first).filter(|(a, b)| a != b).count();
        }
        let name = format!("{} f32", placement.name);
        Ok(Probe { part: Part::Repeats, name, result: "bits".into(), error: different as f64, bound: 0.0 })
    };
    zoo::all(&registry.vocabulary())?.iter().map(each).collect()
}

fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    let numbers = || tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1();
    numbers().map_err(Error::at("a result"))
}

/// The recorded networks of a folder, replayed on a device in f64.
///
/// # Errors
/// A folder that cannot be read or has no fixture; a file that is none.
pub fn fixtures(folder: &Path, registry: &Registry, device: &Device) -> Result<Vec<Probe>> {
    let bad = |cause: String| Error::File {
        path: folder.into(),
        cause,
        help: "give the folder of recorded networks (*.safetensors), properties/fixtures in the repository".into(),
    };
    let entries = std::fs::read_dir(folder).map_err(|e| bad(e.to_string()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    if paths.is_empty() {
        return Err(bad("the folder has no *.safetensors".into()));
    }
    let probe = |path: &std::path::PathBuf| -> Result<Probe> {
        let parity = parity(path, registry, device)?;
        let name = format!("{}, {}", parity.file, parity.framework);
        let worst = parity.worst().map(|t| (t.name.clone(), t.error, t.bound));
        let (result, error, bound) = worst.unwrap_or(("no tensor".into(), f64::NAN, 0.0));
        Ok(Probe { part: Part::Fixture, name, result, error, bound })
    };
    paths.iter().map(probe).collect()
}
