//! The one error type: what is wrong, where, and what would be right.
//!
//! A refuted claim is a result, never an error.

use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, NamedSource, SourceSpan};
use thiserror::Error;

/// Where a piece of a formula stands in the text it was read from, in bytes.
///
/// Positions are for messages only: all spans compare equal, so that two trees
/// are equal when they mean the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: usize,
    pub len: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, each with its place, cause and remedy.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// A placement's file or formula is not well-formed; points into its text.
    #[error("{}:{}:{}: {}", .0.file, .0.line, .0.column, .0.message)]
    #[diagnostic(transparent)]
    Spec(Box<SpecError>),
    /// A placement cannot have this shape.
    #[error("{message}")]
    #[diagnostic(help("{help}"))]
    Shape { message: String, help: String },
    /// An option or argument of a command.
    #[error("{message}")]
    #[diagnostic(help("{help}"))]
    Option { message: String, help: String },
    /// A file that cannot be read or written.
    #[error("{}: {cause}", path.display())]
    #[diagnostic(help("{help}"))]
    File { path: PathBuf, cause: String, help: String },
    /// The request needs more memory than there is.
    #[error("this request needs about {} of memory, and {} are available", bytes(*needed), bytes(*available))]
    #[diagnostic(help("lower --width, --blocks, --tokens or --ffn-width"))]
    Memory { needed: u64, available: u64 },
    /// The request would run without end.
    #[error("this request would run for about {} hours here, and {longest:.0} are the most", hours_in_words(*hours))]
    #[diagnostic(help("lower --width, --blocks, --tokens, --seeds or --draws"))]
    Effort { hours: f64, longest: f64 },
    /// A device that is not there, or for which this binary was not built.
    #[error("device {device}: {cause}")]
    #[diagnostic(help("use --device cpu"))]
    Device { device: String, cause: String },
    /// A law or theory does not hold here; the reason says why.
    #[error("{subject}: {reason}")]
    #[diagnostic(help("{help}"))]
    Refused { subject: String, reason: String, help: String },
    /// A tensor operation failed at a site.
    #[error("{site}: {source}")]
    Tensor {
        site: String,
        #[source]
        source: candle_core::Error,
    },
}

/// An error with a place in a placement's text.
#[derive(Debug, Error, Diagnostic)]
#[error("{file}:{line}:{column}: {message}")]
pub struct SpecError {
    pub message: String,
    pub file: String,
    pub line: usize,
    pub column: usize,
    #[source_code]
    pub source_code: NamedSource<Arc<str>>,
    #[label("{label}")]
    pub at: SourceSpan,
    pub label: String,
    #[help]
    pub help: Option<String>,
}

/// A text with its name, for errors that point into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    pub name: Arc<str>,
    pub content: Arc<str>,
}

impl Text {
    pub fn new(name: impl Into<Arc<str>>, content: impl Into<Arc<str>>) -> Self {
        Text { name: name.into(), content: content.into() }
    }

    /// An error at `span` (bytes of the content): what was found, and what would be right.
    pub fn error(&self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Error {
        let start = span.start.min(self.content.len());
        let before = &self.content.as_bytes()[..start];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let help = help.into();
        Error::Spec(Box::new(SpecError {
            message: message.into(),
            file: self.name.to_string(),
            line: before.iter().filter(|&&b| b == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            source_code: NamedSource::new(&self.name, self.content.clone()).with_language("toml"),
            at: (start, span.len.min(self.content.len() - start)).into(),
            label: "here".into(),
            help: (!help.is_empty()).then_some(help),
        }))
    }
}

impl Error {
    /// The command's exit code for this error (design: 2 bad input, 4 device not present).
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Device { .. } => 4,
            _ => 2,
        }
    }

    /// A tensor error with the place where it happened.
    pub fn at(site: &str) -> impl FnOnce(candle_core::Error) -> Error {
        let site = site.to_owned();
        move |source| Error::Tensor { site, source }
    }
}

/// The known name nearest to a misspelt one, if one is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= 1.max(name.len().max(k.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// A number of bytes in words.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let power = (n.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{n} bytes"),
        _ => format!("{:.1} {}", n as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize]),
    }
}

/// Hours without digits that nobody reads.
fn hours_in_words(hours: f64) -> String {
    if hours < 1e6 { format!("{hours:.0}") } else { format!("{hours:.0e}") }
}
