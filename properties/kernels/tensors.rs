//! The operations on tensors: layouts, edge shapes, threads, candle's tape, central differences.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use half::{bf16, f16};
use normative::kernels::{
    Convention, Curve, activation, activation_backward, add_layer_norm, add_rms_norm, layer_norm, norm_backward,
    rms_norm, softmax, softmax_backward,
};
use normative::random::Stream;

use normative::kernels::slices::{Affine, Cotangents, Norm, Path};

use super::cases::{Case, Kind};
use super::judge::{Kernels, backward, forward};
use super::layouts::{layouts, normals};
use super::support::{agree, assert_slope, loss_reach, reach, values};

#[test]
fn views_give_the_bits_of_contiguous_copies() {
    let gain = |x: &Tensor| normals(4, &[x.dim(1)?]).to_dtype(x.dtype());
    let wrap = |r: normative::error::Result<Tensor>| r.map_err(candle_core::Error::wrap);
    layouts(&|x| wrap(layer_norm(x, Some(&gain(x)?), Some(&gain(x)?), 1e-5))).unwrap();
    layouts(&|x| wrap(rms_norm(x, Some(&gain(x)?), Convention::llama(1e-6)))).unwrap();
    layouts(&|x| wrap(norm_backward(true, x, Some(&gain(x)?), x, 1e-5).map(|g| g.input))).unwrap();
    layouts(&|x| wrap(add_rms_norm(x, x, Some(&gain(x)?), 1e-5).map(|(sum, y)| (sum + y).unwrap()))).unwrap();
    layouts(&|x| wrap(softmax(x))).unwrap();
    // The strides of a parameter count, too.
    let x = normals(1, &[4, 5]);
    let column = normals(2, &[5, 3]).narrow(1, 1, 1).unwrap().squeeze(1).unwrap();
    let y = |g: &Tensor| values(&rms_norm(&x, Some(g), 1e-5).unwrap());
    assert_eq!(y(&column), y(&column.contiguous().unwrap()));
}

#[test]
fn empty_tensors_give_empty_tensors_and_gradients() {
    for shape in [&[3usize, 0][..], &[0, 5], &[0], &[2, 0, 4], &[0, 0]] {
        let x = Var::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let gain = Var::ones(shape[shape.len() - 1], DType::F32, &Device::Cpu).unwrap();
        let y = layer_norm(&x, Some(&gain), Some(&gain), 1e-5).unwrap();
        assert_eq!(y.dims(), shape);
        let (sum, y) = add_layer_norm(&x, &y, Some(&gain), None, 1e-5).unwrap();
        assert_eq!((sum.dims(), y.dims()), (shape, shape));
        let grads = norm_backward(true, &x, Some(&gain), &y, 1e-5).unwrap();
        assert_eq!(grads.input.dims(), shape);
        assert!(values(&grads.gain).iter().all(|g| *g == 0.0));
    }
}

#[test]
fn mistakes_are_errors_that_say_what_to_give() {
    let x = normals(1, &[2, 3]);
    let short = normals(1, &[2]);
    let single = normals(1, &[3]).to_dtype(DType::F32).unwrap();
    for eps in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(rms_norm(&x, None, eps).unwrap_err().to_string().contains("eps"));
    }
    assert!(layer_norm(&x, Some(&short), None, 1e-5).unwrap_err().to_string().contains("gain is [2]"));
    assert!(layer_norm(&x, None, Some(&single), 1e-5).unwrap_err().to_string().contains("type f32"));
    assert!(add_rms_norm(&x, &short, None, 1e-5).is_err());
    assert!(rms_norm(&x.to_dtype(DType::I64).unwrap(), None, 1e-5).is_err());
    assert!(rms_norm(&x.get(0).unwrap().get(0).unwrap(), None, 1e-5).is_err());
}

