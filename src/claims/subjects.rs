//! What a claim is about: built-ins as the run has them, texts beside them; and claims that are one piece of work.

use crate::claims::experiment::Network;
use crate::claims::{About, Claim, Item, Lab, Subject, Tier, share};
use crate::error::Result;
use crate::fold::Graph;
use crate::spec::{File, Placement, Scalar, Setting, Shape};
use crate::verify::budget::Pool;
use crate::verify::{Evidence, Finding, Verdict};
use crate::zoo;

/// A built-in placement; where the run has a subject of this name, that one.
pub fn built_in(lab: &Lab, name: &str) -> Result<Placement> {
    match lab.subjects.iter().find(|subject| subject.spec == name) {
        Some(subject) => Ok(subject.placement.clone()),
        None => zoo::placement(name, &lab.registry.vocabulary()),
    }
}

/// A placement from the text of its layer and, if not `x`, its output.
pub fn layer(lab: &Lab, layer: &str, output: &str) -> Result<Placement> {
    text(lab, &format!("layer = \"\"\"\n{layer}\n\"\"\"\noutput = \"{output}\"\n"))
}

/// A placement from the text of its file, without the name.
pub fn text(lab: &Lab, text: &str) -> Result<Placement> {
    Placement::new(File::parse("claim.toml", &format!("name = \"claim\"\n{text}"))?, &lab.registry.vocabulary())
}

/// The same placement with one of its `let`s a number.
pub fn with_let(mut placement: Placement, name: &str, value: f64) -> Placement {
    for (_, scalar) in placement.lets.iter_mut().filter(|(known, _)| known == name) {
        *scalar = Scalar::Number(value);
    }
    placement
}

/// The same placement without its `output` equation: what the last block writes.
pub fn without_output(mut placement: Placement) -> Placement {
    placement.output = None;
    placement
}

/// The same placement with the input equation of another.
pub fn with_input_of(mut placement: Placement, other: &Placement) -> Placement {
    placement.input = other.input.clone();
    placement
}

/// The same placement with the output equation of another.
pub fn with_output_of(mut placement: Placement, other: &Placement) -> Placement {
    placement.output = other.output.clone();
    placement
}

/// The network of a placement.
pub fn graph(lab: &Lab, placement: &Placement, setting: &Setting, shape: Shape) -> Result<Graph> {
    Graph::new(&placement.at(shape)?, setting, lab.registry)
}

/// Whose false-alarm budget a subject's claims spend.
pub fn pool(subject: &Subject) -> Pool {
    if zoo::names().any(|name| name == subject.spec) { Pool::BuiltIn } else { Pool::User }
}

/// A built-in placement in the setting of Xiong et al.
pub fn xiong(lab: &Lab, name: &str, width: usize, blocks: usize, tokens: usize) -> Result<Network> {
    Network::xiong_of(built_in(lab, name)?, width, blocks, tokens)
}

/// Gives the evidence of a claim that is one piece of work, all of it within this share of the false-alarm budget.
pub type Experiment = fn(&Lab, f64) -> Result<Vec<Evidence>>;

/// The one item of such a claim.
pub fn once(claim: &Claim, experiment: Experiment) -> Result<Vec<Item>> {
    item(claim, experiment, |_| None)
}

/// The same where the claim is known to be wrong; `instead` says what is true, with the figures found.
pub fn refuted(claim: &Claim, experiment: Experiment, instead: fn(&[Evidence]) -> String) -> Result<Vec<Item>> {
    item(claim, experiment, move |finding| (finding.verdict == Verdict::Refuted).then(|| instead(&finding.evidence)))
}

/// The one item of a claim that no experiment here can decide, with the reason in a sentence.
pub fn undecidable(claim: &Claim, reason: &'static str) -> Result<Vec<Item>> {
    let id = claim.id;
    Ok(vec![Item { key: id.into(), judge: Box::new(move |_| Ok(vec![Finding::not_applicable(id, reason)])) }])
}

fn item(
    claim: &Claim,
    experiment: Experiment,
    reason: impl Fn(&Finding) -> Option<String> + Send + Sync + 'static,
) -> Result<Vec<Item>> {
    let (id, about) = (claim.id, claim.about);
    let judge = move |lab: &Lab| {
        let finding = Finding::of(id, experiment(lab, share(id, Pool::BuiltIn))?);
        let names = if let About::BuiltIn(names) = about { names } else { &[] };
        Ok(vec![Finding {
            placement: if let [name] = names { Some((*name).into()) } else { None },
            reason: reason(&finding),
            replay: replay(lab, names, id),
            ..finding
        }])
    };
    Ok(vec![Item { key: id.into(), judge: Box::new(judge) }])
}

/// The tier of a run, as the command line has it.
pub fn tier(lab: &Lab) -> &'static str {
    match lab.tier {
        Tier::Quick => "quick",
        Tier::Full => "full",
    }
}

/// The one command that judges a claim about built-ins again.
pub fn replay(lab: &Lab, names: &[&str], id: &str) -> String {
    let specs: String = names.iter().map(|name| format!("{name} ")).collect();
    format!("normative verify {specs}--claim {id} --tier {} --seed {}", tier(lab), lab.seed)
}
