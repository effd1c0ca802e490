//! All claims, and the plan of a run.

use crate::claims::{About, Claim, Item, Lab, prediction, sampling};
use crate::error::{Error, Result, nearest};

/// The families in the order in which reports have them: name, what it is about, its claims.
pub fn families() -> Vec<(&'static str, &'static str, Vec<Claim>)> {
    vec![
        ("prediction", "what the closed form says is what networks do", prediction::claims()),
        ("sampling", "what the exact law without weights says is what networks do", sampling::claims()),
    ]
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
            let ids: Vec<&str> = others.iter().map(|claim| claim.id).collect();
            let near = nearest(glob, ids.iter().copied());
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
                    names.iter().any(|name| known(&name))
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
