//! What is generated for a guest's compiler from the contract and the capabilities its manifest asks for.

use wit_bindgen_c::Opts;
use wit_bindgen_core::Files;

use super::File;
use crate::contract;
use crate::manifest::{Bindings, Manifest};
use crate::world::{Capability, World};

/// The files that a project's compiler needs of the contract, by their paths in the project's folder.
///
/// # Panics
///
/// Never: the contract is WIT that C can speak, which the tests of this file show for all worlds and capabilities.
#[must_use]
pub fn bindings(manifest: &Manifest) -> Vec<File> {
    let capabilities = manifest.capabilities.named();
    match manifest.build.as_ref().and_then(|build| build.bindings) {
        Some(Bindings::Wit) => wit(manifest.world, &capabilities),
        Some(Bindings::C) => c(manifest.world, &capabilities),
        None => Vec::new(),
    }
}

/// The author's world beside the contract, laid out as `wit/` is everywhere.
fn wit(world: World, capabilities: &[Capability]) -> Vec<File> {
    let own = contract::authors_world(world, capabilities);
    let mut files = vec![File::new("wit/world.wit", own)];
    for (name, text) in contract::FILES {
        files.push(File::new(
            format!("wit/deps/forewright-plugin/{name}"),
            text,
        ));
    }
    files
}

/// A header with the contract's types, and what turns them into WebAssembly's.
fn c(world: World, capabilities: &[Capability]) -> Vec<File> {
    let (mut resolve, id) = contract::resolve(world, capabilities);
    // Without another name every one would begin with `forewright_plugin_`.
    let names = resolve.worlds[id].imports.keys();
    let names = names.chain(resolve.worlds[id].exports.keys());
    let rename = names.filter_map(|key| {
        let full = resolve.name_world_key(key);
        let short = full.split(['/', '@']).nth(1)?.to_owned();
        Some((full, short))
    });
    let options = Opts {
        // The description of the world is added when the module becomes a component.
        no_object_file: true,
        rename_world: Some("plugin".to_owned()),
        rename: rename.collect(),
        ..Opts::default()
    };
    let mut files = Files::default();
    let generated = options.build().generate(&mut resolve, id, &mut files);
    generated.expect("the contract can be spoken in C");
    files
        .iter()
        .map(|(name, bytes)| File::new(format!("bindings/{name}"), bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_world_is_told_in_c() {
        for world in World::ALL {
            for capabilities in [&[][..], &Capability::ALL[..]] {
                let files = c(world, capabilities);
                let header = files.iter().find(|file| file.path == "bindings/plugin.h");
                let header = &header.expect("there is a header").bytes;
                let header = String::from_utf8_lossy(header);
                let exported = format!("exports_{}_", world.interface());
                assert!(header.contains(&exported), "{world}: {header}");
                for capability in Capability::ALL {
                    let imported =
                        format!("// Imported Functions from `forewright:plugin/{capability}@");
                    assert_eq!(
                        header.contains(&imported),
                        capabilities.contains(&capability)
                    );
                }
            }
        }
    }

    #[test]
    fn a_folder_of_wit_is_what_others_read() {
        let folder = tempfile::tempdir().unwrap();
        for file in wit(World::Action, &[Capability::Http]) {
            let path = folder.path().join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.bytes).unwrap();
        }
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_dir(folder.path().join("wit")).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        let imports = resolve.worlds[world].imports.keys();
        let named: Vec<String> = imports.map(|key| resolve.name_world_key(key)).collect();
        assert!(named.contains(&contract::interface("http")), "{named:?}");
    }
}
