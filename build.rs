//! What the binary was built from, for the header of records; and with the feature `cuda` the kernels' PTX.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: [&str; 3] = ["norm", "softmax", "curve"];
/// Name, type in CUDA C++, bytes.
const STORAGE: [(&str, &str, u8); 4] =
    [("f32", "float", 4), ("f64", "double", 8), ("bf16", "__nv_bfloat16", 2), ("f16", "__half", 2)];

fn main() {
    provenance();
    kernels();
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

/// With the feature `cuda`: nvcc turns the kernels into PTX, one file a source and storage type. Needs no GPU.
fn kernels() {
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let nvcc = env::var("NVCC").unwrap_or_else(|_| match env::var("CUDA_HOME") {
        Ok(home) => format!("{home}/bin/nvcc"),
        Err(_) => "nvcc".into(),
    });
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "90".into()).replace('.', "");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    for source in SOURCES {
        for (name, storage, bytes) in STORAGE {
            let folder = out.join(name);
            std::fs::create_dir_all(&folder).expect("cargo's folder can be written");
            let status = Command::new(&nvcc)
                .arg(format!("-arch=compute_{capability}"))
                // Results are defined: only written fma are fused, and the host shim gives the same bits.
                .args(["--ptx", "-O3", "-std=c++17", "-fmad=false", "-Werror", "all-warnings"])
                .arg(format!("-DSTORAGE={storage}"))
                .arg(format!("-DBYTES={bytes}"))
                .arg("--output-directory")
                .arg(&folder)
                .arg(format!("src/kernels/cuda/{source}.cu"))
                .status()
                .unwrap_or_else(|e| panic!("cannot run {nvcc}: {e}; set NVCC or CUDA_HOME"));
            assert!(status.success(), "nvcc failed on src/kernels/cuda/{source}.cu for {name}");
        }
    }
}
