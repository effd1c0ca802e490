//! Reports say what the records say: nothing dropped, nothing expected shown as an alarm, in forms that other programs read.

use std::collections::BTreeMap;

use normative::claims::Tier;
use normative::report::{
    Cell, Entry, Environment, FamilyOfClaims, Header, Judged, Outcome, Planted, Records, Score, Standing, Stated,
    Summary, html, json, junit, markdown,
};
use normative::spec::Shape;
use normative::verify::{Evidence, Finding, Interval, Verdict};
use serde_json::Value;

const SHAPE: Shape = Shape { width: 64, blocks: 4, tokens: 8, heads: 2, ffn_width: 256, causal: false };

fn environment() -> Environment {
    let word = |text: &str| text.to_owned();
    Environment {
        version: word("0.0.0"),
        commit: word("0123456789abcdef"),
        changed: true,
        binary: word("aa"),
        lock: word("bb"),
        compiler: word("rustc"),
        profile: word("release"),
        target: word("here"),
        features: vec![word("cuda")],
        processor: word("a processor"),
        device: word("cpu"),
        dtype: word("f32"),
    }
}

/// A fault that was refuted, and one that was not.
fn score() -> Score {
    let planted = |number, cause: Option<&str>| Planted {
        number,
        fault: format!("fault {number}"),
        check: "bound <1".into(),
        cause: cause.map(str::to_owned),
    };
    Score { schema: "normative/faults/1".into(), faults: vec![planted(1, Some("3 bounds & more")), planted(2, None)] }
}

/// Records of every kind of verdict: (claim, expected, placement, evidence found, accepted).
fn records() -> Records {
    let stated = |id: &str, expected| Stated {
        id: id.into(),
        statement: format!("{id} says that 1 < 2 & \"so\" <script>alert(1)</script>."),
        source: "Someone 2020, eq. 1".into(),
        domain: "everywhere".into(),
        expected,
    };
    let claims = vec![
        stated("growth.moment.linear", Verdict::Verified),
        stated("growth.moment.wrong", Verdict::Verified),
        stated("brief.a01.square_root", Verdict::Refuted),
        stated("brief.a02.training", Verdict::NotApplicable),
        stated("brief.a03.holds_after_all", Verdict::Refuted),
        stated("limits.half.overflow", Verdict::Verified),
        stated("limits.half.unrun", Verdict::Verified),
    ];
    let finding = |claim: &str, placement: &str, found: f64| {
        let evidence = Evidence::exact("slope", found, Interval::around(1.0, 0.25)).stating(1.0);
        Finding { placement: Some(placement.into()), shape: Some(SHAPE), ..Finding::of(claim, vec![evidence]) }
    };
    let open = |claim: &str, placement: &str, from: f64, to: f64| {
        let evidence = Evidence::exact("depth", 0.0, Interval::at_most(1.0)).found_in(from, to);
        Finding { placement: Some(placement.into()), ..Finding::of(claim, vec![evidence]) }
    };
    let done = vec![
        ("1", vec![finding(claims[0].id.as_str(), "pre-ln", 1.0), finding(&claims[0].id, "post-ln", 1.125)]),
        ("2", vec![finding(&claims[1].id, "pre-ln", 1.0), finding(&claims[1].id, "post-ln", 2.0)]),
        ("3", vec![finding(&claims[2].id, "pre-ln", 1.0), finding(&claims[2].id, "post-ln", 3.0)]),
        ("4", vec![Finding::not_applicable(&claims[3].id, "it is about training")]),
        ("5", vec![finding(&claims[4].id, "pre-ln", 1.0)]),
        ("6", vec![open(&claims[5].id, "pre-ln", 0.5, 1.5), open(&claims[5].id, "post-ln", f64::NAN, f64::INFINITY)]),
    ];
    let subject = |spec: &str| Judged {
        spec: spec.into(),
        name: spec.into(),
        title: Some(spec.to_uppercase()),
        source: None,
        normalizer: "layer_norm".into(),
        setting: "standard".into(),
        shape: SHAPE,
        text: "cc".into(),
    };
    let family = |name: &str| FamilyOfClaims { name: name.into(), about: format!("about {name}") };
    let header = Header {
        schema: "normative/records/1".into(),
        environment: environment(),
        score: score(),
        command: "normative verify pre-ln post-ln".into(),
        tier: Tier::Quick,
        seed: 0,
        families: ["growth", "brief", "limits"].map(family).into(),
        claims,
        subjects: ["pre-ln", "post-ln"].map(subject).into(),
        items: ["1", "2", "3", "4", "5", "6", "7", "8"].map(str::to_owned).into(),
    };
    let outcome = |(key, findings): (&str, Vec<Finding>)| {
        (key.to_owned(), Outcome::Done(findings.into_iter().map(Entry::Finding).collect()))
    };
    let mut outcomes: BTreeMap<String, Outcome> = done.into_iter().map(outcome).collect();
    outcomes.insert("7".into(), Outcome::Failed("no <memory>".into()));
    Records { header, outcomes, complete: false }
}

