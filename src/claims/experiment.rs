//! Experiments that claims share: a network's figures, drawn once in a run, and read by place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::claims::Lab;
use crate::error::{Error, Result};
use crate::execute::{Measurement, measure};
use crate::fold::Graph;
use crate::op::Registry;
use crate::profile::{Draws, Kind, Place, Quantity};
use crate::sample::sample;
use crate::spec::{File, Overrides, Placement, Setting, Shape};
use crate::zoo;

/// A placement with all that is around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub placement: Placement,
    pub setting: Setting,
    pub shape: Shape,
}

impl Network {
    /// A built-in placement in the setting of Xiong et al.: one head, uniform attention, an FFN as wide as the stream.
    ///
    /// # Errors
    /// A name that no built-in placement has.
    pub fn xiong(registry: &Registry, name: &str, width: usize, blocks: usize, tokens: usize) -> Result<Network> {
        Network::xiong_of(zoo::placement(name, &registry.vocabulary())?, width, blocks, tokens)
    }

    /// Any placement in that setting.
    ///
    /// # Errors
    /// None: the setting is a known one.
    pub fn xiong_of(placement: Placement, width: usize, blocks: usize, tokens: usize) -> Result<Network> {
        let setting = Overrides { name: Some("xiong".into()), ..Overrides::default() };
        Ok(Network { placement, shape: setting.shape(width, blocks, tokens)?, setting: setting.setting()? })
    }

    /// The network as nodes.
    ///
    /// # Errors
    /// A shape that the placement cannot have.
    pub fn graph(&self, registry: &Registry) -> Result<Graph> {
        Graph::new(&self.placement.at(self.shape)?, &self.setting, registry)
    }
}

/// A placement from the text of its file, for claims about equations that are not in the zoo.
///
/// # Errors
/// What is wrong with the text, with its place.
pub fn placement(text: &str, registry: &Registry) -> Result<Placement> {
    Placement::new(File::parse("claim.toml", text)?, &registry.vocabulary())
}

/// The draws of a run by what was drawn, so that claims about one network share them.
#[derive(Debug, Default)]
pub struct Experiments(Mutex<HashMap<String, Arc<Curves>>>);

impl Experiments {
    /// What stands under this key, or what `draw` gives. Two threads that ask at once may both draw: the same bits, and
    /// no thread waits for another.
    fn once(&self, key: String, draw: impl FnOnce() -> Result<Draws>) -> Result<Arc<Curves>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(curves) = known().get(&key).cloned() {
            return Ok(curves);
        }
        let curves = Arc::new(Curves { draws: draw()? });
        Ok(known().entry(key).or_insert(curves).clone())
    }
}

impl Lab<'_> {
    /// Figures from the exact law, without weights: for any depth and width.
    ///
    /// # Errors
    /// A shape that the placement cannot have; a network that the law does not cover.
    pub fn sampled(&self, network: &Network, draws: usize) -> Result<Arc<Curves>> {
        self.experiments.once(key(Kind::Sampled, network, draws, self.seed), || {
            sample(&network.graph(self.registry)?, draws, self.seed)
        })
    }

    /// Figures of networks with weights, on the run's device.
    ///
    /// # Errors
    /// A shape that the placement cannot have; a tensor operation that fails.
    pub fn measured(&self, network: &Network, seeds: usize) -> Result<Arc<Curves>> {
        let key = key(Kind::Measured, network, seeds, self.seed);
        self.experiments.once(key, || measure(&network.graph(self.registry)?, &self.measurement(seeds)))
    }

    /// Of so many networks of the run, on its device.
    pub fn measurement(&self, seeds: usize) -> Measurement {
        Measurement { seeds, first_seed: self.seed, device: self.device.clone(), dtype: self.dtype }
    }
}

fn key(kind: Kind, network: &Network, draws: usize, seed: u64) -> String {
    format!("{} {draws} {seed} {network:?}", kind.word())
}

/// The figures of a network, each as one value a draw, in the order of the draws.
#[derive(Debug)]
pub struct Curves {
    pub draws: Draws,
}

impl Curves {
    /// A figure of stream `x` behind block `l`; behind block 0 it is the input to block 1.
    ///
    /// # Errors
    /// A block in which `x` is not written.
    pub fn at(&self, block: usize, quantity: Quantity) -> Result<Vec<f64>> {
        self.stream("x", block, quantity)
    }

    /// A figure of a stream behind its last assignment in a block.
    ///
    /// # Errors
    /// A block in which the stream is not written.
    pub fn stream(&self, name: &str, block: usize, quantity: Quantity) -> Result<Vec<f64>> {
        let site = self.draws.layout.sites.iter().rposition(|s| s.stream == name && s.block == block);
        self.values(site.map(Place::Site), quantity, || format!("{name} block {block}"))
    }

    /// The squared norm of a parameter's gradient: `block.3.call.2.w_2`.
    ///
    /// # Errors
    /// A parameter that the network does not have.
    pub fn gradient(&self, path: &str) -> Result<Vec<f64>> {
        let point = self.draws.layout.parameters.iter().position(|p| p.path == path);
        self.values(point.map(Place::Parameter), Quantity::Gradient, || path.to_owned())
    }

    /// A figure of the network's output; it has no gradient, which would be the cotangent itself.
    ///
    /// # Errors
    /// A gradient.
    pub fn output(&self, quantity: Quantity) -> Result<Vec<f64>> {
        self.values(Some(Place::Output), quantity, || "the output".into())
    }

    /// One value a draw from the figures of that draw.
    pub fn per_draw<const N: usize>(figures: [Vec<f64>; N], value: impl Fn([f64; N]) -> f64) -> Vec<f64> {
        let draws = figures.iter().map(Vec::len).min().unwrap_or(0);
        (0..draws).map(|draw| value(std::array::from_fn(|figure| figures[figure][draw]))).collect()
    }

    fn values(&self, place: Option<Place>, quantity: Quantity, name: impl Fn() -> String) -> Result<Vec<f64>> {
        let figure = place.and_then(|place| self.draws.layout.figures.iter().position(|f| *f == (place, quantity)));
        let missing = || Error::Option {
            message: format!("{} has no {} of {}", self.draws.layout.placement, quantity.word(), name()),
            help: "`normative sample --format json` shows the figures that a placement has".into(),
        };
        let figure = figure.ok_or_else(missing)?;
        Ok(self.draws.rows.iter().map(|row| row[figure]).collect())
    }
}
