//! What the binary was built from, for the header of records.

use std::path::Path;
use std::process::Command;

fn main() {
    provenance();
}

/// Commit, changes since, compiler and features, as variables for `env!`.
///
/// Runs again when the sources change, not when a commit is made: a binary built before its commit says so.
fn provenance() {
    for input in ["build.rs", "src", "Cargo.toml", "Cargo.lock"].into_iter().filter(|input| Path::new(input).exists()) {
        println!("cargo::rerun-if-changed={input}");
    }
    let changed = said("git", &["status", "--porcelain", "--", "src", "build.rs", "Cargo.toml", "Cargo.lock"]);
    let features = std::env::vars().filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase));
    let mut features: Vec<String> = features.filter(|name| name != "default").collect();
    features.sort();
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let profile = std::env::var("PROFILE").unwrap_or_default();
    for (name, value) in [
        ("COMMIT", said("git", &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into())),
        ("CHANGED", changed.is_none_or(|files| !files.is_empty()).to_string()),
        ("COMPILER", said(&compiler, &["--version"]).unwrap_or_else(|| "unknown".into())),
        ("FEATURES", features.join(" ")),
        ("PROFILE", profile),
        ("TARGET", std::env::var("TARGET").unwrap_or_default()),
    ] {
        println!("cargo::rustc-env=NORMATIVE_{name}={value}");
    }
}

/// What a command prints, where it succeeds.
fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