/// The records with the claims and items that come to nothing unexpected only.
fn sound() -> Records {
    let mut records = records();
    records.header.claims.retain(|claim| {
        ["growth.moment.linear", "brief.a01.square_root", "brief.a02.training"].contains(&claim.id.as_str())
    });
    records.header.items = vec!["1".into(), "3".into(), "4".into()];
    records.outcomes.retain(|key, _| ["1", "3", "4"].contains(&key.as_str()));
    records.complete = true;
    records
}

#[test]
fn a_verdict_alarms_only_against_what_is_known() {
    let records = records();
    let summary = Summary::of(&records);
    let standing: Vec<(&str, Standing)> =
        summary.claims.iter().map(|claim| (claim.stated.id.as_str(), claim.standing)).collect();
    let expected = [
        ("growth.moment.linear", Standing::Expected),
        ("growth.moment.wrong", Standing::Unexpected),
        // Known to be wrong, and wrong in one place: that it holds in another is no alarm.
        ("brief.a01.square_root", Standing::Expected),
        ("brief.a02.training", Standing::Expected),
        ("brief.a03.holds_after_all", Standing::Unexpected),
        ("limits.half.overflow", Standing::Open),
        ("limits.half.unrun", Standing::Expected),
    ];
    assert_eq!(standing, expected);
    assert_eq!(summary.standing(), Standing::Unexpected);
    let sound = sound();
    assert_eq!(Summary::of(&sound).standing(), Standing::Expected);
}

#[test]
fn every_finding_is_counted_once_in_the_matrix_and_shown_in_the_page() {
    let records = records();
    let summary = Summary::of(&records);
    let findings = records.findings().count();
    let placements = [Some("pre-ln"), Some("post-ln"), None];
    let cells: Vec<Cell> = ["growth", "brief", "limits"]
        .iter()
        .flat_map(|family| placements.map(|placement| summary.cell(placement, family)))
        .collect();
    assert_eq!(cells.iter().map(|cell| cell.counts.all()).sum::<usize>(), findings);
    assert_eq!(summary.counts().all(), findings);
    assert_eq!(summary.cell(Some("post-ln"), "growth").verdict, Some(Verdict::Refuted));
    let page = html(&records).unwrap();
    for claim in &records.header.claims {
        assert!(page.contains(&format!("id=\"claim-{}\"", claim.id)), "{}", claim.id);
    }
    for word in
        ["verified", "refuted", "undecided", "not applicable", "not run", "it is about training", "no &lt;memory&gt;"]
    {
        assert!(page.contains(word), "{word}");
    }
    // The fault score stands on the first page and leads to the faults.
    for shown in
        ["<a href=\"#faults\">1 of 2 planted faults</a>", "<td>3 bounds &amp; more</td>", "<td>not refuted</td>"]
    {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(page.matches(&"says that").count() > 2 * records.header.claims.len());
}

#[test]
fn the_page_needs_nothing_else_and_its_links_lead_somewhere() {
    let page = html(&records()).unwrap();
    for outside in ["src=", "@import", "url(", "<script", "href=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let links: Vec<&str> = page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        assert_eq!(page.matches(&format!("id=\"{link}\"")).count(), 1, "#{link}");
    }
}

