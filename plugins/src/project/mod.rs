//! What an author begins with: a folder that builds, passes the conformance kit and its own cases, in each language.
//!
//! The templates do the same in every language, so one set of cases holds for all of them.

mod bindings;
mod languages;

use std::fmt::Write as _;

pub use bindings::bindings;
pub use languages::Language;
use languages::Template;

use crate::manifest::Bindings;
use crate::world::{PACKAGE, World};

/// A file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the project's folder, with `/`.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl File {
    fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            bytes: bytes.into(),
        }
    }
}

/// A file of a template: its path, and what is in it.
type Part = (&'static str, &'static [u8]);

impl From<&Part> for File {
    fn from(&(path, bytes): &Part) -> Self {
        Self::new(path, bytes)
    }
}

macro_rules! template {
    ($($path:literal),*) => {
        include_bytes!(concat!("../../templates/", $($path),*)) as &[u8]
    };
}
use template;

/// Stands in a template where the plugin's name goes.
const NAME: &str = "{{name}}";

const IGNORED: &str = "\
/bindings/
/build/
/wit/
/{{name}}-*.wasm
";

/// A new project's files. `name` is the plugin's, as a manifest has it.
#[must_use]
pub fn new(name: &str, world: World, language: Language) -> Vec<File> {
    let template = language.template();
    let own = of_world(world);
    let mut files = vec![
        File::new("plugin.toml", manifest(world, &template, own.manifest)),
        File::new("README.md", readme(world, &template)),
        File::new(".gitignore", [IGNORED, template.ignored].concat()),
        File::new(path_of_source(world, &template), language.source(world)),
    ];
    files.extend(own.tests.iter().chain(template.files).map(File::from));
    files.extend(language.glue(world));
    for file in &mut files {
        // What is no text has no name in it.
        if let Ok(text) = std::str::from_utf8(&file.bytes) {
            file.bytes = text.replace(NAME, name).into_bytes();
        }
    }
    files
}

fn path_of_source(world: World, template: &Template) -> String {
    template.source.replace("{{world}}", world.name())
}

fn manifest(world: World, template: &Template, own: &str) -> String {
    let mut text = format!(
        "name = \"{NAME}\"\nversion = \"0.1.0\"\nworld = \"{world}\"\ninterface = \"{PACKAGE}@1\"\n\
         description = \"\"\n\n"
    );
    for part in [own, template.limits] {
        if !part.trim().is_empty() {
            text.push_str(part);
            text.push('\n');
        }
    }
    text.push_str("[build]\ncommand = \"sh build.sh\"\nmodule = \"build/plugin.wasm\"\n");
    if let Some(bindings) = template.bindings {
        let (word, folder) = match bindings {
            Bindings::Wit => ("wit", "wit"),
            Bindings::C => ("c", "bindings"),
        };
        let _ = writeln!(
            text,
            "bindings = \"{word}\"                    # {folder}/ is written before each build"
        );
    }
    text.push_str("\n[tests]\ncases = \"tests/*.toml\"\n");
    text
}

fn readme(world: World, template: &Template) -> String {
    let (source, needs) = (path_of_source(world, template), template.needs);
    format!(
        "# {NAME}\n\n\
         What this {world} does is in `{source}`; how much of the world it may use, in `plugin.toml`.\n\n\
         Needs {needs}.\n\n\
         ```sh\n\
         forewright plugin build     # {NAME}-0.1.0.wasm, ready to be installed\n\
         forewright plugin test      # the cases in tests/\n\
         forewright plugin check     # what every plugin meets sooner or later\n\
         ```\n"
    )
}

/// What a world's projects have in common, whatever they are written in.
struct OfWorld {
    manifest: &'static str,
    tests: &'static [Part],
}

macro_rules! of_world {
    ($world:literal, $($test:literal),*) => {
        OfWorld {
            manifest: include_str!(concat!("../../templates/worlds/", $world, "/plugin.toml")),
            tests: &[$((
                concat!("tests/", $test),
                include_bytes!(concat!("../../templates/worlds/", $world, "/tests/", $test)),
            )),*],
        }
    };
}

fn of_world(world: World) -> OfWorld {
    match world {
        World::Predictor => of_world!(
            "predictor",
            "a_fan_nobody_measured.toml",
            "a_fan_that_shakes.toml"
        ),
        World::Detector => of_world!("detector", "a_spike.toml", "too_little_to_learn_from.toml"),
        World::Designer => of_world!("designer", "a_block.toml", "a_hole.toml"),
        World::Verifier => of_world!("verifier", "nobody_looked.toml", "no_mesh.toml", "part.stl"),
        World::Scheduler => of_world!("scheduler", "one_after_the_other.toml"),
        World::Action => of_world!("action", "it_says_what_it_did.toml", "nothing_to_do.toml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::manifest::Manifest;

    fn all() -> impl Iterator<Item = (World, Language)> {
        let of_world = |world| {
            Language::ALL
                .into_iter()
                .map(move |language| (world, language))
        };
        World::ALL.into_iter().flat_map(of_world)
    }

    fn text<'a>(files: &'a [File], path: &str) -> &'a str {
        let file = files.iter().find(|file| file.path == path);
        std::str::from_utf8(&file.expect(path).bytes).unwrap()
    }

    #[test]
    fn every_manifest_is_one() {
        for (world, language) in all() {
            let files = new("fan-wear", world, language);
            let manifest: Manifest = text(&files, "plugin.toml").parse().unwrap();
            assert_eq!(
                (manifest.name.as_str(), manifest.world),
                ("fan-wear", world)
            );
            let build = manifest.build.as_ref().unwrap();
            assert_eq!(build.bindings, language.template().bindings);
            assert!(files.iter().any(|file| file.path == "build.sh"));
            assert_eq!(manifest.tests.as_ref().unwrap().cases, "tests/*.toml");
            let left = files.iter().find(|file| {
                let text = String::from_utf8_lossy(&file.bytes);
                text.contains("{{name}}") || text.contains("{{world}}")
            });
            assert_eq!(left.map(|file| &file.path), None, "{world} {language}");
            let written = bindings(&manifest);
            let own = files
                .iter()
                .find(|file| written.iter().any(|w| w.path == file.path));
            assert_eq!(own, None, "what is generated is written over");
        }
    }

    #[test]
    fn every_case_is_one() {
        for world in World::ALL {
            let folder = tempfile::tempdir().unwrap();
            for (path, bytes) in of_world(world).tests {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            for (path, bytes) in of_world(world).tests {
                if !path.ends_with(".toml") {
                    continue;
                }
                let case = std::str::from_utf8(bytes).unwrap();
                let case = cases::Case::parse(path, case, &mut |file| {
                    std::fs::read(folder.path().join("tests").join(file))
                });
                let case = case.unwrap_or_else(|why| panic!("{path}: {why}"));
                assert_eq!(case.request.world(), world, "{path}");
                assert!(case.expected.is_some(), "{path}");
            }
        }
    }
}
