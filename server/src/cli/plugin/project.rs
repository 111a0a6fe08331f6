//! A plugin on its author's machine: the project it is built from, or the file that came of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{fs, io};

use ::plugins::componentize::componentize;
use ::plugins::engine::{Pace, Plugin, Runtime};
use ::plugins::grants::Grants;
use ::plugins::manifest::Manifest;
use ::plugins::project::{File, bindings};
use ::plugins::schema::Schemas;
use ::plugins::{bundle, shape};
use anyhow::{Context, bail};
use semver::Version;

use super::super::output;

/// The name of the manifest in its folder.
pub(super) const MANIFEST: &str = "plugin.toml";

/// A plugin's file, taken apart.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) file: Vec<u8>,
    pub(super) manifest: Manifest,
    /// The project it was built from, if it was.
    pub(super) folder: Option<PathBuf>,
}

impl Opened {
    /// The plugin of a file, or that of a project, which is built anew.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            return Self::of_file(path);
        }
        let built = build(path, None)?;
        Ok(Self {
            folder: Some(path.to_owned()),
            ..Self::of_file(&built)?
        })
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let file = output::read("plugin", path)?;
        let opened = Self::of_bytes(&file);
        let mut opened = opened.with_context(|| format!("`{}` is no plugin", path.display()))?;
        path.clone_into(&mut opened.path);
        Ok(opened)
    }

    /// The plugin of a file's bytes, wherever they come from.
    pub(super) fn of_bytes(file: &[u8]) -> anyhow::Result<Self> {
        let (_, manifest) = bundle::open(file)?;
        Ok(Self {
            path: PathBuf::new(),
            file: file.to_vec(),
            manifest,
            folder: None,
        })
    }

    /// What was added to it left out.
    pub(super) fn component(&self) -> anyhow::Result<&[u8]> {
        Ok(bundle::open(&self.file)?.0.component)
    }

    /// Ready to be called, with all it asks for granted: it runs beside its author. What it is given and answers is held to
    /// its schemas.
    pub(super) fn prepare(&self, pace: Pace) -> anyhow::Result<Plugin> {
        let (component, manifest) = (self.component()?, &self.manifest);
        let shape = shape::read(component)?;
        shape::admit(&shape, manifest, &manifest.capabilities)?;
        let grants = Grants::all(&manifest.capabilities);
        let runtime = Runtime::new(pace)?;
        let plugin = runtime.prepare(component, manifest.world, grants, &manifest.limits)?;
        let schemas = Schemas::of(manifest).map_err(anyhow::Error::msg)?;
        Ok(plugin.held_to(&Arc::new(schemas)))
    }

    /// Name, version and world.
    pub(super) fn title(&self) -> String {
        let Manifest {
            name,
            version,
            world,
            ..
        } = &self.manifest;
        format!("{name} {version} ({world})")
    }
}

/// Builds the plugin of a folder; answers its file, which is `NAME-VERSION.wasm` beside the manifest unless `to` says
/// otherwise.
pub(super) fn build(folder: &Path, to: Option<&Path>) -> anyhow::Result<PathBuf> {
    let (text, manifest) = manifest_of(folder)?;
    let from = compile(folder, &manifest)?;
    let beside = folder.join(format!("{}-{}.wasm", manifest.name, manifest.version));
    let to = to.map_or(beside, Path::to_owned);
    if to == from {
        bail!(
            "`{}` is the module the plugin is made of, and would be written over",
            to.display()
        );
    }
    let module = output::read("module", &from)?;
    let file =
        file_of(&module, &text, &manifest).with_context(|| format!("`{}`", from.display()))?;
    output::write(&to, &file)?;
    Ok(to)
}

/// The same in memory, as another version than its manifest says.
pub(super) fn build_as(
    folder: &Path,
    version: impl FnOnce(&Version) -> anyhow::Result<Version>,
) -> anyhow::Result<(Manifest, Vec<u8>)> {
    let (text, manifest) = manifest_of(folder)?;
    let from = compile(folder, &manifest)?;
    let text = with_version(&text, &version(&manifest.version)?);
    let manifest: Manifest = text.parse()?;
    let module = output::read("module", &from)?;
    let file =
        file_of(&module, &text, &manifest).with_context(|| format!("`{}`", from.display()))?;
    Ok((manifest, file))
}

/// The manifest's text with another version in the place of its own, which stands before the first table.
fn with_version(text: &str, version: &Version) -> String {
    let own = |line: &&str| line.split('=').next().unwrap_or_default().trim() == "version";
    let line = text.lines().find(own).unwrap_or_default();
    text.replacen(line, &format!("version = \"{version}\""), 1)
}

fn manifest_of(folder: &Path) -> anyhow::Result<(String, Manifest)> {
    let path = folder.join(MANIFEST);
    let text = output::read_text("manifest", &path)?;
    let manifest = (text.parse()).with_context(|| format!("`{}`", path.display()))?;
    Ok((text, manifest))
}

/// Runs a project's build; answers the module or component that it left.
fn compile(folder: &Path, manifest: &Manifest) -> anyhow::Result<PathBuf> {
    let Some(build) = &manifest.build else {
        bail!(
            "`{}` says nothing of how the plugin is built; add\n\n  \
             [build]\n  command = \"make\"\n  module = \"{}.wasm\"",
            folder.join(MANIFEST).display(),
            manifest.name
        );
    };
    write(folder, &bindings(manifest))?;
    if let Some(command) = &build.command {
        run(command, folder)?;
    }
    Ok(folder.join(&build.module))
}

/// Writes files into a folder; one that is there already as it should be keeps its time, so that nothing is built again
/// for it.
pub(super) fn write(folder: &Path, files: &[File]) -> anyhow::Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        if fs::read(&path).is_ok_and(|there| there == file.bytes) {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to make the folder `{}`", parent.display()))?;
        output::write(&path, &file.bytes)?;
    }
    Ok(())
}

/// The plugin's file, out of a module or component that fits its manifest.
fn file_of(module: &[u8], text: &str, manifest: &Manifest) -> anyhow::Result<Vec<u8>> {
    let component = component_of(module, manifest)?;
    let shape = shape::read(&component)?;
    shape::admit(&shape, manifest, &manifest.capabilities)?;
    let file = bundle::pack(&component, &with_digest(text, manifest, &component));
    // It says so if the manifest has the digest of another component.
    bundle::open(&file)?;
    Ok(file)
}

/// What a build prints is no result of ours: it goes where progress goes.
fn run(command: &str, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("failed to run `{command}`"))?;
    if !status.success() {
        bail!("the build failed: `{command}` ended with {status}");
    }
    Ok(())
}

fn component_of(module: &[u8], manifest: &Manifest) -> anyhow::Result<Vec<u8>> {
    match shape::read(module) {
        Err(shape::ShapeError::CoreModule) => {
            let capabilities = manifest.capabilities.named();
            Ok(componentize(module, manifest.world, &capabilities)?)
        }
        Err(why) => Err(why.into()),
        Ok(_) => Ok(module.to_vec()),
    }
}

/// The manifest's text with the digest of its component; first, since what follows may belong to a table.
fn with_digest(text: &str, manifest: &Manifest, component: &[u8]) -> String {
    match manifest.digest {
        Some(_) => text.to_owned(),
        None => format!("digest = \"{}\"\n{text}", bundle::digest(component)),
    }
}
