//! Execution against oracles that share no code with it: hand-written placements, candle's autograd of primitive
//! operations, and central differences. All in f64, all within rounding bounds.

mod support;

use approx::assert_abs_diff_eq;
use candle_core::{DType, Device, Tensor, Var};
use normative::execute::{Run, Weights, draw_cotangent, draw_input, forward};
use normative::fold::Graph;
use normative::op::{Gradient, Op, Parameters, Registry, Role, Series, Site, Stage, autograd};
use normative::profile::Layout;
use normative::random::Stream;
use normative::reference::{Around, Block, Canonical, forward as by_hand};
use normative::spec::{Activation, Overrides, Setting, Shape};
use normative::zoo;
use proptest::prelude::*;
use std::sync::Arc;
use support::{Network, agree, assert_slope, config, loss_reach, reach, values};

fn shapes() -> impl Strategy<Value = Shape> {
    (1usize..=4, 1usize..=5, 1usize..=6, 1usize..=4, 1usize..=24, any::<bool>()).prop_map(
        |(heads, d_k, tokens, blocks, ffn_width, causal)| Shape {
            width: heads * (2 * d_k + 1),
            blocks,
            tokens,
            heads,
            ffn_width,
            causal,
        },
    )
}

/// Two routes in f64 agree within what `n` roundings of each explain, as one of them run in f32 shows.
fn assert_same(ours: &Tensor, theirs: &Tensor, single: &Tensor, n: f64, what: &str) {
    let ours = values(ours);
    let bound = 2.0 * reach(&ours, &values(single), n);
    assert!(bound.is_finite() && agree(Some(&ours), Some(&values(theirs)), bound), "{what}: not within {bound}");
}

/// Roundings on the longest path through one op, forward and back: a few sums over the width, the hidden width, tokens
/// and, for a gradient, rows.
fn roundings(shape: Shape, batch: usize) -> f64 {
    2.0 * (4 * shape.width + shape.ffn_width + 4 * shape.tokens + batch * shape.tokens + 32) as f64
}

fn to_single(t: &Tensor) -> Tensor {
    t.to_dtype(DType::F32).unwrap()
}

proptest! {
    #![proptest_config(config(24))]

    /// The built-in of the same name computes what the paper's equations, typed by hand, compute, forward and back.
    #[test]
    fn canonical_placements_equal_the_hand_written_reference(shape in shapes(), centred: bool, seed in 0u64..1000) {
        let registry = Registry::builtin();
        let normalizer = if centred { "layer_norm" } else { "rms_norm" };
        // A width of 1 has no variance: LayerNorm gives 0 and its gradient is all cancellation.
        prop_assume!(shape.width > 2);
        let setting = Overrides { normalizer: Some(normalizer.into()), eps: Some(1e-5), ..Overrides::default() };
        let setting = setting.setting().unwrap();
        for canonical in Canonical::ALL {
            let placement = zoo::placement(canonical.name(), &registry.vocabulary()).unwrap();
            // DeepNorm's init factors are in the weights, which both sides share.
            let graph = Graph::new(&placement.at(shape).unwrap(), &setting, &registry).unwrap();
            let parameters = Weights::new(seed).of(&graph, &Device::Cpu, DType::F64).unwrap();
            let x = draw_input(seed, shape, &Device::Cpu, DType::F64).unwrap();
            let r = draw_cotangent(seed, shape, &Device::Cpu, DType::F64).unwrap();
            let network = Network { graph, parameters, input: x, cotangent: r };
            let (ours, single) = (network.run().unwrap(), network.run_in_f32().unwrap());
            let Network { graph, parameters, input: x, cotangent: r } = &network;
            let (blocks, vars) = blocks(graph, parameters);
            let input = Var::from_tensor(x).unwrap();
            let around = Around { heads: shape.heads, causal: shape.causal, centred, eps: 1e-5 };
            let output = by_hand(canonical, &blocks, around, input.as_tensor()).unwrap();
            let n = network.roundings();
            assert_same(&ours.output, &output, &single.output, n, canonical.name());
            let tape = (output * r).unwrap().sum_all().unwrap().backward().unwrap();
            let (dx, single_dx) = (ours.input_cotangent.as_ref().unwrap(), single.input_cotangent.as_ref().unwrap());
            assert_same(dx, tape.get(&input).unwrap(), single_dx, n, canonical.name());
            for (point, var) in weight_points(graph).zip(&vars) {
                let gradient = |run: &Run| run.gradients[point.0][point.1].tensor().unwrap();
                assert_same(&gradient(&ours), tape.get(var).unwrap(), &gradient(&single), n, &point.2);
            }
        }
    }

    /// Every built-in op's vjp is the transposed derivative of its forward pass: candle's autograd of the same
    /// primitive operations gives the same cotangents, of the input and of every parameter.
    #[test]
    fn every_vjp_equals_autograd(shape in shapes(), batch in 1usize..3, seed in 0u64..1000) {
        for (name, op, site) in every_op(shape) {
            let (parameters, x, dy) = random_call(op.as_ref(), &site, batch, seed);
            let (_, saved) = op.forward_saving(&site, &parameters, &x).unwrap();
            let ours = op.vjp(&site, &parameters, &x, &saved, &dy).unwrap();
            let tape = autograd(op.as_ref(), &site, &parameters, &x, &dy).unwrap();
            let single = {
                let named = parameters.iter().map(|(name, t)| (name.to_owned(), to_single(t)));
                let (parameters, x) = (Parameters::new(named.collect()), to_single(&x));
                let (_, saved) = op.forward_saving(&site, &parameters, &x).unwrap();
                op.vjp(&site, &parameters, &x, &saved, &to_single(&dy)).unwrap()
            };
            let n = roundings(shape, batch);
            assert_same(&ours.input, &tape.input, &single.input, n, &name);
            prop_assert_eq!(ours.parameters.len(), op.parameters(&site).len(), "{}", name);
            for (i, (ours, parameter)) in ours.parameters.iter().zip(op.parameters(&site)).enumerate() {
                let gradient = ours.tensor().unwrap();
                prop_assert_eq!(gradient.elem_count(), parameter.shape.iter().product::<usize>());
                let what = format!("{name} {}", parameter.name);
                let [theirs, single] = [&tape, &single].map(|vjp| vjp.parameters[i].tensor().unwrap());
                assert_same(&gradient, &theirs, &single, n, &what);
                // Both ways to the norm round products of the same numbers.
                let square = |t: &Tensor| values(t).iter().map(|v| v * v).sum::<f64>();
                let terms = match ours {
                    Gradient::Tensor(t) => square(t),
                    Gradient::Outer { x, d } => square(x) * square(d),
                };
                let norm = ours.squared_norms(1).unwrap().to_vec1::<f64>().unwrap()[0];
                assert_abs_diff_eq!(norm, square(&gradient), epsilon = n * f64::EPSILON * terms);
            }
        }
    }
}

