//! What several subcommands ask for: a placement at a shape, in a setting, on a device.

use std::path::Path;

use candle_core::{DType, Device};
use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::fold::Graph;
use crate::op::Registry;
use crate::spec::{Activation, File, InitLaw, Overrides, Placement, Setting, Shape};
use crate::zoo;

const WIDTH: usize = 128;
const BLOCKS: usize = 8;
const TOKENS: usize = 16;

/// The shape and the setting.
#[derive(Args, Clone, Debug)]
pub struct ShapeArgs {
    /// d, the width of the residual stream.
    #[arg(long, default_value_t = WIDTH)]
    pub width: usize,
    /// N, the number of blocks (attention + FFN).
    #[arg(long, default_value_t = BLOCKS)]
    pub blocks: usize,
    /// Tokens of the one sequence of a draw.
    #[arg(long, default_value_t = TOKENS)]
    pub tokens: usize,
    /// Attention heads [default: the largest divisor of the width up to width/32].
    #[arg(long)]
    pub heads: Option<usize>,
    /// Hidden width of the FFN [default: 4 widths].
    #[arg(long)]
    pub ffn_width: Option<usize>,
    /// The normalizer that `norm` stands for [default: layer_norm].
    #[arg(long)]
    pub normalizer: Option<String>,
    /// Tokens see only those before them.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub causal: Option<bool>,
    /// The FFN's activation [default: relu].
    #[arg(long)]
    pub activation: Option<ActivationArg>,
    /// What is around the placement: standard or xiong [default: standard].
    #[arg(long)]
    pub setting: Option<String>,
    /// eps of every normalizer [default: each one's own].
    #[arg(long, allow_hyphen_values = true)]
    pub eps: Option<f64>,
    /// The law of the weights [default: gaussian].
    #[arg(long)]
    pub init: Option<InitArg>,
    /// W_Q = W_K = 0: every token attends to all it sees alike.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub uniform_attention: Option<bool>,
    /// GPT-2: W_O and W_2 times 1/sqrt(2N).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub scaled_init: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum ActivationArg {
    Relu,
    Gelu,
    Silu,
    Swiglu,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum InitArg {
    Gaussian,
    Uniform,
    TruncatedNormal,
    Orthogonal,
}

/// Table for people, JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

impl ShapeArgs {
    fn overrides(&self) -> Overrides {
        let activation = self.activation.map(|a| match a {
            ActivationArg::Relu => Activation::Relu,
            ActivationArg::Gelu => Activation::Gelu,
            ActivationArg::Silu => Activation::Silu,
            ActivationArg::Swiglu => Activation::Swiglu,
        });
        let init = self.init.map(|i| match i {
            InitArg::Gaussian => InitLaw::Gaussian,
            InitArg::Uniform => InitLaw::Uniform,
            InitArg::TruncatedNormal => InitLaw::TruncatedNormal,
            InitArg::Orthogonal => InitLaw::Orthogonal,
        });
        Overrides {
            name: self.setting.clone(),
            normalizer: self.normalizer.clone(),
            eps: self.eps,
            activation,
            uniform_attention: self.uniform_attention,
            output_projection: None,
            init,
            scaled_init: self.scaled_init,
            causal: self.causal,
            heads: self.heads,
            ffn_width: self.ffn_width,
        }
    }

    /// The options that differ from the defaults, by name.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let sizes = [("width", self.width, WIDTH), ("blocks", self.blocks, BLOCKS), ("tokens", self.tokens, TOKENS)];
        let texts = [
            ("heads", self.heads.map(|n| n.to_string())),
            ("ffn-width", self.ffn_width.map(|n| n.to_string())),
            ("normalizer", self.normalizer.clone()),
            ("causal", self.causal.map(|yes| yes.to_string())),
            ("activation", self.activation.map(named)),
            ("setting", self.setting.clone()),
            ("eps", self.eps.map(|eps| eps.to_string())),
            ("init", self.init.map(named)),
            ("uniform-attention", self.uniform_attention.map(|yes| yes.to_string())),
            ("scaled-init", self.scaled_init.map(|yes| yes.to_string())),
        ];
        let sizes = sizes.into_iter().filter(|(_, size, default)| size != default);
        let sizes = sizes.map(|(name, size, _)| (name, size.to_string()));
        sizes.chain(texts.into_iter().filter_map(|(name, text)| Some((name, text?)))).collect()
    }

