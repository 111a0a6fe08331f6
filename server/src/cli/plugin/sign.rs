//! `forewright plugin key` and `forewright plugin sign`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ::plugins::bundle;
use ::plugins::trust::SigningKey;
use anyhow::Context;
use clap::Args;

use super::super::output;

/// Make a key to sign plugins with.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Key {
    /// The file, a PKCS#8 document; it is new, and only its owner can read it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Sign a plugin; a signature that it has is replaced.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Sign {
    /// The plugin.
    #[arg(value_name = "FILE")]
    plugin: PathBuf,
    /// The key, as `plugin key` made it.
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// Where the signed plugin goes [default: in place of the plugin]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (key, document) = SigningKey::generate()?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)
            .and_then(|mut file| file.write_all(&document));
        written.with_context(|| format!("failed to write `{}`", self.file.display()))?;
        output::note("an operator who trusts you adds this line, with your name, to the key ring:");
        output::line(&format!("you = \"{}\"", key.public()))
    }
}

impl Sign {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = output::read("plugin", &self.plugin)?;
        let (parts, manifest) = bundle::open(&file)
            .with_context(|| format!("`{}` is no plugin", self.plugin.display()))?;
        let key = SigningKey::from_pkcs8(&output::read("key", &self.key)?)?;
        let sealed = bundle::seal(parts.signed, &key.sign(parts.signed));
        let to = self.output.as_ref().unwrap_or(&self.plugin);
        output::write(to, &sealed)?;
        let (name, version) = (manifest.name, manifest.version);
        output::line(&format!("{name} {version} is signed by {}", key.public()))
    }
}