/// The weights by block, as variables that candle's tape follows, and those variables in the order of the layout.
fn blocks(graph: &Graph, parameters: &[Parameters]) -> (Vec<Block>, Vec<Var>) {
    let vars: Vec<Var> = weight_points(graph)
        .map(|(call, order, _)| Var::from_tensor(parameters[call].iter().nth(order).unwrap().1).unwrap())
        .collect();
    let tensor = |i: usize| vars[i].as_tensor().clone();
    let block = |i: usize| Block {
        w_q: tensor(i),
        w_k: tensor(i + 1),
        w_v: tensor(i + 2),
        w_o: tensor(i + 3),
        w_1: tensor(i + 4),
        w_2: tensor(i + 5),
    };
    ((0..vars.len()).step_by(6).map(block).collect(), vars)
}

/// Call, order within it and path of every weight matrix, in order of evaluation.
fn weight_points(graph: &Graph) -> impl Iterator<Item = (usize, usize, String)> {
    let points = Layout::new(graph).parameters;
    points.into_iter().filter(|p| p.parameter.name.starts_with("w_")).map(|p| (p.call, p.order, p.path))
}

/// Every op of the registry, sub-layers with every inner norm and every activation.
fn every_op(shape: Shape) -> Vec<(String, Arc<dyn Op>, Site)> {
    let registry = Registry::builtin();
    let site = |setting: Setting, inner: Vec<(String, Arc<dyn Op>)>| Site {
        stage: Stage::Block(1),
        series: Series::Call,
        index: 1,
        width: shape.width,
        shape,
        setting: Arc::new(setting),
        factors: Arc::new(vec![("w_v".into(), 0.5)]),
        inner,
        within: None,
    };
    let norm = |name: &str| registry.get(name, Role::Normalizer).unwrap();
    let mut all = Vec::new();
    for op in registry.iter() {
        let standard = Setting::standard();
        if op.role() == Role::Normalizer {
            all.push((op.name().to_owned(), op.clone(), site(standard, vec![])));
            continue;
        }
        for activation in [Activation::Relu, Activation::Gelu, Activation::Silu, Activation::Swiglu] {
            let setting = Setting { activation, ..Setting::standard() };
            all.push((format!("{} {activation:?}", op.name()), op.clone(), site(setting, vec![])));
        }
        for slot in op.slots() {
            for inner in ["layer_norm", "rms_norm", "dyt"] {
                let given = vec![((*slot).to_owned(), norm(inner))];
                let name = format!("{} {slot} = {inner}", op.name());
                all.push((name, op.clone(), site(Setting::standard(), given)));
            }
        }
        let bare = Setting { uniform_attention: true, output_projection: false, ..Setting::standard() };
        all.push((format!("{} xiong", op.name()), op.clone(), site(bare, vec![])));
    }
    all
}

