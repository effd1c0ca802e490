//! The way back through a head: cotangent Grams of q, k, v, summed over an ensemble.

use crate::op::attention::moments::ensemble::Member;
use crate::op::gaussian::correlation;
use crate::op::{Cotangent, Expected, Gram, Pull};

/// Sums over members for one of q, k, v.
pub struct Part {
    pub gram: Gram,
    /// The trace of what is along the value, in units of an isotropic cotangent's.
    pub along: f64,
    /// sum X.G, for the weight matrix.
    pub weight: f64,
    /// Of the inner norm's parameters.
    pub inner: Vec<Expected>,
}

impl Part {
    /// Adds a member's cotangent Gram behind its inner norm, if there is one.
    ///
    /// `radial`: the share along the value of all tokens together, which a common scale sees. Token by token the cotangent
    /// has no preferred direction, as attention mixes tokens.
    fn add(&mut self, gram: Gram, radial: f64, norm: Option<&dyn Pull>, x: &Gram) {
        let (gram, radial) = match norm {
            Some(norm) => {
                let fresh = Cotangent::fresh(gram);
                let pulled = norm.pull(&Cotangent { radial, ..fresh.clone() });
                for (sum, p) in self.inner.iter_mut().zip(pulled.parameters) {
                    *sum = sum.and_then(|sum| p.map(|p| sum + p));
                }
                let gram =
                    if radial == fresh.radial { pulled.cotangent.gram } else { norm.pull(&fresh).cotangent.gram };
                (gram, pulled.cotangent.radial)
            }
            None => (gram, radial),
        };
        self.weight += x.dot(&gram);
        self.along += radial * gram.trace();
        self.gram += gram;
    }
}

/// The three of them.
pub struct Sums {
    pub q: Part,
    pub k: Part,
    pub v: Part,
}

impl Sums {
    pub fn new(t: usize, inner: [usize; 3]) -> Self {
        let [q, k, v] =
            inner.map(|count| Part { gram: Gram::zeros(t, t), along: 0.0, weight: 0.0, inner: vec![Ok(0.0); count] });
        Sums { q, k, v }
    }

    /// Adds a member, whose z has a cotangent of this radial share; `scores` where they depend on weights: the share of V that the cotangent lacks along z, and E z_aa.
    pub fn see(&mut self, member: &Member, g_z: &Gram, radial: f64, scores: Option<(f64, &Vec<f64>)>) {
        let Member { a, x, v, kq, kk, q_norm, k_norm, v_norm } = member;
        let at = a.transpose();
        self.v.add(&at * (g_z * a), radial, v_norm.as_deref(), x);
        let Some((lost, mean_squares)) = scores else { return };
        let (r, p) = (a * v, a * kk);
        let (z, y) = (&r * &at, &p * &at);
        let h = g_z.component_mul(kq);
        let ha = &h * a;
        let crossed = symmetric_part((a * v.component_mul(kk) - r.component_mul(&p) * 2.0) * &at);
        let mut centred = crossed + z.component_mul(&y);
        let k_part = h.component_mul(&z) * a - r.component_mul(&ha) * 2.0;
        let mut g_k = v.component_mul(&(&at * &ha)) + symmetric_part(&at * k_part);
        let sharper = sharpening(a);
        let mut together = &sharper * v * sharper.transpose();
        if lost != 0.0 {
            let root = |a: usize| mean_squares[a].max(f64::MIN_POSITIVE).sqrt();
            let b = Gram::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] * (r[(i, j)] - z[(i, i)]) / root(i));
            let cosine = correlation(&z);
            centred -= cosine.component_mul(&(&b * kk * b.transpose())) * lost;
            g_k -= b.transpose() * (h.component_mul(&cosine) * &b) * lost;
            let along: Vec<f64> = (0..a.nrows()).map(|i| sharper.row(i).dot(&r.row(i)) / root(i)).collect();
            together -= Gram::from_fn(a.nrows(), a.nrows(), |i, j| cosine[(i, j)] * along[i] * along[j]) * lost;
        }
        let g_q = g_z.component_mul(&centred);
        let together = g_z.dot(&together).max(0.0);
        let share = |isotropic: f64| if isotropic > 0.0 { together / isotropic } else { 1.0 };
        let [radial_q, radial_k] = [share(g_q.dot(kq)), share(g_k.dot(kk))];
        self.q.add(g_q, q_norm.as_ref().map_or(1.0, |_| radial_q), q_norm.as_deref(), x);
        self.k.add(g_k, k_norm.as_ref().map_or(1.0, |_| radial_k), k_norm.as_deref(), x);
    }
}

/// B, the weights' derivative by a common factor on all scores, dA/d ln S: A_ab (S_ab - sum_e A_ae S_ae), the scores as ln A
/// and a constant.
fn sharpening(a: &Gram) -> Gram {
    let score = |weight: f64| weight.max(f64::MIN_POSITIVE).ln();
    let means: Vec<f64> = a.row_iter().map(|row| row.iter().map(|w| w * score(*w)).sum()).collect();
    Gram::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] * (score(a[(i, j)]) - means[i]))
}

