//! What predict, sample and measure all give: the figures of one network, by site and parameter.
//!
//! A profile is a list of figures in the order of its [`Layout`], which depends on the placement and the shape
//! only, so that profiles of different kinds compare position by position.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::fold::{Graph, SitePoint};
use crate::op::{Initial, Parameter, Series, Stage};
use crate::spec::Shape;

/// Which interpretation a profile comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Predicted,
    Sampled,
    Measured,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Predicted => "predicted",
            Kind::Sampled => "sampled",
            Kind::Measured => "measured",
        }
    }
}

/// What a figure is of (design section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Mean over tokens and coordinates of x^2.
    SecondMoment,
    /// Mean cosine between pairs of different tokens; does not exist for one token.
    Overlap,
    /// Sum over tokens and coordinates of the squared cotangent; squared Frobenius norm for a parameter.
    Gradient,
}

impl Quantity {
    pub fn word(self) -> &'static str {
        match self {
            Quantity::SecondMoment => "second_moment",
            Quantity::Overlap => "overlap",
            Quantity::Gradient => "gradient",
        }
    }
}

/// Where a figure was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The raw input.
    Input,
    /// A position in [`Layout::sites`].
    Site(usize),
    Output,
    /// A position in [`Layout::parameters`].
    Parameter(usize),
}

/// A parameter of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterPoint {
    /// The position in [`Graph::calls`].
    pub call: usize,
    /// Its position among the parameters of the call.
    pub order: usize,
    pub stage: Stage,
    /// Counted within stage and series, from 1.
    pub index: usize,
    /// `attn`, `ffn`, `norm`, `attend`, or a user's sub-layer.
    pub sublayer: String,
    pub parameter: Parameter,
    /// `block.1.call.2.w_1`.
    pub path: String,
}

/// The figures that a network has, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub placement: String,
    pub normalizer: String,
    pub setting: String,
    pub shape: Shape,
    pub sites: Vec<SitePoint>,
    pub parameters: Vec<ParameterPoint>,
    pub figures: Vec<(Place, Quantity)>,
}

impl Layout {
    pub fn new(graph: &Graph) -> Self {
        let parameters: Vec<ParameterPoint> = (0..graph.calls.len()).flat_map(|c| parameters(graph, c)).collect();
        let mut figures = vec![(Place::Input, Quantity::SecondMoment), (Place::Input, Quantity::Gradient)];
        for site in 0..graph.sites.len() {
            for quantity in [Quantity::SecondMoment, Quantity::Overlap, Quantity::Gradient] {
                figures.push((Place::Site(site), quantity));
            }
        }
        figures.extend([(Place::Output, Quantity::SecondMoment), (Place::Output, Quantity::Overlap)]);
        figures.extend((0..parameters.len()).map(|p| (Place::Parameter(p), Quantity::Gradient)));
        Layout {
            placement: graph.network.placement.name.clone(),
            normalizer: graph.setting.normalizer.clone(),
            setting: graph.setting.name.clone(),
            shape: graph.network.shape,
            sites: graph.sites.clone(),
            parameters,
            figures,
        }
    }

    /// A figure's name for messages: `x block 3 step 1 second_moment`, `block.3.call.1.w_q gradient`.
    pub fn name(&self, figure: usize) -> String {
        let (place, quantity) = self.figures[figure];
        let place = match place {
            Place::Input => "raw input".into(),
            Place::Output => "output".into(),
            Place::Site(s) => match &self.sites[s] {
                SitePoint { stream, block: 0, .. } => format!("{stream} input"),
                SitePoint { stream, block, step, .. } => format!("{stream} block {block} step {step}"),
            },
            Place::Parameter(p) => self.parameters[p].path.clone(),
        };
        format!("{place} {}", quantity.word())
    }
}

fn parameters(graph: &Graph, call: usize) -> Vec<ParameterPoint> {
    let site = &graph.calls[call].site;
    let declared = match &graph.calls[call].op {
        Some(op) => op.parameters(site),
        None => vec![Parameter { name: "query".into(), shape: vec![site.width], initial: Initial::Constant(0.0) }],
    };
    let sublayer = match (&graph.calls[call].op, site.series) {
        (Some(op), Series::Call) => op.name().to_owned(),
        (_, series) => series.word().to_owned(),
    };
    let point = |(order, parameter): (usize, Parameter)| ParameterPoint {
        call,
        order,
        stage: site.stage,
        index: site.index,
        sublayer: sublayer.clone(),
        path: format!("{}.{}", site.path(), parameter.name),
        parameter,
    };
    declared.into_iter().enumerate().map(point).collect()
}

/// One number, with what is known of its error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// `None` where there is none; `reason` says why.
    pub value: Option<f64>,
    /// Standard error over draws; `None` for a prediction and for a single draw.
    pub se: Option<f64>,
    /// For a prediction, how far the truth may lie from it, in the figure's own unit.
    pub law: Option<f64>,
    pub reason: Option<String>,
}

