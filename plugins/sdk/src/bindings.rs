//! What every world imports, and the types they share. The linker drops the imports that nobody calls.

#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "generated; the contract's own comments are the documentation"
)]

use forewright::plugin::types::{CapabilityError, PluginError};

wit_bindgen::generate!({
    inline: "
        package sdk:rust;

        world imports {
            import forewright:plugin/types@1.0.0;
            import forewright:plugin/host@1.0.0;
            import forewright:plugin/artifacts@1.0.0;
            import forewright:plugin/telemetry@1.0.0;
            import forewright:plugin/state@1.0.0;
            import forewright:plugin/http@1.0.0;
        }
    ",
    path: "wit",
    generate_all,
    generate_unused_types: true,
    additional_derives: [PartialEq],
});

/// What a missing capability means for the caller of a plugin that cannot do without it.
impl From<CapabilityError> for PluginError {
    fn from(error: CapabilityError) -> Self {
        match error {
            CapabilityError::Denied(why) | CapabilityError::Quota(why) => Self::Unsupported(why),
            CapabilityError::NotFound
            | CapabilityError::Conflict
            | CapabilityError::Unavailable(_) => Self::Unavailable(None),
            CapabilityError::Invalid(why) => Self::Internal(why),
        }
    }
}
