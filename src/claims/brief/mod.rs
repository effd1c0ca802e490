//! The client's brief, statement by statement: A1-A51 of four public texts on pre-norm and post-norm, each judged by
//! experiment where one can decide it, and else not applicable with the reason.
//!
//! A [`Statement`] on [`Trial`] is judged on a [`Bench`], which a test may plant with another placement, setting or
//! number. Start at [`statements`].

mod activations;
mod bench;
mod dilution;
mod elsewhere;
mod exact;
mod figures;
mod gradients;
mod jacobians;
mod normalizers;

pub use bench::{Bench, Planted, Size};

use crate::claims::{About, Claim, Item, Lab, Tier, share};
use crate::error::{Error, Result};
use crate::verify::budget::{self, Pool};
use crate::verify::{Evidence, Finding, Interval, Verdict};

/// The most figures of a statement that chance has a part in: its share of the budget is split among so many.
pub const FIGURES: usize = 4;

/// What one of the texts says.
pub struct Statement {
    /// `brief.a13.words`.
    pub id: &'static str,
    /// As the text says it.
    pub text: &'static str,
    /// Which text, and where in it.
    pub source: &'static str,
    pub basis: Basis,
}

/// How a verdict is come by.
pub enum Basis {
    Trial(Trial),
    /// No experiment here can decide it, for this reason.
    Undecidable(&'static str),
}

/// An experiment that decides a statement.
pub struct Trial {
    /// Where the statement is taken to hold.
    pub domain: &'static str,
    pub about: About,
    pub expected: Verdict,
    /// The setting of its networks.
    pub setting: &'static str,
    /// The numbers that it states.
    pub stated: &'static [f64],
    /// From the smallest to the one it is judged at; a refuted statement is refuted again at the smallest that does.
    pub sizes: Sizes,
    /// Where it is judged in the full tier, if elsewhere.
    pub full: Option<[usize; 3]>,

    pub judge: Judge,
    /// What is true instead, for one that is refuted.
    pub instead: &'static str,
}

/// Width, blocks and tokens, from the smallest network.
pub type Sizes = &'static [[usize; 3]];

/// One figure for each part of a statement, at a size.
pub type Judge = fn(&Bench, Size) -> Result<Vec<Evidence>>;

/// All 51 of them, in order.
pub fn statements() -> Vec<Statement> {
    let parts = [
        exact::statements(),
        activations::statements(),
        gradients::statements(),
        jacobians::statements(),
        dilution::statements(),
        normalizers::statements(),
        elsewhere::statements(),
    ];
    let mut all: Vec<Statement> = parts.into_iter().flatten().collect();
    all.sort_by_key(Statement::number);
    all
}

pub fn claims() -> Vec<Claim> {
    let claim = |statement: Statement| {
        let (domain, about, expected) = match statement.basis {
            Basis::Trial(trial) => (trial.domain, trial.about, trial.expected),
            Basis::Undecidable(_) => ("beyond initialization", About::Nothing, Verdict::NotApplicable),
        };
        Claim { id: statement.id, statement: statement.text, source: statement.source, domain, about, expected, plan }
    };
    statements().into_iter().map(claim).collect()
}

fn plan(claim: &Claim, _: &Lab) -> Result<Vec<Item>> {
    let id = claim.id;
    let judge = move |lab: &Lab| {
        let statement = statements().into_iter().find(|s| s.id == id).ok_or_else(|| unknown(id))?;
        Ok(vec![statement.judged(lab, &Planted::default())?])
    };
    Ok(vec![Item { key: id.into(), judge: Box::new(judge) }])
}

fn unknown(id: &str) -> Error {
    Error::Option { message: format!("no statement {id}"), help: "`normative list claims` has them all".into() }
}

impl Statement {
    /// 13 for A13.
    pub fn number(&self) -> usize {
        let number = self.id.split('.').nth(1).and_then(|part| part.strip_prefix('a'));
        number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The finding, on the statement's own terms or on planted ones.
    ///
    /// # Errors
    /// A planted text that is wrong; an experiment that fails.
    pub fn judged(&self, lab: &Lab, planted: &Planted) -> Result<Finding> {
        match &self.basis {
            Basis::Undecidable(reason) => Ok(Finding::not_applicable(self.id, *reason)),
            Basis::Trial(trial) => trial.finding(self.id, lab, planted),
        }
    }
}

impl Trial {
    fn finding(&self, id: &str, lab: &Lab, planted: &Planted) -> Result<Finding> {
        let stated = planted.stated.as_deref().unwrap_or(self.stated);
        let alpha = budget::split(share(id, Pool::BuiltIn), FIGURES);
        let bench = Bench { lab, planted, setting: self.setting, stated, alpha };
        let deep = self.full.filter(|_| lab.tier == Tier::Full);
        let at: Size = deep.or(self.sizes.last().copied()).ok_or_else(|| unknown(id))?.into();
        let evidence = (self.judge)(&bench, at)?;
        let found = Finding::of(id, evidence);
        let reason = match found.verdict {
            Verdict::Refuted => Some(self.counterexample(&bench)?),
            _ => None,
        };
        let tier = if deep.is_some() { " --tier full" } else { "" };
        Ok(Finding {
            placement: match self.about {
                About::BuiltIn([name]) => Some((*name).into()),
                _ => None,
            },
            setting: Some(self.setting.into()),
            shape: Some(bench.shape(at)?),
            reason,
            replay: format!("normative verify --claim {id} --seed {}{tier}", lab.seed),
            ..found
        })
    }

    /// The smallest size that refutes, and what is true instead.
    fn counterexample(&self, bench: &Bench) -> Result<String> {
        for size in self.sizes {
            let finding = Finding::of("", (self.judge)(bench, Size::from(*size))?);
            if let (Verdict::Refuted, Some(figure)) = (finding.verdict, finding.decisive()) {
                let [width, blocks, tokens] = size;
                return Ok(format!(
                    "smallest counterexample: width {width}, blocks {blocks}, tokens {tokens}: {} is {}, where {} would be right. {}",
                    figure.figure,
                    number(figure.found),
                    words(figure.accepted),
                    self.instead
                ));
            }
        }
        Ok(self.instead.into())
    }
}

/// Four digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-3..1e5).contains(&size) => {
            let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.3e}"),
    }
}

fn words(Interval { from, to }: Interval) -> String {
    match (from.is_finite(), to.is_finite()) {
        (true, true) if from == to => number(from),
        (true, true) => format!("{} to {}", number(from), number(to)),
        (true, false) => format!("at least {}", number(from)),
        (false, true) => format!("at most {}", number(to)),
        (false, false) => "any number".into(),
    }
}
