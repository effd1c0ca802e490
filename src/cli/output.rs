//! How results look on the terminal: tables, and JSON alone on stdout.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::profile::{Figure, Kind, Place, Profile, Quantity};
pub use crate::report::words::digits;

/// Lines above, below and under the heads only: a table is read along its rows.
const STYLE: TableStyle = {
    let line = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(line).header_separator(line).bottom_border(line)
};

/// An empty table with these column heads, numbers to be right-aligned.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    table
}

/// A right-aligned cell.
pub fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Prints on stdout; a closed pipe ends the program's output, not the program.
pub fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::File {
            path: "standard output".into(),
            cause: error.to_string(),
            help: "is the disk full?".into(),
        }),
        _ => Ok(()),
    }
}

pub fn print_json(value: &Value) -> Result<()> {
    print(&serde_json::to_string_pretty(value).expect("a JSON value has only string keys"))
}

/// A figure with what is known of its error: `1.234 ±0.012` for a standard error or a law.
pub fn figure(figure: &Figure) -> String {
    let error = figure.se.or(figure.law).map(|e| format!(" ±{}", two_digits(e)));
    match figure.value {
        Some(value) => digits(value) + &error.unwrap_or_default(),
        None => "-".into(),
    }
}

fn two_digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if (1e-4..1e4).contains(&a) => {
            let decimals = (1 - a.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.1e}"),
    }
}

/// A profile for people: one table of sites, one of parameters.
pub fn profile(profile: &Profile) -> String {
    let layout = &profile.layout;
    let shape = layout.shape;
    let count = match (profile.kind, profile.seeds) {
        (Kind::Predicted, _) | (_, None) => String::new(),
        (Kind::Sampled, Some(n)) => format!(" · {n} draws"),
        (Kind::Measured, Some(n)) => format!(" · {n} seeds"),
    };
    let mut text = format!(
        "{} {} · {} · width {} · {} blocks · {} tokens · {} heads · ffn {}{}{}\n",
        layout.placement,
        profile.kind.word(),
        layout.normalizer,
        shape.width,
        shape.blocks,
        shape.tokens,
        shape.heads,
        shape.ffn_width,
        if shape.causal { " · causal" } else { "" },
        count,
    );
    let get = |place, quantity| profile.get(place, quantity).map_or_else(|| "-".to_owned(), figure);
    let mut sites = table(&["stream", "block", "step", "second moment", "overlap", "gradient"]);
    let row = |name: &str, block: String, step: String, place| {
        let figures = [Quantity::SecondMoment, Quantity::Overlap, Quantity::Gradient].map(|q| get(place, q));
        [Cell::new(name), number(block), number(step)].into_iter().chain(figures.map(number)).collect::<Vec<_>>()
    };
    sites.add_row(row("raw input", String::new(), String::new(), Place::Input));
    for (i, site) in layout.sites.iter().enumerate() {
        let (block, step) = if site.block == 0 {
            ("input".into(), String::new())
        } else {
            (site.block.to_string(), site.step.to_string())
        };
        sites.add_row(row(&site.stream, block, step, Place::Site(i)));
    }
    sites.add_row(row("output", String::new(), String::new(), Place::Output));
    text += &format!("{sites}\n");
    let mut parameters = table(&["parameter", "gradient"]);
    for (i, point) in layout.parameters.iter().enumerate() {
        parameters.add_row([Cell::new(&point.path), number(get(Place::Parameter(i), Quantity::Gradient))]);
    }
    text += &format!("{parameters}\n");
    let error = match profile.kind {
        Kind::Predicted => "± how far the truth may lie from the prediction",
        Kind::Sampled | Kind::Measured => "± standard error of the mean",
    };
    text += &format!(
        "gradient: expected squared norm of the total cotangent; parameters: squared Frobenius norm; {error}\n"
    );
    let mut reasons: Vec<&String> = profile.figures.iter().filter_map(|f| f.reason.as_ref()).collect();
    reasons.dedup();
    for reason in reasons.iter().take(3) {
        text += &format!("- {reason}\n");
    }
    text
}