/// All figures of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub kind: Kind,
    pub layout: Layout,
    /// Draws or seeds; `None` for a prediction.
    pub seeds: Option<usize>,
    /// In the order of [`Layout::figures`].
    pub figures: Vec<Figure>,
}

/// The figures of several draws, one row a draw, in the order of [`Layout::figures`].
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    pub kind: Kind,
    pub layout: Layout,
    pub rows: Vec<Vec<f64>>,
}

impl Draws {
    /// Mean and standard error of every figure over the draws.
    pub fn profile(&self) -> Profile {
        let n = self.rows.len() as f64;
        let figure = |i: usize| {
            let (place, quantity) = self.layout.figures[i];
            let mean = self.rows.iter().map(|row| row[i]).sum::<f64>() / n;
            let square = self.rows.iter().map(|row| (row[i] - mean).powi(2)).sum::<f64>();
            let se = (self.rows.len() > 1).then(|| (square / (n - 1.0) / n).sqrt());
            match (quantity, mean.is_finite()) {
                (Quantity::Overlap, _) if self.layout.shape.tokens == 1 => {
                    Figure { reason: Some("one token has no pairs".into()), ..Figure::default() }
                }
                // The second moment of the same value stands before its overlap.
                (Quantity::Overlap, false) if self.rows.iter().all(|row| row[i - 1].is_finite()) => {
                    Figure { reason: Some("a value of zero has no direction".into()), ..Figure::default() }
                }
                (_, false) => Figure {
                    reason: Some(format!("not finite at {place:?}: the {} overflowed", self.layout.name(i))),
                    ..Figure::default()
                },
                (_, true) => Figure { value: Some(mean), se, ..Figure::default() },
            }
        };
        Profile {
            kind: self.kind,
            layout: self.layout.clone(),
            seeds: Some(self.rows.len()),
            figures: (0..self.layout.figures.len()).map(figure).collect(),
        }
    }
}

impl Profile {
    /// A figure by place and quantity.
    pub fn get(&self, place: Place, quantity: Quantity) -> Option<&Figure> {
        let at = self.layout.figures.iter().position(|f| *f == (place, quantity))?;
        self.figures.get(at)
    }

    /// The JSON of design section 4, schema `normative/profile/1`.
    pub fn to_json(&self) -> Value {
        let layout = &self.layout;
        let mut input = Map::new();
        let mut output = Map::new();
        let mut sites = vec![Map::new(); layout.sites.len()];
        let mut parameters = vec![Map::new(); layout.parameters.len()];
        for (map, site) in sites.iter_mut().zip(&layout.sites) {
            map.insert("site".into(), if site.block == 0 { "input" } else { "block" }.into());
            map.insert("block".into(), site.block.into());
            map.insert("step".into(), site.step.into());
        }
        for (map, point) in parameters.iter_mut().zip(&layout.parameters) {
            let (stage, block) = match point.stage {
                Stage::Input => ("input", 0),
                Stage::Block(l) => ("block", l),
                Stage::Output => ("output", layout.shape.blocks + 1),
            };
            map.insert("stage".into(), stage.into());
            map.insert("block".into(), block.into());
            map.insert("call".into(), point.index.into());
            map.insert("sublayer".into(), point.sublayer.clone().into());
            map.insert("name".into(), point.parameter.name.clone().into());
        }
        for ((place, quantity), figure) in layout.figures.iter().zip(&self.figures) {
            let map = match place {
                Place::Input => &mut input,
                Place::Output => &mut output,
                Place::Site(s) => &mut sites[*s],
                Place::Parameter(p) => &mut parameters[*p],
            };
            self.insert(map, quantity.word(), figure);
        }
        let mut streams = Map::new();
        for (site, map) in layout.sites.iter().zip(sites) {
            let entries = streams.entry(site.stream.clone()).or_insert_with(|| json!([]));
            entries.as_array_mut().expect("inserted as an array on the line above").push(Value::Object(map));
        }
        json!({
            "schema": "normative/profile/1",
            "kind": self.kind.word(),
            "placement": layout.placement,
            "normalizer": layout.normalizer,
            "setting": layout.setting,
            "shape": layout.shape,
            "seeds": self.seeds,
            "input": input,
            "streams": streams,
            "output": output,
            "parameters": parameters,
        })
    }

    fn insert(&self, map: &mut Map<String, Value>, word: &str, figure: &Figure) {
        map.insert(word.into(), figure.value.into());
        match self.kind {
            Kind::Predicted => map.insert(format!("{word}_law"), figure.law.into()),
            Kind::Sampled | Kind::Measured => map.insert(format!("{word}_se"), figure.se.into()),
        };
        if let Some(reason) = &figure.reason {
            map.insert("reason".into(), reason.clone().into());
        }
    }
}
