//! One module per world: its trait, the types that are its own, and the macro that exports a plugin.

use std::marker::PhantomData;

/// Stands between a world's exports and the plugin that implements its trait.
pub struct Export<T>(PhantomData<T>);

/// The bindings of a world, over the types that all worlds share.
macro_rules! bindings {
    ($world:literal) => {
        #[doc(hidden)]
        #[allow(
            missing_docs,
            unreachable_pub,
            unsafe_code,
            reason = "generated; the contract's own comments are the documentation"
        )]
        pub mod bindings {
            wit_bindgen::generate!({
                path: "wit",
                world: $world,
                with: {
                    "forewright:plugin/types@1.0.0": crate::types,
                    "forewright:plugin/host@1.0.0": crate::bindings::forewright::plugin::host,
                },
                additional_derives: [PartialEq],
                pub_export_macro: true,
            });
        }
    };
}

/// Exports a plugin as the world of an interface. Elsewhere than in WebAssembly it is only held against its trait, since
/// linkers do not take the names of the exports.
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($interface:ident, $world:ident::$function:ident, $plugin:ty) => {
        const _: () = {
            let _ = <$plugin as $crate::$world>::$function;
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Plugin = $crate::Export<$plugin>;
            $crate::$interface::bindings::export!(Plugin with_types_in $crate::$interface::bindings);
        };
    };
}

/// Reads assets' pasts and speaks about their futures.
pub mod predict {
    bindings!("forewright:plugin/predictor@1.0.0");

    pub use self::bindings::exports::forewright::plugin::predict::{
        Column, History, Outlook, Quantile, Reason, Request, Risk,
    };
    pub use crate::types::{ArtifactRef, Asset, Duration, Instant, PluginError};

    /// Reads assets' pasts and speaks about their futures. [`predictor!`](crate::predictor) makes a plugin of it.
    pub trait Predictor {
        /// One outlook per history, in their order.
        ///
        /// # Errors
        ///
        /// If none of the assets can be told; one that cannot is [`Outlook::Declined`].
        fn predict(request: Request) -> Result<Vec<Outlook>, PluginError>;
    }

    impl<T: Predictor> bindings::exports::forewright::plugin::predict::Guest for crate::Export<T> {
        fn predict(request: Request) -> Result<Vec<Outlook>, PluginError> {
            crate::host::log_panics();
            T::predict(request)
        }
    }

    /// Makes a plugin of a [`Predictor`](crate::Predictor).
    #[macro_export]
    macro_rules! predictor {
        ($plugin:ty) => {
            $crate::export!(predict, Predictor::predict, $plugin);
        };
    }
}

/// Says what is unusual in what was measured.
pub mod detect {
    bindings!("forewright:plugin/detector@1.0.0");

    pub use self::bindings::exports::forewright::plugin::detect::{Anomaly, Request};
    pub use crate::types::{Asset, Instant, PluginError, Series};

    /// Says what is unusual in what was measured. [`detector!`](crate::detector) makes a plugin of it.
    pub trait Detector {
        /// Anomalies in the order of their starts, at most 10,000, none that ends before `since`.
        ///
        /// # Errors
        ///
        /// If nothing can be told.
        fn detect(request: Request) -> Result<Vec<Anomaly>, PluginError>;
    }

    impl<T: Detector> bindings::exports::forewright::plugin::detect::Guest for crate::Export<T> {
        fn detect(request: Request) -> Result<Vec<Anomaly>, PluginError> {
            crate::host::log_panics();
            T::detect(request)
        }
    }

    /// Makes a plugin of a [`Detector`](crate::Detector).
    #[macro_export]
    macro_rules! detector {
        ($plugin:ty) => {
            $crate::export!(detect, Detector::detect, $plugin);
        };
    }
}

/// Makes shapes that hold.
pub mod design {
    bindings!("forewright:plugin/designer@1.0.0");

    pub use self::bindings::exports::forewright::plugin::design::{
        Candidate, LoadCase, Material, Process, Task,
    };
    pub use crate::types::{ArtifactRef, Asset, Box3, Cylinder, PluginError, Region, Vec3};

    /// Makes shapes that hold. [`designer!`](crate::designer) makes a plugin of it.
    pub trait Designer {
        /// Candidates, best first, at most `max_candidates`. What is made is measured, simulated and certified like any
        /// other design.
        ///
        /// # Errors
        ///
        /// If there is no such shape, or this designer cannot make it.
        fn generate(task: Task, max_candidates: u32) -> Result<Vec<Candidate>, PluginError>;
    }

