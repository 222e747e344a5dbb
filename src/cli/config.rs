//! `ish config init | check | show`.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::console::print_list;
use crate::alerts::Rule;
use crate::config::{Config, Environment, template};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Print a commented file with every setting at its default.
    Init,
    /// Check the environment and the file; report every fault at once.
    Check,
    /// Show every setting, its value, and where that came from. Secrets are hidden.
    Show {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

impl ConfigVerb {
    pub(super) fn run(self, file: Option<&Path>) -> anyhow::Result<()> {
        match self {
            Self::Init => print!("{}", template()),
            Self::Check => {
                let config = Config::load(file)?;
                Rule::of_config(&config)?;
                for warning in config.warnings {
                    println!("warning: {warning}");
                }
                println!("the configuration is valid");
            }
            Self::Show { json } => {
                let settings = Config::origins(&Environment::of_process(), file)?;
                let rows: Vec<_> = settings
                    .iter()
                    .map(|(key, value, origin)| json!({"key": key, "value": value, "origin": origin.to_string()}))
                    .collect();
                print_list(&rows, &["key", "value", "origin"], json);
            }
        }
        Ok(())
    }
}
