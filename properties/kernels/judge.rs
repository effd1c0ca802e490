//! Judges any implementation of a norm against the oracle, within the derived bounds.

use normative::kernels::slices::{Affine, CHUNK, Cotangents, Norm, Path};
use normative::kernels::{Cast, Convention};
use normative::verify::conformance::{Dd, Formula, Product, Roundoff, Row, pull_back};

use super::cases::{Case, Kind};

/// What an implementation gives back; `None` where a gradient is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Back<S> {
    pub dx: Option<Vec<S>>,
    pub dgain: Option<Vec<S>>,
    pub dbias: Option<Vec<S>>,
}

/// An implementation under judgement.
pub trait Subject<S: Kind> {
    fn forward(&self, case: &Case<S>) -> Vec<S>;
    fn backward(&self, case: &Case<S>) -> Back<S>;
    /// By its order of summation.
    fn roundoff(&self, width: usize) -> Roundoff {
        S::roundoff(width)
    }
}

/// The kernels, on some path.
pub struct Kernels(pub Path);

impl Kernels {
    fn norm<S: Kind>(&self, case: &Case<S>) -> (Norm, Affine<S::Real>) {
        let cast = if case.rounded_first { Cast::BeforeGain } else { Cast::AfterGain };
        let convention = Convention { eps: case.eps, one_plus: case.one_plus, cast };
        let norm = Norm { path: self.0, ..Norm::new(case.width, case.centred, convention).unwrap() };
        (norm, Affine::new(case.width, convention, Some(&case.gain), case.bias.as_deref()))
    }
}

impl<S: Kind> Subject<S> for Kernels {
    fn forward(&self, case: &Case<S>) -> Vec<S> {
        let (norm, affine) = self.norm(case);
        let mut y = vec![S::default(); case.x.len()];
        norm.forward(&case.x, &affine, &mut y, None).unwrap();
        y
    }

    fn backward(&self, case: &Case<S>) -> Back<S> {
        let (norm, affine) = self.norm(case);
        let mut dx = vec![S::default(); case.x.len()];
        let dy = Cotangents { output: &case.dy, sum: case.dsum.as_deref() };
        let strip = norm.backward(&case.x, &affine, dy, None, &mut dx).unwrap();
        let stored = |v: Vec<S::Real>| Some(v.into_iter().map(S::narrow).collect());
        Back { dx: Some(dx), dgain: stored(strip.gain), dbias: stored(strip.bias) }
    }
}

/// The worst error over bound, or what exceeds it.
pub type Judgement = Result<f64, String>;

fn worst(so_far: f64, computed: f64, exact: Dd, bound: f64, largest: f64, what: &dyn Fn() -> String) -> Judgement {
    if !computed.is_finite() && exact.abs() + bound >= largest {
        return Ok(so_far);
    }
    let ratio = if exact.off(computed) == 0.0 { 0.0 } else { exact.off(computed) / bound };
    // A NaN is above every bound.
    if ratio <= 1.0 {
        Ok(so_far.max(ratio))
    } else {
        Err(format!("{}: {computed:e} for {:e}, {ratio} bounds", what(), exact.0))
    }
}

fn oracle_row<S: Kind>(case: &Case<S>, r: usize) -> Row {
    let x: Vec<f64> = case.x[r * case.width..(r + 1) * case.width].iter().map(|x| x.value()).collect();
    if case.centred { Formula::layer_norm(case.eps).row(&x) } else { Formula::rms_norm(case.eps).row(&x) }
}

fn factor<S: Kind>(case: &Case<S>, i: usize) -> Dd {
    let one = if case.one_plus { 1.0 } else { 0.0 };
    Dd::new(one) + Dd::new(case.gain[i].value())
}