fn symmetric_part(m: Gram) -> Gram {
    (&m + m.transpose()) * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::attention::moments::draw::normal;
    use crate::random::Stream;

    /// The scores' cotangents by hand.
    fn scores_by_hand(a: &Gram, v: &Gram, g_z: &Gram) -> Gram {
        let d_a = g_z * v.transpose();
        let t = a.nrows();
        let along: Vec<f64> = (0..t).map(|i| a.row(i).dot(&d_a.row(i))).collect();
        Gram::from_fn(t, t, |i, j| a[(i, j)] * (d_a[(i, j)] - along[i]))
    }

    /// softmax and its rows' cotangents by hand, for one head of width `width`.
    fn by_hand(a: &Gram, v: &Gram, q: &Gram, k: &Gram, g_z: &Gram) -> (Gram, Gram) {
        let d_s = scores_by_hand(a, v, g_z) / (q.ncols() as f64).sqrt();
        (&d_s * k, d_s.transpose() * q)
    }

    #[test]
    fn a_factor_common_to_all_scores_has_the_gradient_of_the_softmax_backward() {
        let (t, width, draws) = (3, 6, 40_000);
        let mut stream = Stream::new(11, &[]);
        let [v, q, k] = [0; 3].map(|_| normal(t, width, &mut stream));
        let scores = &q * k.transpose() / (width as f64).sqrt();
        let mut a = scores.map(f64::exp);
        a.row_iter_mut().for_each(|mut row| row.unscale_mut(row.sum()));
        let root = normal(t, t, &mut stream);
        let mut square = 0.0;
        for _ in 0..draws {
            let d_s = scores_by_hand(&a, &v, &(&root * normal(t, width, &mut stream)));
            square += d_s.dot(&scores).powi(2) / draws as f64;
        }
        let sharper = sharpening(&a);
        let rule = (&root * root.transpose()).dot(&(&sharper * (&v * v.transpose()) * sharper.transpose()));
        // The square of a Gaussian varies by twice its mean's square: six standard errors.
        assert!((square / rule - 1.0).abs() < 6.0 * (2.0 / draws as f64).sqrt(), "{square} {rule}");
    }

    #[test]
    fn a_heads_cotangents_have_the_grams_of_its_softmax_backward() {
        let (t, width, draws) = (3, 6, 40_000);
        let mut stream = Stream::new(9, &[]);
        let [v, q, k] = [0; 3].map(|_| normal(t, width, &mut stream));
        let mut a = (&q * k.transpose() / (width as f64).sqrt()).map(f64::exp);
        a.row_iter_mut().for_each(|mut row| row.unscale_mut(row.sum()));
        let root = normal(t, t, &mut stream);
        let (mut g_q, mut g_k) = (Gram::zeros(t, t), Gram::zeros(t, t));
        for _ in 0..draws {
            let g_z = &root * normal(t, width, &mut stream);
            let (d_q, d_k) = by_hand(&a, &v, &q, &k, &g_z);
            g_q += &d_q * d_q.transpose();
            g_k += &d_k * d_k.transpose();
        }
        let gram = |rows: &Gram| rows * rows.transpose() / width as f64;
        let member = Member {
            a,
            x: Gram::identity(t, t),
            v: gram(&v),
            kq: gram(&q),
            kk: gram(&k),
            q_norm: None,
            k_norm: None,
            v_norm: None,
        };
        let mut sums = Sums::new(t, [0; 3]);
        sums.see(&member, &(&root * root.transpose() * width as f64), 1.0, Some((0.0, &vec![1.0; t])));
        // A squared Gaussian form varies by at most twice its mean's square: six standard errors.
        let margin = 6.0 * (2.0 / draws as f64).sqrt();
        for (mean, rule) in [(g_q / draws as f64, &sums.q.gram), (g_k / draws as f64, &sums.k.gram)] {
            assert!((&mean - rule).amax() < margin * rule.amax(), "{mean} {rule}");
        }
    }

    #[test]
    fn scores_have_no_gradient_where_attention_is_uniform_in_its_argument() {
        let t = 4;
        let a = Gram::from_element(t, t, 1.0 / t as f64);
        let x = Gram::from_element(t, t, 1.0);
        let same = || x.clone();
        let member =
            Member { a, x: same(), v: same(), kq: same(), kk: same(), q_norm: None, k_norm: None, v_norm: None };
        let mut sums = Sums::new(t, [0; 3]);
        sums.see(&member, &Gram::identity(t, t), 1.0, Some((0.0, &vec![1.0; t])));
        assert!(sums.q.gram.amax() < 1e2 * f64::EPSILON && sums.k.gram.amax() < 1e2 * f64::EPSILON);
    }
}
