//! The WIT of version 1, as it is compiled into the host.

use sha2::{Digest, Sha256};
use wit_parser::{Resolve, SourceMap, WorldId};

use crate::hex;
use crate::world::{Capability, PACKAGE, World};

/// The version of the contract that this host speaks.
pub const VERSION: &str = "1.0.0";

/// Its files, by name.
pub const FILES: [(&str, &str); 12] = [
    ("types.wit", include_str!("../wit/v1/types.wit")),
    ("host.wit", include_str!("../wit/v1/host.wit")),
    ("artifacts.wit", include_str!("../wit/v1/artifacts.wit")),
    ("telemetry.wit", include_str!("../wit/v1/telemetry.wit")),
    ("state.wit", include_str!("../wit/v1/state.wit")),
    ("http.wit", include_str!("../wit/v1/http.wit")),
    ("predictor.wit", include_str!("../wit/v1/predictor.wit")),
    ("detector.wit", include_str!("../wit/v1/detector.wit")),
    ("designer.wit", include_str!("../wit/v1/designer.wit")),
    ("verifier.wit", include_str!("../wit/v1/verifier.wit")),
    ("scheduler.wit", include_str!("../wit/v1/scheduler.wit")),
    ("action.wit", include_str!("../wit/v1/action.wit")),
];

/// The sha256 of all files with their names, in hexadecimal digits: what freezes the contract.
#[must_use]
pub fn digest() -> String {
    let mut hash = Sha256::new();
    for (name, text) in FILES {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex::digits(&hash.finalize())
}

/// The full name of an interface, as components spell it.
#[must_use]
pub fn interface(name: &str) -> String {
    format!("{PACKAGE}/{name}@{VERSION}")
}

/// The world an author implements, as WIT: the base world and the capabilities the manifest asks for.
#[must_use]
pub fn authors_world(world: World, capabilities: &[Capability]) -> String {
    let mut text = format!(
        "package author:plugin;\n\nworld {world} {{\n  include {PACKAGE}/{world}@{VERSION};\n"
    );
    for capability in capabilities {
        text.push_str(&format!("  import {};\n", interface(capability.name())));
    }
    text.push_str("}\n");
    text
}

/// The same, parsed together with the contract.
///
/// # Panics
///
/// Never: the contract parses, which the tests of this file show for all worlds and capabilities.
#[must_use]
pub fn resolve(world: World, capabilities: &[Capability]) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut sources = SourceMap::new();
    for (name, text) in FILES {
        sources.push_str(name, text);
    }
    let package = sources
        .parse()
        .map_err(|(_, why)| why)
        .expect("the contract is WIT");
    resolve
        .push_group(package)
        .expect("the contract needs nothing else");
    let own = authors_world(world, capabilities);
    let package = resolve
        .push_source("world.wit", &own)
        .expect("the world names the contract");
    let world = resolve
        .select_world(&[package], None)
        .expect("there is one world");
    (resolve, world)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was released. What it lacks comes as an interface in a file of its own, with a version of its own, which is
    /// no part of this digest; a change is version 2 in a folder of its own.
    const FROZEN: &str = "ef1222f573b023ca647da7198962e8d2862257e13c2bf835a05b881bd4ee43bc";

    #[test]
    fn the_contract_is_what_was_released() {
        assert_eq!(
            digest(),
            FROZEN,
            "plugins/wit/v1 is frozen: what it lacks goes beside it"
        );
    }

    #[test]
    fn every_world_resolves_with_all_capabilities() {
        for world in World::ALL {
            let (resolve, id) = resolve(world, &Capability::ALL);
            let names: Vec<String> = resolve.worlds[id]
                .imports
                .keys()
                .map(|key| resolve.name_world_key(key))
                .collect();
            for capability in Capability::ALL {
                assert!(
                    names.contains(&interface(capability.name())),
                    "{world}: {names:?}"
                );
            }
            let exports: Vec<String> = resolve.worlds[id]
                .exports
                .keys()
                .map(|key| resolve.name_world_key(key))
                .collect();
            assert_eq!(exports, [interface(world.interface())]);
        }
    }

    #[test]
    fn base_worlds_import_the_host_and_types_only() {
        for world in World::ALL {
            let (resolve, id) = resolve(world, &[]);
            let mut names: Vec<String> = resolve.worlds[id]
                .imports
                .keys()
                .map(|key| resolve.name_world_key(key))
                .collect();
            names.sort();
            assert_eq!(names, [interface("host"), interface("types")], "{world}");
        }
    }
}
