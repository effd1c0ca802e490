//! The joint covariance of the values that are live: a Gram each, and cross-Grams between those that depend on each
//! other. An absent cross-Gram is zero: independent.
//!
//! Values and cotangents follow the same two rules, in opposite directions: linear combinations are bilinear in the
//! Grams, and an op's linear response multiplies cross-Grams row by row. Must not know which direction it serves.

use std::collections::BTreeMap;

use crate::op::Gram;

/// A value: a node of the graph, or one that the prediction adds.
pub type Key = usize;

/// Grams and cross-Grams of live values.
#[derive(Default)]
pub struct Joint {
    grams: BTreeMap<Key, Gram>,
    /// C_vw[a, b] = E<v_a, w_b> under (v, w) with v < w.
    cross: BTreeMap<(Key, Key), Gram>,
}

impl Joint {
    pub fn contains(&self, key: Key) -> bool {
        self.grams.contains_key(&key)
    }

    pub fn gram(&self, key: Key) -> Option<&Gram> {
        self.grams.get(&key)
    }

    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.grams.keys().copied()
    }

    /// The other live values that depend on this one.
    pub fn related(&self, key: Key) -> Vec<Key> {
        let other = |(v, w): &(Key, Key)| (*v == key).then_some(*w).or((*w == key).then_some(*v));
        self.cross.keys().filter_map(other).collect()
    }

    /// Calls `see` with C_vw[a, b], where the two are dependent.
    pub fn with_cross<R>(&self, v: Key, w: Key, see: impl FnOnce(Entries) -> R) -> Option<R> {
        match v.cmp(&w) {
            std::cmp::Ordering::Equal => self.grams.get(&v).map(|gram| see(Entries { gram, transposed: false })),
            std::cmp::Ordering::Less => self.cross.get(&(v, w)).map(|gram| see(Entries { gram, transposed: false })),
            std::cmp::Ordering::Greater => self.cross.get(&(w, v)).map(|gram| see(Entries { gram, transposed: true })),
        }
    }

    /// A value independent of every other.
    pub fn insert_fresh(&mut self, key: Key, gram: Gram) {
        self.grams.insert(key, gram);
    }

    /// A value with this Gram that answers `of` linearly: C_key,w[a, b] = linear[a] C_of,w[a, b].
    pub fn insert_response(&mut self, key: Key, of: Key, linear: &[f64], gram: Gram) {
        self.insert_from(key, &[(of, linear.to_vec())], Some(gram));
    }

    /// Shortens what is beyond Cauchy-Schwarz, C_vw[a, a]^2 <= K_v[a, a] K_w[a, a], in every row a of a value's cross-Grams: a
    /// norm's linear response is a mean over lengths that another value may share.
    pub fn shorten(&mut self, key: Key) {
        for w in self.related(key) {
            let Some(mut c) = self.with_cross(key, w, |c| c.to_gram()) else { continue };
            let (v, own) = (&self.grams[&key], &self.grams[&w]);
            for (a, mut row) in c.row_iter_mut().enumerate() {
                let most = (v[(a, a)] * own[(a, a)]).max(0.0).sqrt();
                if row[a].abs() > most {
                    let by = most / row[a].abs();
                    row.scale_mut(by);
                }
            }
            self.cross.remove(&(key.min(w), key.max(w)));
            self.add_cross(key, w, c);
        }
    }

    /// The linear combination of live values; terms of weight zero are not read.
    pub fn insert_sum(&mut self, key: Key, terms: &[(f64, Key)], tokens: usize) {
        let rows: Vec<_> = terms.iter().map(|&(weight, w)| (w, vec![weight; tokens])).collect();
        self.insert_from(key, &rows, None);
    }

    /// Adds `weight` times a live value to `target`, which starts at zero where it is not live.
    pub fn accumulate(&mut self, target: Key, weight: f64, from: Key) {
        let Some(tokens) = self.grams.get(&from).map(Gram::nrows) else { return };
        if !self.contains(target) {
            return self.insert_sum(target, &[(weight, from)], tokens);
        }
        for w in self.keys().filter(|w| *w != target).collect::<Vec<_>>() {
            let Some(added) = self.with_cross(from, w, |c| c.scaled(weight)) else { continue };
            self.add_cross(target, w, added);
        }
        // The cross-Gram with `from` now holds the old one plus weight times from's Gram: K += w (C + C^T) - w^2 K_from.
        let own = self.with_cross(target, from, |c| c.scaled(weight));
        let from = self.grams[&from].clone() * (weight * weight);
        if let (Some(own), Some(gram)) = (own, self.grams.get_mut(&target)) {
            *gram += &own;
            *gram += own.transpose();
            *gram -= from;
        }
    }

    pub fn remove(&mut self, key: Key) {
        if self.grams.remove(&key).is_some() {
            self.cross.retain(|(v, w), _| *v != key && *w != key);
        }
    }

    /// A value under another key.
    pub fn rename(&mut self, key: Key, to: Key) {
        let Some(gram) = self.grams.remove(&key) else { return };
        self.grams.insert(to, gram);
        let old: Vec<_> = self.cross.keys().copied().filter(|(v, w)| *v == key || *w == key).collect();
        for pair in old {
            let Some(c) = self.cross.remove(&pair) else { continue };
            match pair {
                (v, w) if v == key => self.add_cross(to, w, c),
                (v, _) => self.add_cross(v, to, c),
            }
        }
    }

    /// key = sum over terms of diag(rows) w; its Gram is the terms' unless given.
    fn insert_from(&mut self, key: Key, terms: &[(Key, Vec<f64>)], gram: Option<Gram>) {
        let others: Vec<Key> = self.keys().collect();
        let mut crosses: BTreeMap<Key, Gram> = BTreeMap::new();
        for (of, rows) in terms {
            for &w in &others {
                let Some(part) = self.with_cross(*of, w, |c| c.rows_scaled(rows)) else { continue };
                match crosses.entry(w) {
                    std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(part)),
                    std::collections::btree_map::Entry::Occupied(mut slot) => *slot.get_mut() += part,
                }
            }
        }
        let gram = gram.or_else(|| {
            let parts = terms.iter().filter_map(|(w, rows)| {
                let c = crosses.get(w)?;
                Some(Entries { gram: c, transposed: true }.rows_scaled(rows))
            });
            parts.reduce(|sum, part| sum + part).map(|k| (&k + k.transpose()) * 0.5)
        });
        if let Some(gram) = gram {
            self.grams.insert(key, gram);
            for (w, c) in crosses {
                self.add_cross(key, w, c);
            }
        }
    }

    /// Adds to C_vw of two live values.
    pub fn add_cross(&mut self, v: Key, w: Key, c: Gram) {
        let (pair, c) = if v < w { ((v, w), c) } else { ((w, v), c.transpose()) };
        match self.cross.get_mut(&pair) {
            Some(known) => *known += c,
            None => drop(self.cross.insert(pair, c)),
        }
    }
}

