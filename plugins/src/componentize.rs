//! A core module becomes a component, so that authors need only their compiler.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract;
use crate::world::{Capability, World};

/// The module does not implement its world.
#[derive(Debug, thiserror::Error)]
#[error("the module is no `{world}`: {why}")]
pub struct ComponentizeError {
    world: World,
    why: String,
}

/// Makes a component of a core module that exports a world's functions by their canonical names.
///
/// A module that carries the description of a world of its own (as those built with `wit-bindgen` do) keeps it; the
/// world of the manifest is added.
///
/// # Errors
///
/// If an export is missing or of another type, or something is imported that the world does not have.
pub fn componentize(
    module: &[u8],
    world: World,
    capabilities: &[Capability],
) -> Result<Vec<u8>, ComponentizeError> {
    let failed = |e: &dyn std::fmt::Display| ComponentizeError {
        world,
        why: e.to_string(),
    };
    let (resolve, id) = contract::resolve(world, capabilities);
    let mut described = module.to_vec();
    embed_component_metadata(&mut described, &resolve, id, StringEncoding::UTF8)
        .map_err(|e| failed(&format_args!("{e:#}")))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&described)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| failed(&format_args!("{e:#}")))
}
