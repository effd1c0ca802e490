//! On what a run was made.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the bits of a result may depend on besides the run's arguments. Holds no time: two runs of one binary on one
/// machine have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub version: String,
    /// The commit of the sources at the build.
    pub commit: String,
    /// Whether the sources differed from the commit.
    pub changed: bool,
    /// SHA-256 of the program that ran, which tells builds of one commit apart.
    pub binary: String,
    /// SHA-256 of Cargo.lock.
    pub lock: String,
    pub compiler: String,
    pub profile: String,
    pub target: String,
    pub features: Vec<String>,
    pub processor: String,
    pub device: String,
    pub dtype: String,
}

impl Environment {
    /// This program, here, with networks on a device and in a precision, as the command names them.
    pub fn here(device: &str, dtype: &str) -> Self {
        let program = std::env::current_exe().and_then(std::fs::read);
        Environment {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: env!("NORMATIVE_COMMIT").into(),
            changed: env!("NORMATIVE_CHANGED") == "true",
            binary: program.map_or_else(|_| "unknown".into(), |bytes| sha256(&bytes)),
            lock: sha256(include_bytes!("../../Cargo.lock")),
            compiler: env!("NORMATIVE_COMPILER").into(),
            profile: env!("NORMATIVE_PROFILE").into(),
            target: env!("NORMATIVE_TARGET").into(),
            features: env!("NORMATIVE_FEATURES").split_whitespace().map(str::to_owned).collect(),
            processor: processor().unwrap_or_else(|| "unknown".into()),
            device: device.into(),
            dtype: dtype.into(),
        }
    }

    /// The commit in short, with a word where the sources differed from it.
    pub fn built_from(&self) -> String {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        format!("{short}{}", if self.changed { " with changes" } else { "" })
    }
}

/// The processor's name, where the system says it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