pub fn forward<S: Kind>(subject: &dyn Subject<S>, case: &Case<S>) -> Judgement {
    let (y, roundoff) = (subject.forward(case), subject.roundoff(case.width));
    let mut ratio = 0.0;
    for r in 0..case.rows() {
        let row = oracle_row(case, r);
        let bounds = roundoff.row(&row, case.centred);
        for i in 0..case.width {
            let (z, dz, g) = (row.z[i], bounds.z[i], factor(case, i));
            let bias = case.bias.as_ref().map_or(Dd::default(), |b| Dd::new(b[i].value()));
            let exact = z * g + bias;
            let bound = match case.rounded_first {
                true => {
                    let bias = case.bias.is_some();
                    roundoff.output_rounded_first(z.abs(), dz, g.0, exact.0, case.one_plus, bias)
                }
                false => roundoff.output(z.abs(), dz, g.0, exact.0, case.one_plus),
            };
            let what = || format!("{} eps {}, y[{r}][{i}]", case.name, case.eps);
            ratio = worst(ratio, y[r * case.width + i].value(), exact, bound, roundoff.largest, &what)?;
        }
    }
    Ok(ratio)
}

pub fn backward<S: Kind>(subject: &dyn Subject<S>, case: &Case<S>) -> Judgement {
    let (back, roundoff) = (subject.backward(case), subject.roundoff(case.width));
    let (Some(dx), Some(dgain), Some(dbias)) = (&back.dx, &back.dgain, &back.dbias) else {
        return Err(format!("{}: a gradient is absent", case.name));
    };
    // In the kernel's factor only: the rounding of a factor in storage is not differentiated.
    let mut ratio = 0.0;
    let mut parameters = vec![[Dd::default(); 2]; case.width];
    let mut magnitudes = vec![[0.0; 3]; case.width];
    for r in 0..case.rows() {
        let row = oracle_row(case, r);
        let bounds = roundoff.row(&row, case.centred);
        let dy: Vec<Dd> = case.dy[r * case.width..][..case.width].iter().map(|v| Dd::new(v.value())).collect();
        let g: Vec<Dd> = dy.iter().enumerate().map(|(i, dy)| *dy * factor(case, i)).collect();
        let exact = pull_back(&row, &g, case.centred);
        let product = Product { roundings: 1 + usize::from(case.one_plus), stores: 0 };
        let bound = roundoff.cotangent(&row, &bounds, &g, case.centred, product, &exact);
        for i in 0..case.width {
            let at = r * case.width + i;
            let more = case.dsum.as_ref().map_or(Dd::default(), |d| Dd::new(d[at].value()));
            let total = exact[i] + more;
            let joined = if case.dsum.is_some() { (roundoff.u + roundoff.store) * total.abs() } else { 0.0 };
            let what = || format!("{} eps {}, dx[{r}][{i}]", case.name, case.eps);
            let bound = (bound[i] + joined) * (1.0 + roundoff.u);
            ratio = worst(ratio, dx[at].value(), total, bound, roundoff.largest, &what)?;
            parameters[i] = [parameters[i][0] + dy[i] * row.z[i], parameters[i][1] + dy[i]];
            let (d, z) = (dy[i].abs(), row.z[i].abs());
            let [gain, of_z, bias] = magnitudes[i];
            magnitudes[i] = [gain + d * z, of_z + d * bounds.z[i], bias + d];
        }
    }
    for i in 0..case.width {
        let ([gain, bias], [along, of_z, magnitude]) = (parameters[i], magnitudes[i]);
        let rows = |magnitude, of_terms, value| roundoff.over_rows(case.rows(), CHUNK, magnitude, of_terms, value);
        let what = |name: &str| format!("{} eps {}, {name}[{i}]", case.name, case.eps);
        let largest = roundoff.largest;
        ratio = worst(ratio, dgain[i].value(), gain, rows(along, of_z, gain.abs()), largest, &|| what("dgain"))?;
        if case.centred {
            ratio = worst(ratio, dbias[i].value(), bias, rows(magnitude, 0.0, bias.abs()), largest, &|| what("dbias"))?;
        }
    }
    Ok(ratio)
}
