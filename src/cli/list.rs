//! `normative list`

use clap::{Args as ClapArgs, ValueEnum};

use crate::claims::families;
use crate::cli::{Outcome, output};
use crate::error::Result;
use crate::op::{Registry, Role};
use crate::spec::Setting;
use crate::zoo;

#[derive(ClapArgs)]
pub struct Args {
    /// What to list.
    #[arg(default_value = "placements")]
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Placements,
    Normalizers,
    Settings,
    Claims,
}

pub fn run(args: &Args, registry: &Registry) -> Result<Outcome> {
    let table = match args.what {
        What::Placements => {
            let mut table = output::table(&["placement", "title", "source"]);
            for placement in zoo::all(&registry.vocabulary())? {
                table.add_row([
                    placement.name,
                    placement.title.unwrap_or_default(),
                    placement.source.unwrap_or_default(),
                ]);
            }
            table
        }
        What::Normalizers => {
            let mut table = output::table(&["normalizer", "printed as"]);
            for op in registry.iter().filter(|op| op.role() == Role::Normalizer) {
                table.add_row([op.name().to_owned(), op.notation().text]);
            }
            table
        }
        What::Settings => {
            let mut table = output::table(&["setting", "attention", "W_O", "FFN", "weights", "eps"]);
            for name in Setting::NAMES {
                let setting = Setting::named(name)?;
                let xiong = name == "xiong";
                table.add_row([
                    name.to_owned(),
                    if setting.uniform_attention { "uniform, one head".into() } else { "random W_Q, W_K".into() },
                    if setting.output_projection { "yes".into() } else { "no".into() },
                    format!("relu, {}", if xiong { "as wide as the stream" } else { "4 widths" }),
                    "N(0, 1/fan_in)".into(),
                    setting.eps.map_or("each normalizer's own".into(), |eps| eps.to_string()),
                ]);
            }
            table
        }
        What::Claims => {
            let mut table = output::table(&["claim", "known to be", "statement", "source"]);
            for claim in families().into_iter().flat_map(|(_, _, claims)| claims) {
                table.add_row([claim.id, claim.expected.word(), claim.statement, claim.source]);
            }
            table
        }
    };
    output::print(&table.to_string())?;
    Ok(Outcome::Held)
}