/// To the bit, gradients included, for groups with a gain and bias each.
#[test]
fn a_group_with_its_own_gain_is_normalized_as_if_alone() {
    let (groups, width) = (3, 33);
    for (shape, parameter) in [(&[3, 70, 33][..], &[3, 1, 33][..]), (&[3, 2, 35, 33], &[3, 1, 1, 33])] {
        let [x, residual, dy] = [1, 2, 3].map(|seed| normals(seed, shape).to_dtype(DType::F32).unwrap());
        let [gain, bias] = [4, 5].map(|seed| normals(seed, parameter).to_dtype(DType::F32).unwrap());
        let (gain, bias) = (Var::from_tensor(&gain).unwrap(), Var::from_tensor(&bias).unwrap());
        let y = layer_norm(&x, Some(&gain), Some(&bias), 1e-5).unwrap();
        let (sum, of_sum) = add_layer_norm(&x, &residual, Some(&gain), Some(&bias), 1e-5).unwrap();
        let back = norm_backward(true, &x, Some(&gain), &dy, 1e-5).unwrap();
        let tape = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let (dgain, dbias) = (tape.get(&gain).unwrap(), tape.get(&bias).unwrap());
        assert_eq!([back.gain.dims(), back.bias.dims(), dgain.dims(), dbias.dims()], [parameter; 4]);
        assert_eq!((values(dgain), values(dbias)), (values(&back.gain), values(&back.bias)));
        for g in 0..groups {
            let of = |t: &Tensor| t.get(g).unwrap();
            let row = |t: &Tensor| of(t).flatten_all().unwrap();
            let (own_gain, own_bias) = (row(&gain), row(&bias));
            assert_eq!(own_gain.dims(), [width]);
            let alone = layer_norm(&of(&x), Some(&own_gain), Some(&own_bias), 1e-5).unwrap();
            let both = add_layer_norm(&of(&x), &of(&residual), Some(&own_gain), Some(&own_bias), 1e-5).unwrap();
            let pulled = norm_backward(true, &of(&x), Some(&own_gain), &of(&dy), 1e-5).unwrap();
            for (ours, alone) in [
                (&y, alone),
                (&sum, both.0),
                (&of_sum, both.1),
                (&back.input, pulled.input),
                (&back.gain, pulled.gain),
                (&back.bias, pulled.bias),
            ] {
                assert_eq!(values(&of(ours)), values(&alone), "group {g} of {shape:?}");
            }
        }
    }
    let (x, gain) = (normals(1, &[3, 4, 5]), |shape: &[usize]| normals(2, shape));
    for wrong in [&[2, 1, 5][..], &[3, 4, 5], &[3, 5], &[3, 1, 4]] {
        assert!(rms_norm(&x, Some(&gain(wrong)), 1e-5).is_err(), "{wrong:?}");
    }
    assert!(layer_norm(&x, Some(&gain(&[3, 1, 5])), Some(&gain(&[5])), 1e-5).is_err());
}

/// Bits do not depend on the number of threads.
#[test]
fn threads_do_not_change_a_bit() {
    let x = normals(1, &[700, 129]).to_dtype(DType::F32).unwrap();
    let (gain, dy) =
        (normals(2, &[129]).to_dtype(DType::F32).unwrap(), normals(3, &[700, 129]).to_dtype(DType::F32).unwrap());
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let y = layer_norm(&x, Some(&gain), Some(&gain), 1e-5).unwrap();
            let back = norm_backward(true, &x, Some(&gain), &dy, 1e-5).unwrap();
            let s = softmax(&x).unwrap();
            [y, back.input, back.gain, back.bias, s].map(|t| values(&t))
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}

/// Every half number as a row of width 1 with itself as gain, and beside a second one.
fn every_scalar<S: Kind>(bits: fn(u16) -> S) {
    let finite: Vec<S> = (0..=u16::MAX).map(bits).filter(|x| x.value().is_finite()).collect();
    let subject = Kernels(Path::best());
    for centred in [true, false] {
        for width in [1, 2] {
            let partner = |i: usize| finite[(i * 40_503) % finite.len()];
            let x = finite.iter().enumerate().flat_map(|(i, x)| [*x, partner(i)].into_iter().take(width));
            let x: Vec<f64> = x.map(|x| x.value()).collect();
            let case = Case::<S>::new("every scalar", width, centred, 1e-5, x);
            forward(&subject, &case).unwrap();
            backward(&subject, &case).unwrap();
        }
    }
}

#[test]
fn every_bf16_and_f16_normalizes_within_its_bound() {
    every_scalar(bf16::from_bits);
    every_scalar(f16::from_bits);
}