/// A cross-Gram as it is stored, read in the direction asked for.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    gram: &'a Gram,
    transposed: bool,
}

impl Entries<'_> {
    /// The matrix itself.
    pub fn to_gram(self) -> Gram {
        if self.transposed { self.gram.transpose() } else { self.gram.clone() }
    }

    fn scaled(&self, by: f64) -> Gram {
        self.to_gram() * by
    }

    fn rows_scaled(&self, rows: &[f64]) -> Gram {
        let mut out = self.to_gram();
        for mut column in out.column_iter_mut() {
            column.iter_mut().zip(rows).for_each(|(c, r)| *c *= r);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Values written out in a basis of independent coordinates, `(tokens, coordinates)` each.
    fn basis(stream: &mut Stream) -> [Gram; 3] {
        std::array::from_fn(|i| {
            let mut m = Gram::zeros(2, 9);
            m.columns_mut(3 * i, 3).copy_from_slice(&stream.normals(6));
            m
        })
    }

    fn agrees(joint: &Joint, v: Key, w: Key, explicit: &[(Key, Gram)]) {
        let of = |key| &explicit.iter().find(|(k, _)| *k == key).unwrap().1;
        let expected = of(v) * of(w).transpose();
        let found = joint.with_cross(v, w, |c| c.to_gram()).unwrap_or_else(|| Gram::zeros(2, 2));
        assert!((found - &expected).amax() <= 1e2 * f64::EPSILON * (1.0 + expected.amax()), "{v} {w}");
    }

    #[test]
    fn grams_are_those_of_the_values_written_out() {
        let mut stream = Stream::new(4, &[]);
        let [a, b, c] = basis(&mut stream);
        let mut joint = Joint::default();
        for (key, value) in [(0, &a), (1, &b), (2, &c)] {
            joint.insert_fresh(key, value * value.transpose());
        }
        joint.insert_sum(3, &[(2.0, 0), (-1.0, 1)], 2);
        let sum = &a * 2.0 - &b;
        let linear = [0.5, 3.0];
        let scaled = Gram::from_diagonal(&nalgebra::DVector::from_row_slice(&linear)) * &sum;
        joint.insert_response(4, 3, &linear, &scaled * scaled.transpose());
        joint.accumulate(3, 0.7, 4);
        let grown = &sum + &scaled * 0.7;
        joint.accumulate(5, -2.0, 3);
        joint.remove(1);
        joint.rename(0, 7);
        let explicit = [(2, c), (3, grown.clone()), (4, scaled), (5, grown * -2.0), (7, a)];
        for (v, w) in explicit.iter().flat_map(|(v, _)| explicit.iter().map(move |(w, _)| (*v, *w))) {
            agrees(&joint, v, w, &explicit);
        }
    }

    #[test]
    fn no_response_is_more_than_the_same_as_another_value() {
        let mut joint = Joint::default();
        joint.insert_fresh(0, Gram::from_element(1, 1, 4.0));
        joint.insert_response(1, 0, &[0.6], Gram::identity(1, 1));
        joint.shorten(1);
        assert_eq!(joint.with_cross(1, 0, |c| c.to_gram()[(0, 0)]), Some(2.0));
        joint.insert_response(2, 0, &[0.4], Gram::identity(1, 1));
        joint.shorten(2);
        assert_eq!(joint.with_cross(2, 0, |c| c.to_gram()[(0, 0)]), Some(1.6));
    }

    #[test]
    fn independent_values_have_no_cross_gram() {
        let mut joint = Joint::default();
        for key in 0..3 {
            joint.insert_fresh(key, Gram::identity(2, 2));
        }
        joint.insert_sum(3, &[(1.0, 0), (1.0, 1)], 2);
        assert!(joint.with_cross(3, 2, |_| ()).is_none() && joint.with_cross(3, 1, |_| ()).is_some());
    }
}