/// Random parameters, input and cotangent, none at a special value.
fn random_call(op: &dyn Op, site: &Site, batch: usize, seed: u64) -> (Parameters, Tensor, Tensor) {
    let mut stream = Stream::new(seed, &[99]);
    let mut draw = |shape: &[usize], around: f64, spread: f64| {
        let values = stream.normals(shape.iter().product()).into_iter().map(|z| around + spread * z).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let named = op.parameters(site).into_iter().map(|p| {
        let weight = p.name.starts_with("w_");
        let spread = if weight { (p.shape[0] as f64).powf(-0.5) } else { 0.2 };
        (p.name.clone(), draw(&p.shape, if weight { 0.0 } else { 0.8 }, spread))
    });
    let parameters = Parameters::new(named.collect());
    let shape = [batch, site.shape.tokens, site.width];
    (parameters, draw(&shape, 0.1, 1.5), draw(&shape, 0.0, 1.0))
}

/// <cotangent of the input, u> and <gradient of each parameter, U> equal central differences of <cotangent, output>
/// along random directions, for every built-in placement.
#[test]
fn gradients_of_every_built_in_equal_central_differences() {
    let registry = Registry::builtin();
    let shape = Shape { width: 12, blocks: 2, tokens: 4, heads: 2, ffn_width: 16, causal: true };
    let smooth = [Activation::Gelu, Activation::Swiglu, Activation::Silu].into_iter().cycle();
    {
        for (placement, activation) in zoo::all(&registry.vocabulary()).unwrap().into_iter().zip(smooth) {
            let setting = Setting { activation, ..placement.overrides.setting().unwrap() };
            let graph = Graph::new(&placement.at(shape).unwrap(), &setting, &registry).unwrap();
            let parameters = perturbed(Weights::new(1).of(&graph, &Device::Cpu, DType::F64).unwrap());
            let x = draw_input(1, shape, &Device::Cpu, DType::F64).unwrap();
            let r = draw_cotangent(1, shape, &Device::Cpu, DType::F64).unwrap();
            let network = Network { graph, parameters, input: x, cotangent: r };
            let (run, single) = (network.run().unwrap(), network.run_in_f32().unwrap());
            let n = network.roundings();
            let error = loss_reach(&values(&run.output), &values(&single.output), &values(&network.cotangent), n);
            let Network { graph, parameters, input: x, cotangent: r } = &network;
            let loss = |p: &[Parameters], x: &Tensor| -> f64 {
                let y = forward(graph, p, x).unwrap();
                values(&(y * r).unwrap()).iter().sum()
            };
            let mut stream = Stream::new(2, &[]);
            let mut direction = |like: &Tensor| {
                Tensor::from_vec(stream.normals(like.elem_count()), like.shape(), &Device::Cpu).unwrap()
            };
            let dot = |a: &Tensor, b: &Tensor| -> f64 { values(&(a * b).unwrap()).iter().sum() };
            let u = direction(x);
            let along = |h: f64| loss(parameters, &(x + (&u * h).unwrap()).unwrap());
            let slope = run.input_cotangent.as_ref().map_or(0.0, |g| dot(g, &u));
            assert_slope(slope, along, error, &format!("{} input", placement.name));
            for point in &Layout::new(graph).parameters {
                let value = parameters[point.call].iter().nth(point.order).unwrap().1;
                let u = direction(value);
                let moved = |h: f64| {
                    let mut all = parameters.clone();
                    let named = parameters[point.call].iter().enumerate().map(|(i, (name, t))| {
                        let t = if i == point.order { (t + (&u * h).unwrap()).unwrap() } else { t.clone() };
                        (name.to_owned(), t)
                    });
                    all[point.call] = Parameters::new(named.collect());
                    loss(&all, x)
                };
                let gradient = run.gradients[point.call].get(point.order).map(Gradient::tensor);
                let slope = gradient.map_or(0.0, |g| dot(&g.unwrap(), &u));
                assert_slope(slope, moved, error, &format!("{} {}", placement.name, point.path));
            }
        }
    }
}

/// Parameters away from their initial values, so that no gain is 1 and no query is 0.
fn perturbed(all: Vec<Parameters>) -> Vec<Parameters> {
    let mut stream = Stream::new(3, &[]);
    let mut moved = |t: &Tensor| {
        let noise = Tensor::from_vec(stream.normals(t.elem_count()), t.shape(), &Device::Cpu).unwrap();
        (t + (noise * 0.1).unwrap()).unwrap()
    };
    all.into_iter().map(|p| Parameters::new(p.iter().map(|(n, t)| (n.to_owned(), moved(t))).collect())).collect()
}
