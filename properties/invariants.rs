//! What no line of the source may do, read from the source itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each part of `src` may import of the others (ARCHITECTURE.md, invariants). A part that is not here is an error.
const IMPORTS: [(&str, &str); 20] = [
    ("error", ""),
    ("elementary", ""),
    ("random", "elementary"),
    ("memory", "error"),
    ("effort", "error"),
    ("kernels", "error"),
    ("spec", "error"),
    ("op", "error elementary random memory kernels spec"),
    ("zoo", "error spec"),
    ("fold", "error memory spec op"),
    ("profile", "error spec op fold"),
    ("execute", "error random memory effort kernels spec op fold profile"),
    ("sample", "error random memory effort spec op fold profile"),
    ("predict", "error random memory effort spec op fold profile"),
    ("explain", "error random memory spec op fold profile"),
    ("reference", ""),
    ("verify", "error random memory kernels spec op zoo fold profile execute sample predict explain"),
    ("claims", "error random memory kernels spec op zoo fold profile execute sample predict explain reference verify"),
    ("report", "error random memory spec op zoo fold profile execute sample predict explain verify claims"),
    ("cli", "error random memory kernels spec op zoo fold profile execute sample predict explain verify claims report"),
];

/// Where tensors may be known; in `op` only where ops run.
const WITH_TENSORS: [&str; 8] = ["error", "op", "kernels", "execute", "reference", "verify", "claims", "cli"];

/// Where code may be unsafe: kernels and SIMD behind a detected feature, and the setting of a variable before any thread.
const UNSAFE: [&str; 7] = [
    "src/kernels/",
    "src/random.rs",
    "src/op/columns.rs",
    "src/op/columns/lanes.rs",
    "src/op/attention/moments/octet/",
    "src/cli/mod.rs",
    "src/execute/device.rs",
];

const MOST_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its path from the root.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(folder) = waiting.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => waiting.push(path),
                Some(e) if e == "rs" => {
                    let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                    found.push((name, std::fs::read_to_string(&path).unwrap()));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The numbered lines that are code outside unit tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    (1..).zip(code).filter(|(_, line)| !line.trim().is_empty())
}

/// `src/op/radial/mod.rs` is a part of `op`.
fn part(file: &str) -> &str {
    let inner = file.strip_prefix("src/").unwrap();
    inner.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The parts that a line names by `crate::`.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => group.split(',').collect::<Vec<_>>(),
            None => vec![rest],
        })
        .map(|rest| rest.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .filter(|name| !name.is_empty())
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, Vec<&str>> =
        IMPORTS.iter().map(|(part, others)| (*part, others.split(' ').collect())).collect();
    let mut wrong = Vec::new();
    for (file, text) in files("src") {
        if ["src/lib.rs", "src/main.rs"].contains(&file.as_str()) {
            continue;
        }
        let of = part(&file);
        let Some(others) = allowed.get(of) else {
            wrong.push(format!("{file}: `{of}` has no place in the order of imports; give it one in IMPORTS"));
            continue;
        };
        for (number, line) in code(&text) {
            for other in imported(line).filter(|other| *other != of && !others.contains(other)) {
                wrong.push(format!("{file}:{number}: `{of}` may not import `{other}`: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_order_of_imports_has_no_cycle() {
    for (position, (part, others)) in IMPORTS.iter().enumerate() {
        for other in others.split(' ').filter(|o| !o.is_empty()) {
            let earlier = IMPORTS.iter().position(|(p, _)| *p == other).unwrap_or_else(|| panic!("{part}: {other}?"));
            assert!(earlier < position, "`{part}` stands above `{other}`");
        }
    }
}

#[test]
fn tensors_are_known_only_where_networks_run() {
    let mut wrong = Vec::new();
    for (file, text) in files("src") {
        // The theory of an op stands beside its tensors, and knows none.
        let theory = ["moments.rs", "rows.rs", "response.rs", "site.rs"].iter().any(|name| file.ends_with(name));
        if theory || !WITH_TENSORS.contains(&part(&file)) {
            let lines = code(&text).filter(|(_, line)| line.contains("candle"));
            wrong.extend(lines.map(|(number, line)| format!("{file}:{number}: {}", line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_where_it_may_with_its_reason() {
    let mut wrong = Vec::new();
    for (file, text) in files("src") {
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        for (number, line) in code(&text).filter(|(_, line)| words(line)) {
            // The reason stands on the lines before, or once for a whole macro or implementation.
            let items = ["impl ", "impl<", "macro_rules!"];
            let opens = |line: &&str| items.iter().any(|item| line.trim_start().starts_with(item));
            let item = lines[..number].iter().rposition(opens).unwrap_or(number);
            let given = |from: usize, to: usize| {
                lines[from..to].iter().any(|line| line.contains("SAFETY") || line.contains("# Safety"))
            };
            let reason = given(number.saturating_sub(8), number) || given(item.saturating_sub(8), item);
            if !reason || !UNSAFE.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed here, or without a SAFETY comment:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let mut lengths: Vec<(usize, String)> =
        files("src").into_iter().map(|(file, text)| (text.lines().count(), file)).collect();
    lengths.sort();
    println!("{} files, {} lines at the median", lengths.len(), lengths[lengths.len() / 2].0);
    let long: Vec<_> = lengths.iter().filter(|(lines, _)| *lines > MOST_LINES).collect();
    assert!(long.is_empty(), "{long:?}");
}

fn manifest() -> toml::Table {
    std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()
}

/// The paths of the targets of a kind.
fn targets(kind: &str) -> Vec<PathBuf> {
    let manifest = manifest();
    let all = manifest.get(kind).and_then(toml::Value::as_array).cloned().unwrap_or_default();
    all.iter().map(|target| root().join(target["path"].as_str().expect("every target has a path"))).collect()
}

/// Cargo finds nothing by itself in `properties/`: a file without a target is a test that never runs.
#[test]
fn every_test_is_a_target_and_every_target_is_there() {
    let tests = targets("test");
    let missing: Vec<_> = tests.iter().chain(&targets("example")).filter(|path| !path.is_file()).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    for (folder, kind) in [("properties", "test"), ("properties/examples", "example")] {
        let known = targets(kind);
        let here = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for path in here.filter(|path| path.extension().is_some_and(|e| e == "rs")) {
            assert!(known.contains(&path), "{} has no [[{kind}]] in Cargo.toml", path.display());
        }
    }
}

/// candle-nn's fused norms, softmax and rope have no gradient (candle issues 2168 and 3011).
#[test]
fn nothing_depends_on_operations_without_a_gradient() {
    // The kit judges them, and names them in one place only.
    let judged = "src/verify/conformance/subjects.rs";
    let named = files("src").into_iter().filter(|(_, text)| code(text).any(|(_, line)| line.contains("candle_nn")));
    assert_eq!(named.map(|(file, _)| file).collect::<Vec<_>>(), [judged]);
    let lints = std::fs::read_to_string(root().join("clippy.toml")).unwrap();
    for method in ["candle_nn::ops::softmax_last_dim", "candle_nn::ops::layer_norm", "candle_nn::ops::rms_norm"] {
        assert!(lints.contains(method), "clippy.toml does not disallow {method}");
    }
}
