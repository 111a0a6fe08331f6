//! `forewright plugin inspect`.

use std::path::{Path, PathBuf};

use ::plugins::manifest::Manifest;
use ::plugins::shape::{self, Shape};
use ::plugins::trust::KeyRing;
use ::plugins::{bundle, trust};
use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::super::output;
use super::plain;
use super::project::Opened;

/// Say what a plugin is, what it asks for and who signed it.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Inspect {
    /// A plugin, or the folder of a project, which is built first.
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Keys whose word is taken: lines of `name = "…"`, as `plugin key` prints them.
    #[arg(long, value_name = "KEYS.toml")]
    keys: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    digest: String,
    size_bytes: usize,
    /// Whose key signed it, if it is a known one.
    signer: Option<String>,
    /// Why nobody known vouches for it.
    not_trusted: Option<String>,
    manifest: &'a Manifest,
    imports: &'a [String],
    exports: &'a [String],
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::new(&self.path)?;
        let (parts, manifest) = bundle::open(&opened.file)?;
        let Shape { imports, exports } = shape::read(parts.component)?;
        let ring = self.keys.as_deref().map_or(Ok(KeyRing::default()), ring)?;
        let signer = ring.signer(parts.signed, parts.signature);
        let document = Document {
            digest: bundle::digest(&opened.file),
            size_bytes: opened.file.len(),
            signer: signer.as_ref().ok().map(|name| (*name).to_owned()),
            not_trusted: signer.as_ref().err().map(trust::TrustError::to_string),
            manifest: &manifest,
            imports: &imports,
            exports: &exports,
        };
        if self.json {
            return output::json(&document);
        }
        show(&opened, &document)
    }
}

fn ring(path: &Path) -> anyhow::Result<KeyRing> {
    let text = output::read_text("key ring", path)?;
    toml::from_str(&text).with_context(|| format!("key ring `{}`", path.display()))
}

fn show(opened: &Opened, document: &Document<'_>) -> anyhow::Result<()> {
    let manifest = document.manifest;
    let asked = manifest.capabilities.named().into_iter();
    let asked: Vec<String> = asked
        .filter_map(|capability| manifest.capabilities.line(capability))
        .collect();
    let limits = manifest
        .limits
        .named()
        .map(|(name, most)| format!("{name} {most}"));
    let signed = match (&document.signer, &document.not_trusted) {
        (Some(name), _) => format!("by `{name}`"),
        (None, why) => why.clone().unwrap_or_default(),
    };
    let listed = |lines: &[String], none: &str| match lines {
        [] => none.to_owned(),
        lines => plain(&lines.join("\n")).replace('\n', "\n            "),
    };
    output::facts(&[
        ("plugin", opened.title()),
        ("about", plain(&manifest.description)),
        ("digest", document.digest.clone()),
        ("size", format!("{} bytes", document.size_bytes)),
        ("signed", signed),
        ("asks for", listed(&asked, "nothing")),
        ("limits", limits.join(", ")),
        ("imports", listed(document.imports, "nothing")),
    ])
}
