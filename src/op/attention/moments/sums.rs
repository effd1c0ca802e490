//! The way back through a head: cotangent Grams of q, k, v, summed over an ensemble.

use crate::op::attention::moments::ensemble::Heads;
use crate::op::attention::moments::inner::Pulls;
use crate::op::attention::moments::octet::{Eight, LANES, Octet, eight};
use crate::op::{Cotangent, Expected};

/// Sums over members for one of q, k, v.
pub struct Part {
    pub gram: Octet,
    /// The trace of what is along the value, in units of an isotropic cotangent's.
    pub along: Eight,
    /// sum X.G, for the weight matrix.
    pub weight: Eight,
    /// Of the inner norm's parameters.
    pub inner: Vec<Expected>,
}

impl Part {
    /// Adds eight members' cotangent Grams behind their inner norms, if there are any.
    ///
    /// `radial`: the share along the values `y` of all tokens together, which a common scale sees. Token by token as much is
    /// missing as tokens are alike, all of it where they are the same and 1/T where they have nothing in common.
    fn add(&mut self, mut gram: Octet, mut radial: Eight, norms: Option<&[Pulls; LANES]>, y: &Octet, x: &Octet) {
        let alike = norms.map_or([0.0; LANES], |_| alike(&gram, y));
        for (lane, norm) in norms.into_iter().flatten().enumerate() {
            let of_token = 1.0 - (1.0 - radial[lane]) * alike[lane];
            let cotangent = |radial| Cotangent { radial, ..Cotangent::fresh(gram.lane(lane)) };
            let pulled = norm.pull(&cotangent(radial[lane]));
            for (sum, p) in self.inner.iter_mut().zip(pulled.parameters) {
                *sum = sum.and_then(|sum| p.map(|p| sum + p));
            }
            let by_token = norm.pull(&cotangent(of_token)).cotangent.gram;
            gram.set(lane, &by_token);
            radial[lane] = pulled.cotangent.radial;
        }
        let (weight, trace) = (x.dot(&gram), gram.trace());
        for lane in 0..LANES {
            self.weight[lane] += weight[lane];
            self.along[lane] += radial[lane] * trace[lane];
        }
        self.gram += &gram;
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
        let none = [0.0; LANES];
        let part = |count| Part { gram: Octet::zeros(t, t), along: none, weight: none, inner: vec![Ok(0.0); count] };
        let [q, k, v] = inner.map(part);
        Sums { q, k, v }
    }

    /// Adds eight members, whose z have cotangents of this radial share; `lost`: the share that one head lacks along its z.
    /// `scores` where they depend on weights: E z_aa.
    pub fn see(&mut self, heads: &Heads, g_z: &Octet, [radial, lost]: [f64; 2], scores: Option<&Vec<f64>>) {
        let Heads { a, x, v, kq, kk, q_norm, k_norm, v_norm } = heads;
        let at = &a.transpose();
        // A norm takes off what is along each head's values, a common scale what is along those of all heads together.
        let radial_v = v_norm.as_ref().map_or(radial, |_| 1.0 - lost);
        self.v.add(at.symmetric_product(&(g_z * a)), [radial_v; LANES], v_norm.as_ref(), v, x);
        let Some(mean_squares) = scores else { return };
        let (r, p) = (&(a * v), &(a * kk));
        let (z, y) = (&r.symmetric_product(at), &p.symmetric_product(at));
        let h = &g_z.component_mul(kq);
        let ha = &(h * a);
        let crossed = &(a * &v.component_mul(kk) - &(r.component_mul(p) * 2.0)) * at;
        let mut centred = symmetric_part(crossed) + &z.component_mul(y);
        let k_part = &h.component_mul(z) * a - &(r.component_mul(ha) * 2.0);
        let mut g_k = v.component_mul(&at.symmetric_product(ha)) + &symmetric_part(at * &k_part);
        let sharper = &sharpening(a);
        let mut together = g_z.dot(&(sharper * v).symmetric_product(&sharper.transpose()));
        if lost != 0.0 {
            let roots: Vec<f64> = mean_squares.iter().map(|m| m.max(f64::MIN_POSITIVE).sqrt()).collect();
            let t = a.rows();
            let b = &Octet::from_fn(t, t, |i, j| eight(|l| a[(i, j)][l] * (r[(i, j)][l] - z[(i, i)][l]) / roots[i]));
            let cosine = &z.correlation();
            centred = centred - &(cosine.component_mul(&(b * kk).symmetric_product(&b.transpose())) * lost);
            g_k = g_k - &(b.transpose().symmetric_product(&(&h.component_mul(cosine) * b)) * lost);
            let products = sharper.row_products(r);
            let along: Vec<Eight> = products.iter().zip(&roots).map(|(sum, root)| sum.map(|x| x / root)).collect();
            let lacking = Octet::from_fn(t, t, |i, j| eight(|l| cosine[(i, j)][l] * along[i][l] * along[j][l]));
            let lacking = g_z.dot(&lacking);
            together = eight(|l| together[l] - lacking[l] * lost);
        }
        let g_q = g_z.component_mul(&centred);
        let share =
            |isotropic: Eight| eight(|l| if isotropic[l] > 0.0 { together[l].max(0.0) / isotropic[l] } else { 1.0 });
        let [radial_q, radial_k] = [share(g_q.dot(kq)), share(g_k.dot(kk))];
        let radial_of = |norm: &Option<[Pulls; LANES]>, radial| if norm.is_some() { radial } else { [1.0; LANES] };
        self.q.add(g_q, radial_of(q_norm, radial_q), q_norm.as_ref(), kq, x);
        self.k.add(g_k, radial_of(k_norm, radial_k), k_norm.as_ref(), kk, x);
    }
}

