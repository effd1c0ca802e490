//! All claims, and the plan of a run.

use crate::claims::{
    About, Claim, Item, LOOKS, Lab, author, brief, equivalence, gradients, growth, init, kernels, moments, normalizer,
    prediction, rank, sampling, update,
};
use crate::error::{Error, Result};
use crate::verify::budget::{self, Pool};

/// The families in the order in which reports have them: name, what it is about, its claims.
pub fn families() -> Vec<(&'static str, &'static str, Vec<Claim>)> {
    vec![
        ("prediction", "what the closed form says is what networks do", prediction::claims()),
        ("sampling", "what the exact law without weights says is what networks do", sampling::claims()),
        ("normalizer", "what normalizers, softmax and mixing do to every input", normalizer::claims()),
        ("equivalence", "placements that are one, for any weights", equivalence::claims()),
        ("kernels", "fused norms: ours within their bounds, candle's refuted for what they are", kernels::claims()),
        ("brief", "what four public texts on pre-norm and post-norm say, statement by statement", brief::claims()),
        ("init", "what initialization is said to be", init::claims()),
        ("moments", "how large streams are, and how far they turn", moments::claims()),
        ("gradients", "how large gradients are, and how they spread over depth", gradients::claims()),
        ("rank", "how fast tokens become alike", rank::claims()),
        ("update", "what a first step does to the output", update::claims()),
        ("growth", "laws in depth and width, of every placement", growth::claims()),
        ("author", "what a placement's author promises", author::claims()),
    ]
}

/// The weights of claims that ask for more of the false-alarm budget than 1, by glob; the first that fits is taken.
///
/// A weight of 10 costs every other claim next to nothing (seeds grow as ln 1/alpha) and is for what judges many figures.
const WEIGHTS: &[(&str, f64)] = &[("prediction.*", 100.0), ("init.*", 10.0)];

fn weight(id: &str) -> f64 {
    WEIGHTS.iter().find(|(glob, _)| matches(glob, id)).map_or(1.0, |(_, weight)| *weight)
}

/// What a claim may spend of the false-alarm budget in one look, over all its figures on subjects of this pool.
pub fn share(id: &str, pool: Pool) -> f64 {
    let all: f64 = families().iter().flat_map(|(_, _, claims)| claims).map(|claim| weight(claim.id)).sum();
    budget::split(budget::share(pool, weight(id), all), LOOKS)
}

/// The claims of a run.
pub struct Battery {
    pub claims: Vec<Claim>,
}

impl Battery {
    /// The claims whose id matches a glob (`*` any text), all for `None`.
    ///
    /// # Errors
    /// A glob that matches no claim, with the nearest id.
    pub fn matching(glob: Option<&str>) -> Result<Battery> {
        let all = families().into_iter().flat_map(|(_, _, claims)| claims);
        let Some(glob) = glob else { return Ok(Battery { claims: all.collect() }) };
        let (claims, others): (Vec<Claim>, Vec<Claim>) = all.partition(|claim| matches(glob, claim.id));
        if claims.is_empty() {
            let near = nearest_to(glob, others.iter().map(|claim| claim.id));
            return Err(Error::Option {
                message: format!("no claim matches \"{glob}\""),
                help: match near {
                    Some(id) => format!("did you mean {id}? `normative list claims` has them all"),
                    None => "`normative list claims` has them all".into(),
                },
            });
        }
        Ok(Battery { claims })
    }

    /// The items of a run, in the order of the claims. A claim about built-in placements has items where the run has one
    /// of them; a claim about nothing only where `whole` says that the run is over the whole zoo, or its id was asked for.
    pub fn plan(&self, lab: &Lab, whole: bool) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for claim in &self.claims {
            let concerned = match claim.about {
                About::EveryPlacement => true,
                About::BuiltIn(names) => {
                    let known = |name: &&str| lab.subjects.iter().any(|subject| subject.spec == **name);
                    names.iter().any(known)
                }
                About::Nothing => whole,
            };
            if concerned {
                items.extend((claim.plan)(claim, lab)?);
            }
        }
        Ok(items)
    }
}

/// The id that the fewest edits bring to a misspelt glob's form, if those are at most a third of its letters.
fn nearest_to<'a>(glob: &str, ids: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = glob.chars().filter(|c| *c != '*').count();
    let near = ids.map(|id| (edits(glob, id), id)).min_by_key(|(edits, _)| *edits)?;
    (near.0 <= 1.max(letters / 3)).then_some(near.1)
}

/// Letters to change, insert or leave out until a text is of a glob's form (Levenshtein; a star takes any text for nothing).
fn edits(glob: &str, text: &str) -> usize {
    let text: Vec<char> = text.chars().collect();
    // The edits from what was read of the glob to the text's first letters, by their number.
    let mut row: Vec<usize> = (0..=text.len()).collect();
    for wanted in glob.chars() {
        let before = row.clone();
        row[0] = before[0] + usize::from(wanted != '*');
        for at in 1..row.len() {
            row[at] = match wanted {
                '*' => before[at].min(row[at - 1]),
                _ => {
                    let changed = before[at - 1] + usize::from(text[at - 1] != wanted);
                    changed.min(before[at] + 1).min(row[at - 1] + 1)
                }
            };
        }
    }
    row[text.len()]
}

/// Whether a text is of a glob's form.
fn matches(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((start, rest)) => {
            let Some(after) = text.strip_prefix(start) else { return false };
            (0..=after.len()).filter(|at| after.is_char_boundary(*at)).any(|at| matches(rest, &after[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_claims_together_spend_the_budget_of_a_run_and_no_more() {
        let spent = |pool| -> f64 {
            families().iter().flat_map(|(_, _, claims)| claims).map(|claim| LOOKS as f64 * share(claim.id, pool)).sum()
        };
        let claims = families().iter().map(|(_, _, claims)| claims.len()).sum::<usize>() as f64;
        // One rounding a claim.
        let limit = budget::RUN * (1.0 + claims * f64::EPSILON);
        let whole = spent(Pool::BuiltIn) + spent(Pool::User);
        assert!(whole <= limit && whole > 0.99 * budget::RUN, "{whole:e}");
        assert!(spent(Pool::User) <= budget::USERS * (1.0 + claims * f64::EPSILON));
    }

    #[test]
    fn a_misspelt_glob_is_told_the_nearest_id() {
        for (glob, text, expected) in
            [("kitten", "sitting", 3), ("gro*r", "growth.linear", 0), ("grwth.*", "growth.linear", 1), ("", "ab", 2)]
        {
            assert_eq!(edits(glob, text), expected, "{glob} {text}");
        }
        let near = |glob| nearest_to(glob, ["growth.linear", "rank.decay"].into_iter());
        assert_eq!(near("grwth.*"), Some("growth.linear"));
        assert_eq!(near("*.decoy"), Some("rank.decay"));
        assert_eq!(near("nothing.of.the.kind*"), None);
    }

    #[test]
    fn a_glob_matches_any_text_at_its_stars() {
        for (glob, text, expected) in [
            ("growth.*", "growth.second_moment.linear", true),
            ("*.linear", "growth.second_moment.linear", true),
            ("g*t*r", "growth.second_moment.linear", true),
            ("growth", "growth.second_moment.linear", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }
}