#[test]
fn junit_is_read_by_others_and_its_counts_are_those_of_its_cases() {
    for records in [records(), sound()] {
        let text = junit(&records).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let root = document.root_element();
        let number = |node: roxmltree::Node, name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
        let mut total = 0;
        for suite in root.children().filter(|node| node.has_tag_name("testsuite")) {
            let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
            assert_eq!(number(suite, "tests"), cases.len());
            for (attribute, tag) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                let tagged = cases.iter().filter(|case| case.children().any(|child| child.has_tag_name(tag)));
                assert_eq!(number(suite, attribute), tagged.count(), "{attribute} of {:?}", suite.attribute("name"));
            }
            total += cases.len();
        }
        assert_eq!(number(root, "tests"), total);
        let failed = document.descendants().filter(|node| node.has_tag_name("failure")).count();
        assert_eq!(number(root, "failures"), failed);
        assert_eq!(failed, if records.complete { 0 } else { 4 });
    }
}

/// What a schema asks of a value and the value lacks; of the vocabulary, the keywords that the published schema uses.
fn lacking(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"));
        return lacking(root, target, value, at, found);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let mut wrong = |what: String| found.push(format!("{at}: {what}"));
    match schema["type"].as_str() {
        Some(asked) if asked != kind && (asked, kind) != ("number", "integer") => wrong(format!("{kind}, not {asked}")),
        _ => {}
    }
    if schema.get("const").is_some_and(|asked| asked != value) {
        wrong(format!("{value}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        wrong(format!("{value}"));
    }
    if schema["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(least, number)| number < least) {
        wrong(format!("{value} is too small"));
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            wrong(format!("no {key}"));
        }
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let fits = |schema: &&Value| {
            let mut lacks = Vec::new();
            lacking(root, schema, value, at, &mut lacks);
            lacks.is_empty()
        };
        if either.iter().filter(fits).count() != 1 {
            wrong("none or several of the forms".into());
        }
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(key) {
            lacking(root, inner, value, &format!("{at}/{key}"), found);
        }
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        let inner = schema["prefixItems"].get(index).or(schema.get("items"));
        if let Some(inner) = inner {
            lacking(root, inner, value, &format!("{at}/{index}"), found);
        }
    }
    let known = |key: &str| schema["properties"].get(key).is_some();
    for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| !known(key)) {
        if let Some(inner) = schema.get("additionalProperties") {
            lacking(root, inner, value, &format!("{at}/{key}"), found);
        }
    }
}

#[test]
fn the_json_is_what_the_published_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../src/report/templates/report.schema.json")).unwrap();
    let check = |report: &Value| {
        let mut lacks = Vec::new();
        lacking(&schema, &schema, report, "", &mut lacks);
        lacks
    };
    for records in [records(), sound()] {
        let report = json(&records);
        assert_eq!(check(&report), Vec::<String>::new());
        // The schema is not empty: what no report has, it refuses.
        for (pointer, wrong) in [
            ("/claims/0/findings/0/verdict", serde_json::json!("passed")),
            ("/claims/0/findings/0/evidence/0/found", serde_json::json!("much")),
            ("/claims/0/standing", serde_json::json!(null)),
            ("/counts/verified", serde_json::json!(-1)),
            ("/seed", serde_json::json!("0")),
            ("/score/faults/0/check", serde_json::json!(7)),
        ] {
            let mut report = report.clone();
            *report.pointer_mut(pointer).expect(pointer) = wrong;
            assert!(!check(&report).is_empty(), "{pointer}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_read_back_as_they_were() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1 + 0.2, -0.0, f64::MIN_POSITIVE, 1e300] {
        let evidence = Evidence {
            stated: Some(value),
            raw: vec![1.0, value],
            ..Evidence::exact("figure", value, Interval::new(value, f64::INFINITY))
        };
        let text = serde_json::to_string(&evidence).unwrap();
        let back: Evidence = serde_json::from_str(&text).unwrap();
        let bits = |e: &Evidence| {
            let all = [e.found, e.stated.unwrap(), e.raw[1], e.accepted.from, e.accepted.to, e.interval.from];
            all.map(|number| if number.is_nan() { 0 } else { number.to_bits() })
        };
        assert_eq!(bits(&back), bits(&evidence), "{text}");
        assert_eq!(back.found.is_nan(), value.is_nan());
        assert_eq!(back.verdict(), evidence.verdict());
    }
}

#[test]
fn the_report_for_a_pull_request_reads_well() {
    let text = [records(), sound()].map(|records| markdown(&records).unwrap()).join("\n\n----\n\n");
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("report.markdown", text);
    });
}
