//! One answer against the exact values of a formula, element by element, within the derived bounds.

use super::bounds::{Product, Roundoff, RowBound};
use super::exact::Dd;
use super::formula::{Bias, Centre, Factor, Formula, Row, pull_back};
use super::probe::Probe;
use crate::kernels::Cast;

/// The formula that answers are held against, with its roundings.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    pub formula: Formula,
    pub cast: Cast,
}

/// A backward pass's numbers; an empty one where the formula has no such parameter.
#[derive(Clone, Debug, Default)]
pub struct Back {
    pub dx: Vec<f64>,
    pub dgain: Option<Vec<f64>>,
    pub dbias: Option<Vec<f64>>,
}

/// The element that exceeds its bound by most.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// `y[2][17]`, `dgain[3]`.
    pub element: String,
    /// The row, for what belongs to one.
    pub row: Option<usize>,
    pub computed: f64,
    pub exact: f64,
    pub bound: f64,
}

/// The worst error over bound, and the element where it exceeds 1.
#[derive(Clone, Debug, Default)]
pub struct Worst {
    pub ratio: f64,
    pub excess: Option<Excess>,
    /// Elements of which the bound says something.
    pub judged: usize,
}

impl Worst {
    fn see(&mut self, computed: f64, exact: Dd, bound: f64, largest: f64, place: (&str, Option<usize>, usize)) {
        // What may overflow in storage may be infinite.
        if !bound.is_finite() || (computed.is_infinite() && exact.abs() + bound >= largest) {
            return;
        }
        self.judged += 1;
        let off = exact.off(computed);
        let ratio = match off {
            0.0 => 0.0,
            // A NaN is above every bound.
            off if off.is_nan() => f64::INFINITY,
            off => off / bound,
        };
        if ratio > 1.0 && (self.excess.is_none() || ratio > self.ratio) {
            let (name, row, i) = place;
            let element = row.map_or(format!("{name}[{i}]"), |r| format!("{name}[{r}][{i}]"));
            self.excess = Some(Excess { element, row, computed, exact: exact.0, bound });
        }
        self.ratio = self.ratio.max(ratio);
    }

    /// The worse of two.
    pub fn or(self, other: Worst) -> Worst {
        let judged = self.judged + other.judged;
        let worse = if other.ratio > self.ratio { other } else { self };
        Worst { judged, ..worse }
    }
}

impl Standard {
    fn centred(&self) -> bool {
        self.formula.centre != Centre::Never
    }

    fn one_plus(&self) -> bool {
        self.formula.factor == Factor::OnePlusW
    }

    /// The exact row and its bounds; rows of NaN or inf have none.
    fn row(&self, roundoff: &Roundoff, probe: &Probe, r: usize) -> Option<(Row, RowBound)> {
        let x = &probe.x[r * probe.width..(r + 1) * probe.width];
        if !x.iter().all(|x| x.is_finite()) {
            return None;
        }
        let row = self.formula.row(&self.formula.entering(x, &probe.gain));
        // A row without a scale has no normalized value that all would agree on.
        if row.inverse.0 == 0.0 {
            return None;
        }
        let bounds = roundoff.row(&row, self.centred());
        Some((row, bounds))
    }

    /// Every finite row's output.
    pub fn forward(&self, roundoff: &Roundoff, probe: &Probe, y: &[f64]) -> Worst {
        let mut worst = Worst::default();
        for r in 0..probe.rows() {
            let Some((row, bounds)) = self.row(roundoff, probe, r) else { continue };
            for i in 0..probe.width {
                let (z, dz) = (row.z[i], bounds.z[i]);
                let exact = self.formula.output(z, probe.gain[i], probe.bias[i]);
                let bound = self.output_bound(roundoff, z.abs(), dz, probe.gain[i], exact.0);
                worst.see(y[r * probe.width + i], exact, bound, roundoff.largest, ("y", Some(r), i));
            }
        }
        worst
    }

    /// The bound of one output, from the error of its normalized value.
    pub fn output_bound(&self, roundoff: &Roundoff, z: f64, dz: f64, gain: f64, y: f64) -> f64 {
        let factor = self.formula.factor(gain).0;
        let bias = self.formula.bias != Bias::None;
        match self.cast {
            Cast::BeforeGain if roundoff.store > 0.0 => {
                roundoff.output_rounded_first(z, dz, factor, y, self.one_plus(), bias)
            }
            _ => roundoff.output(z, dz, factor, y, self.one_plus()),
        }
    }

    /// Every finite row's cotangent, and those of gain and bias where all rows are finite.
    pub fn backward(&self, roundoff: &Roundoff, probe: &Probe, back: &Back) -> Worst {
        let mut worst = Worst::default();
        let width = probe.width;
        let stores = match self.cast {
            Cast::BeforeGain => 1 + usize::from(self.one_plus()),
            Cast::AfterGain => 0,
        };
        let product = Product { roundings: 1 + usize::from(self.one_plus()), stores };
        let mut sums = vec![Sums::default(); width];
        let mut all = true;
        for r in 0..probe.rows() {
            let Some((row, bounds)) = self.row(roundoff, probe, r) else {
                all = false;
                continue;
            };
            let dy: Vec<Dd> = probe.dy[r * width..][..width].iter().map(|v| Dd::new(*v)).collect();
            let g: Vec<Dd> = dy.iter().zip(&probe.gain).map(|(dy, w)| *dy * self.formula.factor(*w)).collect();
            let exact = pull_back(&row, &g, self.centred());
            let bound = roundoff.cotangent(&row, &bounds, &g, self.centred(), product, &exact);
            for i in 0..width {
                let of_z = bounds.z[i] + stores as f64 * roundoff.store * (row.z[i].abs() + bounds.z[i]);
                worst.see(back.dx[r * width + i], exact[i], bound[i], roundoff.largest, ("dx", Some(r), i));
                sums[i].add(dy[i], row.z[i], of_z);
            }
        }
        if !all {
            return worst;
        }
        let rows = |sum: &Dd, magnitude, of_terms| {
            roundoff.over_rows(probe.rows(), probe.rows().max(1), magnitude, of_terms, sum.abs())
        };
        for (i, sums) in sums.iter().enumerate() {
            if let Some(dgain) = &back.dgain {
                let bound = rows(&sums.gain, sums.along, sums.of_z);
                worst.see(dgain[i], sums.gain, bound, roundoff.largest, ("dgain", None, i));
            }
            if let Some(dbias) = &back.dbias {
                let bound = rows(&sums.bias, sums.magnitude, 0.0);
                worst.see(dbias[i], sums.bias, bound, roundoff.largest, ("dbias", None, i));
            }
        }
        worst
    }
}

/// Over rows, of one coordinate: dy z and dy, their magnitudes, and the error of z times dy.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    gain: Dd,
    bias: Dd,
    along: f64,
    of_z: f64,
    magnitude: f64,
}

impl Sums {
    fn add(&mut self, dy: Dd, z: Dd, of_z: f64) {
        self.gain = self.gain + dy * z;
        self.bias = self.bias + dy;
        self.along += dy.abs() * z.abs();
        self.of_z += dy.abs() * of_z;
        self.magnitude += dy.abs();
    }
}
