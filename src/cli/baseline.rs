//! `normative baseline`

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::request::{DeviceArgs, ShapeArgs, named, placements};
use crate::cli::{Outcome, output};
use crate::error::{Error, Result};
use crate::execute::{Measurement, measure};
use crate::op::Registry;
use crate::report::{Baseline, How, write_file};
use crate::spec::Placement;

#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure variants and write a file each.
    Save(SaveArgs),
}

#[derive(ClapArgs)]
struct SaveArgs {
    /// The file (ending in .toml), or a folder that takes one file a placement.
    path: PathBuf,
    /// Built-in placements or files; all built-in ones if none is given.
    specs: Vec<String>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Networks measured; the comparison measures the same again.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..))]
    seeds: u32,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write over a baseline that is there.
    #[arg(long)]
    replace: bool,
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let Command::Save(args) = &args.command;
    let how = Measurement {
        seeds: args.seeds as usize,
        first_seed: args.seed,
        device: args.device.device()?,
        dtype: args.device.dtype(),
    };
    let placements = placements(&args.specs, registry)?;
    let files = placements
        .iter()
        .map(|placement| file_of(&args.path, placement, placements.len()))
        .collect::<Result<Vec<_>>>()?;
    // Before anything is measured or written.
    if let Some(there) = files.iter().find(|file| file.exists() && !args.replace) {
        return Err(Error::File {
            path: there.clone(),
            cause: "there is a baseline already".into(),
            help: "compare with `normative regress`, or write over it with --replace".into(),
        });
    }
    let mut written = String::new();
    for (placement, file) in placements.iter().zip(&files) {
        let profile = measure(&args.shape.graph(placement, registry)?, &how)?.profile();
        let measured = How {
            options: args.shape.given().iter().map(|(name, value)| format!("--{name}={value}")).collect(),
            dtype: named(args.device.dtype),
            seeds: how.seeds,
            seed: how.first_seed,
        };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|cause| Error::File {
                path: folder.into(),
                cause: cause.to_string(),
                help: "choose a folder that can be written".into(),
            })?;
        }
        write_file(file, &Baseline::new(&placement.name, measured, &profile).text()?)?;
        written += &format!("{} written\n", file.display());
    }
    output::print(&written)?;
    Ok(Outcome::Held)
}

/// The baseline's file of a placement: the path itself where it is a file, else one in the folder.
///
/// # Errors
/// Several placements for one file.
pub fn file_of(path: &Path, placement: &Placement, placements: usize) -> Result<PathBuf> {
    match path.extension().is_some_and(|extension| extension == "toml") {
        true if placements > 1 => Err(Error::Option {
            message: format!("{placements} placements and one file, {}", path.display()),
            help: "name one placement, or a folder".into(),
        }),
        true => Ok(path.to_owned()),
        false => Ok(path.join(format!("{}.toml", placement.name))),
    }
}
