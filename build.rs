//! With the feature `cuda`: nvcc turns the kernels into PTX, one file a source and storage type. Needs no GPU.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCES: [&str; 3] = ["norm", "softmax", "curve"];
/// Name, type in CUDA C++, bytes.
const STORAGE: [(&str, &str, u8); 4] =
    [("f32", "float", 4), ("f64", "double", 8), ("bf16", "__nv_bfloat16", 2), ("f16", "__half", 2)];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/kernels/cuda");
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