    /// The placement's setting and shape: the command line over its file over the defaults.
    pub fn resolve(&self, placement: &Placement) -> Result<(Setting, Shape)> {
        let overrides = self.overrides().over(placement.overrides.clone());
        Ok((overrides.setting()?, overrides.shape(self.width, self.blocks, self.tokens)?))
    }

    /// A generated shape, with what the command line and the placement's file fix about it.
    pub fn fixed(&self, placement: &Placement, shape: Shape) -> Shape {
        let fixed = self.overrides().over(placement.overrides.clone());
        let xiong = fixed.name.as_deref() == Some("xiong");
        let heads = if xiong { 1 } else { shape.heads };
        let ffn_width = if xiong { shape.width } else { shape.ffn_width };
        let heads = fixed.heads.unwrap_or(heads);
        Shape {
            heads,
            width: shape.width.next_multiple_of(heads.max(1)),
            ffn_width: fixed.ffn_width.unwrap_or(ffn_width),
            causal: fixed.causal.unwrap_or(shape.causal),
            ..shape
        }
    }

    /// The network of a placement.
    ///
    /// # Errors
    /// Whatever is wrong with the placement, the shape or the setting.
    pub fn graph(&self, placement: &Placement, registry: &Registry) -> Result<Graph> {
        let (setting, shape) = self.resolve(placement)?;
        Graph::new(&placement.at(shape)?, &setting, registry)
    }
}

/// A value of an option, as it is typed.
pub fn named(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A placement by SPEC: with a `/` or ending in `.toml` a file, else a built-in.
pub fn placement(spec: &str, registry: &Registry) -> Result<Placement> {
    match spec.contains('/') || spec.ends_with(".toml") {
        true => Placement::new(File::read(Path::new(spec))?, &registry.vocabulary()),
        false => zoo::placement(spec, &registry.vocabulary()),
    }
}

/// Several placements; all built-in ones where none is named.
pub fn placements(specs: &[String], registry: &Registry) -> Result<Vec<Placement>> {
    match specs.is_empty() {
        true => zoo::all(&registry.vocabulary()),
        false => specs.iter().map(|spec| placement(spec, registry)).collect(),
    }
}

/// Where and in what precision networks run.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// cpu or cuda:0.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// f32, f64 or bf16.
    #[arg(long, default_value = "f32")]
    pub dtype: DTypeArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DTypeArg {
    F32,
    F64,
    Bf16,
}

impl DeviceArgs {
    /// The device, checked before anything else is.
    ///
    /// # Errors
    /// Those of [`device`].
    pub fn device(&self) -> Result<Device> {
        device(&self.device)
    }

    /// The options that differ from the defaults, by name.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let options = [("device", self.device.clone(), "cpu"), ("dtype", named(self.dtype), "f32")];
        let given = options.into_iter().filter(|(_, value, default)| value != default);
        given.map(|(name, value, _)| (name, value)).collect()
    }

    pub fn dtype(&self) -> DType {
        self.dtype.into()
    }
}

impl From<DTypeArg> for DType {
    fn from(dtype: DTypeArg) -> DType {
        match dtype {
            DTypeArg::F32 => DType::F32,
            DTypeArg::F64 => DType::F64,
            DTypeArg::Bf16 => DType::BF16,
        }
    }
}

/// A precision by the name that `--dtype` takes.
pub fn dtype(name: &str) -> Option<DType> {
    DTypeArg::from_str(name, false).ok().map(DType::from)
}

/// A device by name, checked to be there.
///
/// # Errors
/// [`Error::Device`] where it is not present or not compiled in; [`Error::Option`] for a name that is none.
pub fn device(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let Some(index) = name.strip_prefix("cuda:").and_then(|i| i.parse::<usize>().ok()) else {
        return Err(Error::Option {
            message: format!("unknown device \"{name}\""),
            help: "devices are cpu, cuda:0, cuda:1, ...".into(),
        });
    };
    Device::new_cuda(index).map_err(|e| Error::Device {
        device: name.into(),
        cause: match candle_core::utils::cuda_is_available() {
            false => "this binary was built without the feature cuda".into(),
            true => e.to_string(),
        },
    })
}
