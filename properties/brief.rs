//! The brief's 51 statements: all are there, each has the verdict expected of it, and each that an experiment decides has
//! a planted placement, setting or number that flips it.

use normative::claims::brief::{Basis, FIGURES, Planted, Statement, statements};
use normative::claims::{Battery, Lab, Subject};
use normative::op::Registry;
use normative::spec::{Overrides, Setting};
use normative::verify::{Evidence, Finding, Verdict};
use normative::zoo;

/// A run's quick tier over some of the zoo.
fn lab<'a>(registry: &'a Registry, subjects: &'a [Subject]) -> Lab<'a> {
    Lab::quick(registry, subjects)
}

fn subject(name: &str, registry: &Registry) -> Subject {
    Subject {
        spec: name.into(),
        placement: zoo::placement(name, &registry.vocabulary()).unwrap(),
        setting: Setting::standard(),
        shape: Overrides::default().shape(128, 8, 16).unwrap(),
        generated: Vec::new(),
    }
}

fn shown(finding: &Finding) -> String {
    let line = |e: &Evidence| {
        format!(
            "\n    {}: {:.4} in [{:.4}, {:.4}], accepted [{:.4}, {:.4}], stated {:?}: {}",
            e.figure,
            e.found,
            e.interval.from,
            e.interval.to,
            e.accepted.from,
            e.accepted.to,
            e.stated,
            e.verdict().word()
        )
    };
    let figures: String = finding.evidence.iter().map(line).collect();
    let reason = finding.reason.as_deref().unwrap_or_default();
    format!("{} {}{figures}\n    {reason}", finding.claim, finding.verdict.word())
}

fn expected(statement: &Statement) -> Verdict {
    match &statement.basis {
        Basis::Trial(trial) => trial.expected,
        Basis::Undecidable(_) => Verdict::NotApplicable,
    }
}

#[test]
fn the_statements_are_a1_to_a51() {
    let numbers: Vec<usize> = statements().iter().map(Statement::number).collect();
    assert_eq!(numbers, (1..=51).collect::<Vec<_>>());
    for statement in statements() {
        assert!(statement.id.starts_with(&format!("brief.a{}.", statement.number())), "{}", statement.id);
        assert!(statement.source.starts_with("brief 00"), "{}: {}", statement.id, statement.source);
        if let Basis::Undecidable(reason) = statement.basis {
            assert!(reason.ends_with('.') && reason.split(' ').count() > 12, "{}: {reason}", statement.id);
        }
    }
}

