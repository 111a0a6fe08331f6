//! What `bindgen!` makes of the contract; every interface once, so that all worlds speak of the same types.

#![expect(
    missing_docs,
    reason = "documented in the contract, where it is generated from"
)]

/// The interfaces that guests import.
mod imported {
    wasmtime::component::bindgen!({
        path: "wit/v1",
        inline: "
            package forewright:everything;
            world everything {
                import forewright:plugin/host@1.0.0;
                import forewright:plugin/artifacts@1.0.0;
                import forewright:plugin/telemetry@1.0.0;
                import forewright:plugin/state@1.0.0;
                import forewright:plugin/http@1.0.0;
            }
        ",
        world: "forewright:everything/everything",
        imports: { default: trappable },
        with: {
            "forewright:plugin/artifacts.reader": crate::v1::imports::Reader,
            "forewright:plugin/artifacts.writer": crate::v1::imports::Writer,
        },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use imported::forewright::plugin::{artifacts, host, http, state, telemetry, types};

/// The bindings of one world, over the types above.
macro_rules! world {
    ($module:ident, $world:literal) => {
        pub(crate) mod $module {
            wasmtime::component::bindgen!({
                path: "wit/v1",
                world: $world,
                imports: { default: trappable },
                with: {
                    "forewright:plugin/types": crate::v1::bindings::types,
                    "forewright:plugin/host": crate::v1::bindings::host,
                },
                additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
            });
        }
    };
}

world!(predictor, "predictor");
world!(detector, "detector");
world!(designer, "designer");
world!(verifier, "verifier");
world!(scheduler, "scheduler");
world!(action, "action");

pub use action::exports::forewright::plugin::act;
pub use designer::exports::forewright::plugin::design;
pub use detector::exports::forewright::plugin::detect;
pub use predictor::exports::forewright::plugin::predict;
pub use scheduler::exports::forewright::plugin::schedule;
pub use verifier::exports::forewright::plugin::verify;
