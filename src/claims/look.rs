//! Looks at an item: what the first draws leave open is judged again on fresh ones, as many as their spread asks for.

use crate::claims::{Experiments, Item, Lab, Tier};
use crate::error::{Error, Result};
use crate::verify::{Evidence, Finding, Verdict};

/// The most looks at an item. Each has an equal part of what its claim may spend of the false-alarm budget, so that a verdict
/// of any is right at the claim's level; a finding that is decided stays.
pub const LOOKS: usize = 3;

/// The seeds of a look are so far beyond those of the one before; four such steps come round to the first again.
const FRESH: u64 = 1 << 62;
const _: () = assert!(LOOKS <= 4);

impl Item {
    /// The findings of the item.
    ///
    /// # Errors
    /// Those of its experiments.
    pub fn judged(&self, lab: &Lab) -> Result<Vec<Finding>> {
        let mut findings = (self.judge)(lab)?;
        let open = |finding: &Finding| finding.verdict == Verdict::Undecided;
        let mut times = 1;
        for look in 1..LOOKS {
            let Some(more) = findings.iter().filter(|finding| open(finding)).filter_map(draws_to_decide).max() else {
                break;
            };
            times *= more;
            let fresh = match (self.judge)(&lab.again(look, times)) {
                // More than fits: what the last look left open stays so.
                Err(Error::Memory { .. } | Error::Effort { .. }) => break,
                fresh => fresh?,
            };
            debug_assert_eq!(fresh.len(), findings.len(), "{}: a look has a finding for each of the first's", self.key);
            for (finding, fresh) in findings.iter_mut().zip(fresh).filter(|(finding, _)| open(finding)) {
                // The command that repeats the first look has the further ones, too.
                *finding = Finding { replay: std::mem::take(&mut finding.replay), ..fresh };
            }
        }
        Ok(findings)
    }
}

/// What the figures of an open finding ask for; nothing where one of them stays open with any draws, and the finding with it.
fn draws_to_decide(finding: &Finding) -> Option<usize> {
    let open = finding.evidence.iter().filter(|evidence| evidence.verdict() == Verdict::Undecided);
    let asked_for: Option<Vec<usize>> = open.map(Evidence::draws_to_decide).collect();
    asked_for?.into_iter().max()
}

impl Lab<'_> {
    /// So many draws in the quick tier, so many in the full one; in a further look as many times as it asks for.
    pub fn draws(&self, quick: usize, full: usize) -> usize {
        let draws = match self.tier {
            Tier::Quick => quick,
            Tier::Full => full,
        };
        draws * self.times
    }

    /// The lab of a further look.
    fn again(&self, look: usize, times: usize) -> Self {
        Lab {
            times,
            seed: self.seed.wrapping_add(FRESH * look as u64),
            seeds: self.seeds * times,
            device: self.device.clone(),
            // Draws of one item, dropped with it.
            experiments: Experiments::default(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::op::Registry;
    use crate::random::Stream;
    use crate::verify::Interval;

    /// That a mean is not below zero: draws about `mean`, with what a look may spend; every look's seed and draws are noted.
    fn not_below_zero(mean: f64, alpha: f64, looks: &'static Mutex<Vec<(u64, usize)>>) -> Item {
        let judge = move |lab: &Lab| {
            let draws = lab.draws(16, 64);
            looks.lock().unwrap().push((lab.seed, draws));
            let values: Vec<f64> = Stream::new(lab.seed, &[]).normals(draws).iter().map(|z| mean + z).collect();
            let evidence = Evidence::mean("mean", &values, Interval::at_least(0.0), alpha);
            Ok(vec![Finding { replay: format!("--seed {}", lab.seed), ..Finding::of("planted", vec![evidence]) }])
        };
        Item { key: "planted".into(), judge: Box::new(judge) }
    }

    fn judged(item: &Item, seed: u64) -> Finding {
        let registry = Registry::builtin();
        item.judged(&Lab { seed, ..Lab::quick(&registry, &[]) }).unwrap().remove(0)
    }

    #[test]
    fn what_is_decided_is_not_looked_at_again() {
        static LOOKED: Mutex<Vec<(u64, usize)>> = Mutex::new(Vec::new());
        for (mean, verdict) in [(5.0, Verdict::Verified), (-5.0, Verdict::Refuted)] {
            assert_eq!(judged(&not_below_zero(mean, 1e-6, &LOOKED), 7).verdict, verdict);
        }
        assert_eq!(*LOOKED.lock().unwrap(), [(7, 16), (7, 16)]);
    }

    #[test]
    fn a_refuted_finding_with_an_open_figure_is_not_looked_at_again() {
        static LOOKED: Mutex<usize> = Mutex::new(0);
        let judge = |lab: &Lab| {
            *LOOKED.lock().unwrap() += 1;
            let mean = |mean: f64| {
                let values: Vec<f64> = Stream::new(lab.seed, &[]).normals(16).iter().map(|z| mean + z).collect();
                Evidence::mean("mean", &values, Interval::at_least(0.0), 1e-6)
            };
            Ok(vec![Finding::of("planted", vec![mean(-5.0), mean(0.5)])])
        };
        let finding = judged(&Item { key: "planted".into(), judge: Box::new(judge) }, 7);
        assert_eq!(finding.evidence[1].verdict(), Verdict::Undecided);
        assert_eq!((finding.verdict, *LOOKED.lock().unwrap()), (Verdict::Refuted, 1));
    }

    #[test]
    fn what_is_open_has_more_draws_all_of_them_fresh_and_the_first_ones_replay() {
        static LOOKED: Mutex<Vec<(u64, usize)>> = Mutex::new(Vec::new());
        let finding = judged(&not_below_zero(0.5, 1e-6, &LOOKED), 7);
        assert_eq!((finding.verdict, finding.replay.as_str()), (Verdict::Verified, "--seed 7"));
        let looked = LOOKED.lock().unwrap();
        assert!((2..=LOOKS).contains(&looked.len()), "{looked:?}");
        for pair in looked.windows(2) {
            // A look uses the seeds that follow its own.
            assert!(pair[1].1 > pair[0].1 && pair[1].0 - pair[0].0 > 1 << 40, "{looked:?}");
        }
        assert_eq!(finding.evidence[0].sample as usize, looked.last().unwrap().1);
    }

    /// How often the least mean that is accepted is refuted, of 2000 runs.
    fn refuted(alpha_of_a_look: f64) -> u64 {
        static LOOKED: Mutex<Vec<(u64, usize)>> = Mutex::new(Vec::new());
        let item = not_below_zero(0.0, alpha_of_a_look, &LOOKED);
        (0..2000).filter(|run| judged(&item, run << 32).verdict == Verdict::Refuted).count() as u64
    }

    #[test]
    fn all_looks_together_refute_what_holds_no_more_often_than_the_claim_may() {
        let (alpha, n) = (0.06, 2000);
        // Two-sided, and one side refutes.
        let rate = |count| Evidence::proportion("rate", count, n, Interval::at_most(alpha / 2.0), 1e-6).verdict();
        assert_ne!(rate(refuted(alpha / LOOKS as f64)), Verdict::Refuted);
        assert_eq!(rate(refuted(alpha)), Verdict::Refuted, "a look that spends all of alpha is found out");
    }
}