/// A norm of primitive tensor operations.
fn primitive(x: &Tensor, gain: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let c = match bias {
        Some(_) => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        None => x.clone(),
    };
    let z = c.broadcast_div(&(c.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)?;
    let y = z.broadcast_mul(gain)?;
    bias.map_or(Ok(y.clone()), |b| y.broadcast_add(b))
}

/// Roundings on a path through a norm of rows, forward and back: three sums over the width, one over rows, a few more.
fn roundings(rows: usize, width: usize) -> f64 {
    (3 * width + rows + 32) as f64
}

/// The primitive norm of x + residual: the output and every gradient of `sum r y + sum q (x + residual)`, on the tape.
fn by_tape(all: &[Tensor; 6], centred: bool, dtype: DType) -> Vec<Vec<f64>> {
    let [x, residual, gain, bias, r, q] = all.each_ref().map(|t| t.to_dtype(dtype).unwrap());
    let vars = [x, residual, gain, bias].map(|t| Var::from_tensor(&t).unwrap());
    let sum = (vars[0].as_tensor() + vars[1].as_tensor()).unwrap();
    let y = primitive(&sum, &vars[2], centred.then_some(vars[3].as_tensor()), 1e-5).unwrap();
    let loss = ((&y * &r).unwrap().sum_all().unwrap() + (sum * &q).unwrap().sum_all().unwrap()).unwrap();
    let tape = loss.backward().unwrap();
    let gradients = vars[..if centred { 4 } else { 3 }].iter().map(|var| values(tape.get(var).unwrap()));
    std::iter::once(values(&y)).chain(gradients).collect()
}

#[test]
fn gradients_are_those_of_primitive_operations() {
    for (seed, shape) in [[3usize, 4, 5], [1, 2, 33], [2, 70, 8]].iter().enumerate() {
        let width = shape[2];
        let tensor = |k: u64, shape: &[usize]| normals(100 * seed as u64 + k, shape);
        let all = [
            tensor(0, shape),
            tensor(1, shape),
            tensor(2, &[width]),
            tensor(3, &[width]),
            tensor(4, shape),
            tensor(5, shape),
        ];
        let vars = [&all[0], &all[1], &all[2], &all[3]].map(|t| Var::from_tensor(t).unwrap());
        let [x, residual, gain, bias] = &vars;
        for centred in [true, false] {
            let (sum, y) = match centred {
                true => add_layer_norm(x, residual, Some(gain), Some(bias), 1e-5).unwrap(),
                false => add_rms_norm(x, residual, Some(gain), 1e-5).unwrap(),
            };
            let loss =
                ((&y * &all[4]).unwrap().sum_all().unwrap() + (sum * &all[5]).unwrap().sum_all().unwrap()).unwrap();
            let tape = loss.backward().unwrap();
            let gradients = vars[..if centred { 4 } else { 3 }].iter().map(|var| values(tape.get(var).unwrap()));
            let ours = std::iter::once(values(&y)).chain(gradients);
            let (exact, single) = (by_tape(&all, centred, DType::F64), by_tape(&all, centred, DType::F32));
            for (i, (ours, (exact, single))) in ours.zip(exact.iter().zip(&single)).enumerate() {
                let bound = reach(exact, single, roundings(shape[0] * shape[1], width));
                assert!(agree(Some(&ours), Some(exact), bound), "result {i}, centred {centred}: not within {bound}");
            }
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_central_differences() {
    let (x, gain, bias) = (normals(1, &[5, 12]), normals(2, &[12]), normals(3, &[12]));
    let dot = |a: &Tensor, b: &Tensor| values(&(a * b).unwrap()).iter().sum::<f64>();
    type Moved<'a> = &'a dyn Fn(f64, DType) -> Tensor;
    for seed in 0..3 {
        let r = normals(40 + seed, &[5, 12]);
        let (u, v) = (normals(50 + seed, &[5, 12]), normals(60 + seed, &[12]));
        let check = |slope: f64, output: Moved, what: &str| {
            let (y, single) = (values(&output(0.0, DType::F64)), values(&output(0.0, DType::F32)));
            let error = loss_reach(&y, &single, &values(&r), roundings(1, 12));
            assert_slope(slope, |h| dot(&output(h, DType::F64), &r), error, what);
        };
        let to = |t: &Tensor, d: &Tensor, h: f64, dtype| (t + (d * h).unwrap()).unwrap().to_dtype(dtype).unwrap();
        let still = |t: &Tensor, dtype| t.to_dtype(dtype).unwrap();
        let layer = |x: Tensor, g: Tensor, b: Tensor| layer_norm(&x, Some(&g), Some(&b), 0.1).unwrap();
        let back = norm_backward(true, &x, Some(&gain), &r, 0.1).unwrap();
        check(dot(&back.input, &u), &|h, t| layer(to(&x, &u, h, t), still(&gain, t), still(&bias, t)), "layer_norm x");
        check(
            dot(&back.gain, &v),
            &|h, t| layer(still(&x, t), to(&gain, &v, h, t), still(&bias, t)),
            "layer_norm gain",
        );
        check(
            dot(&back.bias, &v),
            &|h, t| layer(still(&x, t), still(&gain, t), to(&bias, &v, h, t)),
            "layer_norm bias",
        );
        let gemma = |x: Tensor, g: Tensor| rms_norm(&x, Some(&g), Convention::gemma(0.1)).unwrap();
        let back = norm_backward(false, &x, Some(&gain), &r, Convention::gemma(0.1)).unwrap();
        check(dot(&back.input, &u), &|h, t| gemma(to(&x, &u, h, t), still(&gain, t)), "gemma x");
        check(dot(&back.gain, &v), &|h, t| gemma(still(&x, t), to(&gain, &v, h, t)), "gemma gain");
        let back = softmax_backward(&softmax(&x).unwrap(), &r).unwrap();
        check(dot(&back, &u), &|h, t| softmax(&to(&x, &u, h, t)).unwrap(), "softmax");
        let gelu = |x: &Tensor| (x * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?)? * 0.5;
        type Forward<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
        let curves: [(Curve, Forward); 3] =
            [(Curve::Relu, &|x| x.relu()), (Curve::Gelu, &gelu), (Curve::Silu, &|x| x.silu())];
        for (curve, f) in curves {
            let (exact, single) = (values(&f(&x).unwrap()), values(&f(&still(&x, DType::F32)).unwrap()));
            let bound = reach(&exact, &single, roundings(1, 12));
            assert!(agree(Some(&values(&activation(curve, &x).unwrap())), Some(&exact), bound), "{curve:?}");
            let back = activation_backward(curve, &x, &r).unwrap();
            check(dot(&back, &u), &|h, t| f(&to(&x, &u, h, t)).unwrap(), &format!("{curve:?}"));
        }
    }
}

/// Rows of width 64 have a path of their own; one with a further cotangent, which is 0, takes the general one.
#[test]
fn the_narrow_path_has_the_bits_of_the_general_one() {
    let (width, rows) = (64, 70);
    let numbers: Vec<f32> = Stream::new(2, &[]).normals(3 * width * rows).into_iter().map(|v| v as f32).collect();
    let (x, dy) = (&numbers[..width * rows], &numbers[width * rows..2 * width * rows]);
    let affine = Affine { gain: numbers[2 * width * rows..][..width].to_vec(), bias: None };
    let zeros = vec![0f32; x.len()];
    for centred in [true, false] {
        for path in Path::available() {
            let norm = Norm { path: *path, ..Norm::new(width, centred, 1e-5).unwrap() };
            let run = |sum| {
                let mut dx = zeros.clone();
                let strip = norm.backward(x, &affine, Cotangents { output: dy, sum }, None, &mut dx).unwrap();
                (dx, strip.gain, strip.bias)
            };
            assert_eq!(run(None), run(Some(&zeros)), "centred {centred} on {path:?}");
        }
    }
}

/// An output so large that it is written past the caches has the bits of its parts, which are not.
#[test]
fn outputs_past_the_caches_have_the_same_bits() {
    let (width, rows) = (1000, 8600);
    let noise = Stream::new(1, &[]).normals(width * 100);
    let numbers: Vec<f32> = (0..width * rows + 16).map(|i| noise[(i * 7) % noise.len()] as f32).collect();
    let x = &numbers[..width * rows];
    let norm = Norm::new(width, true, 1e-5).unwrap();
    let affine = Affine { gain: numbers[..width].to_vec(), bias: Some(numbers[5..width + 5].to_vec()) };
    let aligned = |v: &[f32]| v.as_ptr().align_offset(64);
    let (mut y, mut dx) = (numbers.clone(), numbers.clone());
    let (at_y, at_dx) = (aligned(&y), aligned(&dx));
    let (y, dx) = (&mut y[at_y..][..width * rows], &mut dx[at_dx..][..width * rows]);
    norm.forward(x, &affine, y, None).unwrap();
    norm.backward(x, &affine, Cotangents { output: x, sum: None }, None, dx).unwrap();
    let part = width * 100;
    for from in (0..width * rows).step_by(part) {
        let (mut small_y, mut small_dx) = (vec![0.0; part], vec![0.0; part]);
        let x = &x[from..from + part];
        norm.forward(x, &affine, &mut small_y, None).unwrap();
        norm.backward(x, &affine, Cotangents { output: x, sum: None }, None, &mut small_dx).unwrap();
        assert!(y[from..from + part] == small_y[..] && dx[from..from + part] == small_dx[..], "from {from}");
    }
}
