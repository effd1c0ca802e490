//! Placements that are one: relations that hold exactly, for any weights, up to rounding.
//!
//! A relation is two placements, a setting and the results that must agree; [`relations`] lists them. What is exact but
//! no relation of two placements stands in [`identities`].

mod identities;
mod relations;

use crate::claims::exact::Pass;
use crate::claims::subjects::graph;
use crate::claims::{About, Claim, Item, Lab};
use crate::error::Result;
use crate::spec::{Placement, Setting, Shape};
use crate::verify::{Evidence, Finding, Verdict};

/// Two placements that are claimed to be one.
struct Relation {
    id: &'static str,
    statement: &'static str,
    source: &'static str,
    about: &'static [&'static str],
    sides: fn(&Lab) -> Result<[Placement; 2]>,
    normalizers: &'static [&'static str],
    /// eps of each side, from the number of blocks.
    eps: [fn(usize) -> f64; 2],
    blocks: usize,
    /// The results that must agree.
    wanted: fn(&str) -> bool,
}

const EXACTLY: [fn(usize) -> f64; 2] = [|_| 0.0, |_| 0.0];
const CENTRED_OR_NOT: &[&str] = &["layer_norm", "rms_norm"];

/// Output, input gradient and the gradients of weight matrices: what does not depend on how norms are counted.
fn weights(name: &str) -> bool {
    name == "output" || name == "grad.input" || name.contains(".w_")
}

/// Output and input gradient.
fn ends(name: &str) -> bool {
    name == "output" || name == "grad.input"
}

pub fn claims() -> Vec<Claim> {
    let claim = |relation: &Relation| Claim {
        id: relation.id,
        statement: relation.statement,
        source: relation.source,
        domain: "any weights, any shape; eps = 0 unless the statement says otherwise",
        about: About::BuiltIn(relation.about),
        expected: Verdict::Verified,
        plan,
    };
    relations::RELATIONS.iter().map(claim).chain(identities::claims()).collect()
}

fn plan(claim: &Claim, _: &Lab) -> Result<Vec<Item>> {
    let known = relations::RELATIONS.iter().find(|relation| relation.id == claim.id);
    let relation = known.expect("claims() makes a claim of each relation under its own id");
    Ok(vec![Item { key: claim.id.into(), judge: Box::new(move |lab| judge(lab, relation)) }])
}

/// A small network; widths that are no powers of two, so that sums round.
fn small(blocks: usize, causal: bool) -> Shape {
    Shape { width: 24, blocks, tokens: 5, heads: 3, ffn_width: 40, causal }
}

fn judge(lab: &Lab, relation: &Relation) -> Result<Vec<Finding>> {
    let sides = (relation.sides)(lab)?;
    let mut evidence: Vec<Evidence> = Vec::new();
    for normalizer in relation.normalizers {
        for causal in [false, true] {
            let shape = small(relation.blocks, causal);
            let results = |side: usize| {
                let eps = Some(relation.eps[side](relation.blocks));
                let setting = Setting { normalizer: (*normalizer).into(), eps, ..Setting::standard() };
                Pass::new(graph(lab, &sides[side], &setting, shape)?, lab.seed)?.results()
            };
            let found = results(0)?.equal(&results(1)?, relation.wanted);
            let with = format!("{normalizer}{}: {}", if causal { ", causal" } else { "" }, found.figure);
            evidence.push(Evidence { figure: with, ..found });
        }
    }
    let names: String = relation.about.iter().map(|name| format!("{name} ")).collect();
    Ok(vec![Finding {
        placement: if let [name] = relation.about { Some((*name).into()) } else { None },
        shape: Some(small(relation.blocks, false)),
        replay: format!("normative verify {names}--claim {} --seed {}", relation.id, lab.seed),
        ..Finding::of(relation.id, evidence)
    }])
}