/// The verdicts, through the battery as `verify` runs it, with what a finding must carry.
#[test]
fn every_statement_has_the_verdict_that_is_expected_of_it() {
    let registry = Registry::builtin();
    let subjects: Vec<Subject> = ["pre-ln", "post-ln", "gemma"].map(|name| subject(name, &registry)).into();
    let lab = lab(&registry, &subjects);
    let battery = Battery::matching(Some("brief.*")).unwrap();
    let items = battery.plan(&lab, true).unwrap();
    let findings: Vec<Finding> = items.iter().flat_map(|item| item.judged(&lab).unwrap()).collect();
    assert_eq!(findings.len(), 51);
    let mut wrong = Vec::new();
    for (statement, finding) in statements().iter().zip(&findings) {
        println!("{}", shown(finding));
        assert_eq!(finding.claim, statement.id);
        // How much faster a kernel is, is the machine's own, and how sure one is of it that of what else runs there.
        let timed = statement.number() == 45;
        if finding.verdict != expected(statement) && !timed {
            wrong.push(shown(finding));
        }
        assert!(finding.evidence.iter().filter(|e| e.alpha > 0.0).count() <= FIGURES, "{}", finding.claim);
        assert!(finding.evidence.iter().all(|e| e.recomputed() == e.interval), "{}", finding.claim);
        let reason = finding.reason.as_deref().unwrap_or_default();
        match finding.verdict {
            _ if timed => {}
            Verdict::Refuted => {
                assert!(reason.starts_with("smallest counterexample: width"), "{}: {reason}", finding.claim);
                assert!(finding.replay.contains(statement.id), "{}", finding.replay);
            }
            Verdict::NotApplicable => assert!(finding.evidence.is_empty() && !reason.is_empty(), "{}", finding.claim),
            _ => assert!(!finding.evidence.is_empty(), "{}", finding.claim),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The number of a statement, and what to plant so that its verdict flips.
fn plants() -> Vec<(usize, Planted)> {
    let texts =
        |placements: &[(&'static str, &'static str)]| Planted { placements: placements.to_vec(), ..Planted::default() };
    let numbers = |stated: &[f64]| Planted { stated: Some(stated.to_vec()), ..Planted::default() };
    let normalizer = |name: &str| Planted {
        setting: Overrides { normalizer: Some(name.into()), ..Overrides::default() },
        ..Planted::default()
    };
    vec![
        (1, texts(&[("post-ln", PRE_LN)])),
        // Without its final norm.
        (2, texts(&[("pre-ln", PRE_LN_OPEN)])),
        (3, texts(&[("post-ln", PRE_LN)])),
        (4, texts(&[("post-ln", "layer = \"x = sqrt(1.5)*norm(x + attn(x))\\nx = sqrt(1.5)*norm(x + ffn(x))\"")])),
        (5, texts(&[("pre-ln", NARROW_BRANCHES)])),
        (6, texts(&[("post-ln", PRE_LN)])),
        (7, texts(&[("pre-ln", POST_LN)])),
        (
            8,
            texts(&[(
                "post-ln",
                "layer = \"x = 0.7*x + 0.3*stop_gradient(x)\\nx = norm(x + attn(x))\\nx = norm(x + ffn(x))\"",
            )]),
        ),
        (9, texts(&[("pre-ln", NARROW_BRANCHES)])),
        // Branches without a way back: the cotangent of the last block is that of all.
        (
            10,
            texts(&[(
                "pre-ln",
                "layer = \"x = x + attn(stop_gradient(norm(x)))\\nx = x + ffn(stop_gradient(norm(x)))\"\noutput = \"norm(x)\"",
            )]),
        ),
        (11, texts(&[("pre-ln", NARROW_BRANCHES)])),
        (12, texts(&[("post-ln", DROPS_TO_0_3)])),
        (13, texts(&[("post-ln", FALLS_AS_INVERSE_ROOT)])),
        (14, texts(&[("post-ln", FALLS_AS_INVERSE)])),
        (15, texts(&[("pre-ln", UNNORMALIZED)])),
        // A stream that does explode, and a watch that f16 can keep.
        (16, Planted { stated: Some(vec![1e6, 1e4]), ..texts(&[("pre-ln", UNNORMALIZED)]) }),
        (
            17,
            texts(&[(
                "pre-ln",
                "layer = \"x = x + attn(norm(norm(norm(x))))\\nx = x + ffn(norm(norm(norm(x))))\"\noutput = \"norm(x)\"",
            )]),
        ),
        (18, texts(&[("pre-ln", POST_LN), ("post-ln", PRE_LN)])),
        // The factor in front of a norm, which does not see it.
        (
            24,
            texts(&[(
                "pre-ln with small branches",
                "layer = \"x = x + attn(norm(0.1*x))\\nx = x + ffn(norm(0.1*x))\"",
            )]),
        ),
        (29, normalizer("dyt")),
        (31, texts(&[("gemma", POST_LN)])),
        (36, texts(&[("pre-ln", POST_LN)])),
        (37, texts(&[("pre-ln", NARROW_BRANCHES)])),
        // The heading corrected.
        (38, numbers(&[0.5, 0.5])),
        (39, texts(&[("pre-ln", "layer = \"x = x + attn(norm(x))\\nx = x + ffn(norm(x))\"\noutput = \"dyt(x)\"")])),
        (40, texts(&[("post-ln", DEEPNORM)])),
        (
            42,
            texts(&[
                ("attention alone", "init = { w_v = 0.01 }\nlayer = \"x = attn(norm(x))\""),
                ("ffn alone", "init = { w_2 = 0.01 }\nlayer = \"x = ffn(norm(x))\""),
            ]),
        ),
        // A branch that adds to the sum and nothing to the gradient.
        (
            43,
            texts(&[(
                "post-ln of a zero map",
                "layer = \"x = norm(x + stop_gradient(attn(x)))\\nx = norm(x + stop_gradient(ffn(x)))\"",
            )]),
        ),
        (44, texts(&[("pre-ln", PRE_LN_OPEN)])),
        (45, Planted { clock: Some(vec![[1.0, 0.85]; 64]), ..Planted::default() }),
        // A mean of a hundred thousand deviations, where one pass is not enough.
        (46, numbers(&[2.0, 1e5])),
        (
            47,
            texts(&[
                (
                    "toy pre-norm",
                    "layer = \"x = 1.05*x - 0.05*stop_gradient(x) + 0.001*attn(norm(x))\\nx = 1.05*x - 0.05*stop_gradient(x) + 0.001*ffn(norm(x))\"",
                ),
                (
                    "toy post-norm",
                    "layer = \"x = norm(0.84*x + 0.16*stop_gradient(x) + 0.001*attn(x))\\nx = norm(0.84*x + 0.16*stop_gradient(x) + 0.001*ffn(x))\"",
                ),
            ]),
        ),
        (48, texts(&[("post-ln", PRE_LN)])),
        (49, normalizer("identity")),
        (50, texts(&[("pre-ln", POST_LN)])),
    ]
}

const PRE_LN: &str = "layer = \"x = x + attn(norm(x))\\nx = x + ffn(norm(x))\"\noutput = \"norm(x)\"";
const PRE_LN_OPEN: &str = "layer = \"x = x + attn(norm(x))\\nx = x + ffn(norm(x))\"";
const POST_LN: &str = "layer = \"x = norm(x + attn(x))\\nx = norm(x + ffn(x))\"";
const UNNORMALIZED: &str = "layer = \"x = x + attn(x)\\nx = x + ffn(x)\"";
const NARROW_BRANCHES: &str = "layer = \"x = x + attn(norm(x))/N\\nx = x + ffn(norm(x))/N\"\noutput = \"norm(x)\"";
const DEEPNORM: &str = "let = { alpha = \"(2*N)^(1/4)\", beta = \"(8*N)^(-1/4)\" }\n\
    init = { w_v = \"beta\", w_1 = \"beta\", w_2 = \"beta\" }\nlayer = \"x = norm(alpha*x + attn(x))\\nx = norm(alpha*x + ffn(x))\"";
// Level gradients, then a factor on the way back in every block.
const DROPS_TO_0_3: &str = "let = { c = \"(0.3/1.6)^(1/29)\" }\n\
    layer = \"x = c*x + (1 - c)*stop_gradient(x)\\nx = x + attn(norm(x))/N\\nx = x + ffn(norm(x))/N\"";
const FALLS_AS_INVERSE_ROOT: &str = "let = { c = \"sqrt((N - l + 1)/(N - l + 2))\" }\n\
    layer = \"x = c*x + (1 - c)*stop_gradient(x)\\nx = x + attn(norm(x))/N\\nx = x + ffn(norm(x))/N\"";
const FALLS_AS_INVERSE: &str = "let = { c = \"(N - l + 1)/(N - l + 2)\" }\n\
    layer = \"x = c*x + (1 - c)*stop_gradient(x)\\nx = x + attn(norm(x))/N\\nx = x + ffn(norm(x))/N\"";

#[test]
fn every_decidable_statement_is_flipped_by_what_is_planted() {
    let registry = Registry::builtin();
    let lab = lab(&registry, &[]);
    let (statements, plants) = (statements(), plants());
    let decidable: Vec<usize> =
        statements.iter().filter(|s| expected(s) != Verdict::NotApplicable).map(Statement::number).collect();
    assert_eq!(plants.iter().map(|(number, _)| *number).collect::<Vec<_>>(), decidable);
    let mut unmoved = Vec::new();
    for (number, planted) in plants {
        let statement = &statements[number - 1];
        let flipped = match expected(statement) {
            Verdict::Verified => Verdict::Refuted,
            _ => Verdict::Verified,
        };
        let finding = statement.judged(&lab, &planted).unwrap();
        if finding.verdict != flipped {
            unmoved.push(shown(&finding));
        }
    }
    assert!(unmoved.is_empty(), "{}", unmoved.join("\n"));
}
