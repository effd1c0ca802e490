//! The files of a report, each from the records only, by its template.

use std::io::Write;
use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, context};

use crate::error::{Error, Result};
use crate::report::curves::{BAND, LEVEL};
use crate::report::journal::Records;
use crate::report::sheet::{Claim, Sheet, placements};
use crate::report::summary::Summary;

const STYLE: &str = include_str!("templates/style.css");

/// Writes every file of a report into its folder.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(folder: &Path, records: &Records) -> Result<()> {
    let json = serde_json::to_string_pretty(&super::json(records)).unwrap_or_default();
    write_file(&folder.join("report.json"), &json)?;
    write_file(&folder.join("report.schema.json"), include_str!("templates/report.schema.json"))?;
    write_file(&folder.join("index.html"), &html(records)?)?;
    write_file(&folder.join("report.md"), &markdown(records)?)?;
    write_file(&folder.join("junit.xml"), &junit(records)?)
}

/// The report as one page that needs nothing else.
pub fn html(records: &Records) -> Result<String> {
    let summary = Summary::of(records);
    let sheet = Sheet::of(records, &summary);
    let placements = placements(records, &sheet)?;
    let brief: Vec<&Claim> =
        sheet.claims.iter().filter(|claim| claim.family == "brief" && claim.best.is_some()).collect();
    rendered("report.html", context! { sheet, placements, brief, band => 100.0 * BAND, level => LEVEL })
}

/// The report for a pull request.
pub fn markdown(records: &Records) -> Result<String> {
    render("report.md", records)
}

/// The verdicts as JUnit XML: a suite a family, a case a finding.
pub fn junit(records: &Records) -> Result<String> {
    let text = render("junit.xml", records)?;
    // XML has no form for other control characters.
    Ok(text.chars().filter(|c| !c.is_control() || "\n\t\r".contains(*c)).collect())
}

fn render(name: &str, records: &Records) -> Result<String> {
    let summary = Summary::of(records);
    rendered(name, context! { sheet => Sheet::of(records, &summary) })
}

pub(super) fn rendered(name: &str, context: minijinja::Value) -> Result<String> {
    let defect = |error: minijinja::Error| Error::Refused {
        subject: format!("the report's template {name}"),
        reason: format!("{error:#}"),
        help: "this is a defect of normative".into(),
    };
    let templates = templates().map_err(defect)?;
    templates.get_template(name).and_then(|page| page.render(context)).map_err(defect)
}

fn templates() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut all = Environment::new();
    all.set_undefined_behavior(UndefinedBehavior::Strict);
    all.set_trim_blocks(true);
    all.set_lstrip_blocks(true);
    all.add_template("report.html", include_str!("templates/report.html"))?;
    all.add_global("style", STYLE);
    all.add_template("comparison.html", include_str!("templates/comparison.html"))?;
    all.add_template("report.md", include_str!("templates/report.md"))?;
    all.add_template("junit.xml", include_str!("templates/junit.xml"))?;
    Ok(all)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// A place that cannot be written; what was there stays.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let failed = |cause: std::io::Error| Error::File {
        path: path.into(),
        cause: cause.to_string(),
        help: "free space or choose another place; records are kept, `normative report DIR` writes the rest".into(),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(failed)
}