/// B, the weights' derivative by a common factor on all scores, dA/d ln S: A_ab (S_ab - sum_e A_ae S_ae), the scores as ln A
/// and a constant.
fn sharpening(a: &Octet) -> Octet {
    let t = a.rows();
    let scores = Octet::from_fn(t, t, |i, j| a[(i, j)].map(|weight| weight.max(f64::MIN_POSITIVE))).ln();
    let means = a.row_products(&scores);
    Octet::from_fn(t, t, |i, j| eight(|l| a[(i, j)][l] * (scores[(i, j)][l] - means[i][l])))
}

/// How alike tokens are in what is along their values: mean_a (sum_b G_ab Y_ab)^2/(G_aa Y_aa)/sum_ab G_ab Y_ab.
///
/// A cotangent that lacks the direction of all values as one vector lacks along value a what its covariance with that
/// direction says.
fn alike(g: &Octet, y: &Octet) -> Eight {
    let (along, whole, n) = (g.row_products(y), g.dot(y), g.rows() as f64);
    let mut out = [0.0; LANES];
    for (along, (g, y)) in along.iter().zip(g.diagonal().zip(y.diagonal())) {
        for l in 0..LANES {
            let own = g[l] * y[l] * whole[l];
            out[l] += if own > 0.0 { along[l].powi(2) / own / n } else { 0.0 };
        }
    }
    out.map(|share| share.min(1.0))
}

fn symmetric_part(m: Octet) -> Octet {
    let transposed = m.transpose();
    (m + &transposed) * 0.5
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::op::Gram;
    use crate::op::attention::moments::draw::normal;
    use crate::random::Stream;

    /// The same member eight times, of tokens with the unit Gram.
    fn heads(a: &Gram, v: &Gram, kq: &Gram, kk: &Gram) -> Heads {
        let [a, v, kq, kk] = [a, v, kq, kk].map(Octet::splat);
        let x = Rc::new(Octet::splat(&Gram::identity(a.rows(), a.rows())));
        Heads { a, x, v, kq, kk, q_norm: None, k_norm: None, v_norm: None }
    }

    /// What was summed of one of them.
    fn one(part: &Part) -> Gram {
        part.gram.total() / LANES as f64
    }

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
        let sharper = sharpening(&Octet::splat(&a)).lane(0);
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
        let mut sums = Sums::new(t, [0; 3]);
        let g_z = Octet::splat(&(&root * root.transpose() * width as f64));
        sums.see(&heads(&a, &gram(&v), &gram(&q), &gram(&k)), &g_z, [1.0, 0.0], Some(&vec![1.0; t]));
        // A squared Gaussian form varies by at most twice its mean's square: six standard errors.
        let margin = 6.0 * (2.0 / draws as f64).sqrt();
        for (mean, rule) in [(g_q / draws as f64, &one(&sums.q)), (g_k / draws as f64, &one(&sums.k))] {
            assert!((&mean - rule).amax() < margin * rule.amax(), "{mean} {rule}");
        }
    }

    #[test]
    fn scores_have_no_gradient_where_attention_is_uniform_in_its_argument() {
        let t = 4;
        let a = Gram::from_element(t, t, 1.0 / t as f64);
        let x = Gram::from_element(t, t, 1.0);
        let mut sums = Sums::new(t, [0; 3]);
        let g_z = Octet::splat(&Gram::identity(t, t));
        sums.see(&heads(&a, &x, &x, &x), &g_z, [1.0, 0.0], Some(&vec![1.0; t]));
        let [q, k] = [one(&sums.q), one(&sums.k)];
        assert!(q.amax() < 1e2 * f64::EPSILON && k.amax() < 1e2 * f64::EPSILON);
    }
}
