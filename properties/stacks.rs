//! Networks stacked side by side for one launch are, each of them, the network that runs alone.

use candle_core::Tensor;
use normative::execute::{Seeds, Values};
use normative::op::Registry;
use normative::spec::{Overrides, Placement, Setting, Shape};
use normative::zoo;

mod support;

use support::{Network, agree, placement, reach};

const SHAPE: Shape = Shape { width: 24, blocks: 3, tokens: 5, heads: 3, ffn_width: 40, causal: true };
const NETWORKS: usize = 3;

/// Every op with parameters, in every place that it can stand.
const PLACES: [&str; 4] = [
    "x = dyt(x) + attn(gemma_norm(x), qk = norm, out = rms_norm)\nx = derf(x) + ffn(scale_norm(x), hidden = norm)",
    "x = x + attn(l2_norm(x), qkv = gemma_norm)\nx = x + ffn(identity(x), hidden = dyt)",
    "x = x + attn(norm(x), qk_wide = scale_norm)\nx = attend(history) + ffn(x)",
    "x = mean(history(x)) + attn(norm(x))\nx = x + stop_gradient(norm(x)) + ffn(x)",
];

/// What differs by more than rounding between a stack of three networks and each of them alone.
fn differences(placement: &Placement, setting: &Setting, registry: &Registry, moved: bool) -> Vec<String> {
    let first = 7;
    let stack = Seeds { first, count: NETWORKS };
    let mut stack = Network::new(placement, SHAPE, setting, registry, stack).unwrap();
    if moved {
        stack.input = (stack.input * 1.001).unwrap();
    }
    let together = stack.results(&stack.run().unwrap());
    let mut wrong = Vec::new();
    for index in 0..NETWORKS {
        let alone = Network::new(placement, SHAPE, setting, registry, first + index as u64).unwrap();
        let exact = alone.results(&alone.run().unwrap());
        let single = alone.results(&alone.run_in_f32().unwrap());
        for (((name, exact), (_, single)), (_, together)) in exact.iter().zip(&single).zip(&together) {
            let part = together.as_ref().map(|all| {
                let length = all.len() / NETWORKS;
                &all[index * length..(index + 1) * length]
            });
            let bound = match (exact, single) {
                (Some(exact), Some(single)) => reach(exact, single, alone.roundings()),
                _ => 0.0,
            };
            if !agree(exact.as_deref(), part, bound) {
                wrong.push(format!("{}, network {index}: {name}", placement.name));
            }
        }
    }
    wrong
}

#[test]
fn a_stack_of_networks_is_each_of_them_alone() {
    let registry = Registry::builtin();
    let setting =
        |normalizer: &str| Overrides { normalizer: Some(normalizer.into()), ..Overrides::default() }.setting();
    for placement in zoo::all(&registry.vocabulary()).unwrap() {
        let wrong = differences(&placement, &placement.overrides.setting().unwrap(), &registry, false);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    for layer in PLACES {
        let text = format!("name = \"places\"\nlayer = \"\"\"\n{layer}\n\"\"\"\noutput = \"norm(x)\"");
        let placement = placement(&text, &registry).unwrap();
        for normalizer in ["layer_norm", "derf"] {
            let wrong = differences(&placement, &setting(normalizer).unwrap(), &registry, false);
            assert!(wrong.is_empty(), "{wrong:#?}");
        }
    }
}

#[test]
fn the_values_of_a_stack_are_those_of_its_networks() {
    let registry = Registry::builtin();
    let placement = zoo::placement("pre-ln", &registry.vocabulary()).unwrap();
    let setting = placement.overrides.setting().unwrap();
    let stack = Network::new(&placement, SHAPE, &setting, &registry, Seeds { first: 7, count: NETWORKS }).unwrap();
    let run = stack.run().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let each = run.values(NETWORKS).unwrap();
    let joined =
        |of: &dyn Fn(&Values) -> Tensor| each.iter().flat_map(|values| flat(&of(values))).collect::<Vec<f64>>();
    assert_eq!(joined(&|values| values.output.clone()), flat(&run.output));
    for site in 0..run.sites.len() {
        assert_eq!(joined(&|values| values.sites[site].clone()), flat(&run.sites[site]));
        let cotangent = run.site_cotangents[site].as_ref().unwrap();
        assert_eq!(joined(&|values| values.site_cotangents[site].clone().unwrap()), flat(cotangent));
    }
    assert_ne!(flat(&each[0].output), flat(&each[1].output));
}

#[test]
fn a_stack_whose_input_is_off_by_a_thousandth_differs() {
    let registry = Registry::builtin();
    for placement in zoo::all(&registry.vocabulary()).unwrap() {
        let wrong = differences(&placement, &placement.overrides.setting().unwrap(), &registry, true);
        assert!(!wrong.is_empty(), "{}", placement.name);
    }
}