    impl<T: Designer> bindings::exports::forewright::plugin::design::Guest for crate::Export<T> {
        fn generate(task: Task, max_candidates: u32) -> Result<Vec<Candidate>, PluginError> {
            crate::host::log_panics();
            T::generate(task, max_candidates)
        }
    }

    /// Makes a plugin of a [`Designer`](crate::Designer).
    #[macro_export]
    macro_rules! designer {
        ($plugin:ty) => {
            $crate::export!(design, Designer::generate, $plugin);
        };
    }
}

/// Says whether a part is what was designed.
pub mod verify {
    bindings!("forewright:plugin/verifier@1.0.0");

    pub use self::bindings::exports::forewright::plugin::verify::{
        Deviation, Disposition, Finding, Observation, Pixels, Placement, Pose, Report, Request,
    };
    pub use crate::types::{ArtifactRef, PluginError, Vec3};

    /// Says whether a part is what was designed. [`verifier!`](crate::verifier) makes a plugin of it.
    pub trait Verifier {
        /// What nobody saw is not accepted.
        ///
        /// # Errors
        ///
        /// If there is nothing to compare with. What was seen and does not suffice is
        /// [`Disposition::Inconclusive`].
        fn inspect(request: Request) -> Result<Report, PluginError>;
    }

    impl<T: Verifier> bindings::exports::forewright::plugin::verify::Guest for crate::Export<T> {
        fn inspect(request: Request) -> Result<Report, PluginError> {
            crate::host::log_panics();
            T::inspect(request)
        }
    }

    /// Makes a plugin of a [`Verifier`](crate::Verifier).
    #[macro_export]
    macro_rules! verifier {
        ($plugin:ty) => {
            $crate::export!(verify, Verifier::inspect, $plugin);
        };
    }
}

/// Says who does what when.
pub mod schedule {
    bindings!("forewright:plugin/scheduler@1.0.0");

    pub use self::bindings::exports::forewright::plugin::schedule::{
        Plan, Request, Slot, Span, Task, Unplaced, Worker,
    };
    pub use crate::types::{Duration, Instant, PluginError};

    /// Says who does what when. [`scheduler!`](crate::scheduler) makes a plugin of it.
    pub trait Scheduler {
        /// Every task that is not agreed is in exactly one of the plan's two lists. The host checks the plan before it
        /// proposes it.
        ///
        /// # Errors
        ///
        /// If there is no plan at all; a task that finds no place is [`Unplaced`].
        fn arrange(request: Request) -> Result<Plan, PluginError>;
    }

    impl<T: Scheduler> bindings::exports::forewright::plugin::schedule::Guest for crate::Export<T> {
        fn arrange(request: Request) -> Result<Plan, PluginError> {
            crate::host::log_panics();
            T::arrange(request)
        }
    }

    /// Makes a plugin of a [`Scheduler`](crate::Scheduler).
    #[macro_export]
    macro_rules! scheduler {
        ($plugin:ty) => {
            $crate::export!(schedule, Scheduler::arrange, $plugin);
        };
    }
}

/// Does something in the world.
pub mod act {
    bindings!("forewright:plugin/action@1.0.0");

    pub use crate::types::PluginError;

    /// Does something in the world. [`action!`](crate::action) makes a plugin of it.
    pub trait Action {
        /// JSON in, JSON out, both held to the schemas in the manifest and to a MiB.
        ///
        /// The same `key` is the same action, which may be asked for again after a failure or a crash: hand the key on
        /// to the system that acts, as its idempotency key.
        ///
        /// # Errors
        ///
        /// If it was not done.
        fn run(input: String, key: String) -> Result<String, PluginError>;
    }

    impl<T: Action> bindings::exports::forewright::plugin::act::Guest for crate::Export<T> {
        fn run(input: String, key: String) -> Result<String, PluginError> {
            crate::host::log_panics();
            T::run(input, key)
        }
    }

    /// Makes a plugin of an [`Action`](crate::Action).
    #[macro_export]
    macro_rules! action {
        ($plugin:ty) => {
            $crate::export!(act, Action::run, $plugin);
        };
    }
}
