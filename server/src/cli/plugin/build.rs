//! `forewright plugin build`.

use std::path::PathBuf;

use ::plugins::bundle;
use clap::Args;
use serde::Serialize;

use super::super::output;
use super::project;

/// Run a project's build and make one file of component and manifest.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Build {
    /// The folder with plugin.toml.
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The file [default: DIR/NAME-VERSION.wasm]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    file: PathBuf,
    size_bytes: usize,
    digest: String,
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = project::build(&self.folder, self.output.as_deref())?;
        let file = output::read("plugin", &path)?;
        let digest = bundle::digest(&file);
        let size_bytes = file.len();
        if self.json {
            return output::json(&Document {
                file: path,
                size_bytes,
                digest,
            });
        }
        output::line(&format!(
            "{} ({size_bytes} bytes, {digest})",
            path.display()
        ))
    }
}
