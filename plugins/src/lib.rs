//! The WASM door: loads components, limits them, speaks the contract with them. Knows nothing of the domain.
//!
//! In reading order:
//!
//! * [`world`] names the roles a plugin can play and the powers it can ask for; [`contract`] holds the WIT of version 1,
//!   from which [`v1`] generates the types that calls are made of.
//! * [`manifest`] is what a plugin says about itself, [`limits`] how much a call may use, [`grants`] what it may reach.
//! * [`componentize`] makes a component of a core module, [`bundle`] one file of component, manifest and
//!   signature; [`trust`] knows who vouches for it, [`shape`] whether it fits what it says.
//! * [`compile`] compiles in a child process, [`cache`] keeps the code in a private folder, [`engine`] runs it: a fresh
//!   store for each [`call`], stopped at its limits. What goes wrong is a [`failure`] its author can act on.
//! * [`doors`] is what stands behind a guest's imports; [`recording`] writes down what was told through them and runs a
//!   call again. [`log`](mod@log) is what a guest writes.
//! * [`check`] is the conformance kit, [`cases`] are an author's own; [`lifecycle`] decides what becomes of a version: pure,
//!   like everything that decides.
//! * [`project`] is what an author begins with: a folder for each language.
//!
//! # From a module to an answer
//!
//! ```
//! use std::sync::Arc;
//! use plugins::call::{Answer, Context, Request};
//! use plugins::engine::{Pace, Runtime};
//! use plugins::grants::Capabilities;
//! use plugins::{bundle, componentize::componentize, doors::Nowhere, shape};
//!
//! // What a compiler made: an action that answers what it is given. `cabi_realloc` says where arguments go, one after
//! // the other; the answer at 1024 is `ok` with the text's place and length.
//! let module = wat::parse_str(r#"(module
//!     (memory (export "memory") 1)
//!     (global $free (mut i32) (i32.const 4096))
//!     (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
//!         (global.get $free)
//!         (global.set $free (i32.add (global.get $free) (local.get 3))))
//!     (func (export "forewright:plugin/act@1.0.0#run") (param i32 i32 i32 i32) (result i32)
//!         (i32.store (i32.const 1032) (local.get 0))
//!         (i32.store (i32.const 1036) (local.get 1))
//!         (i32.const 1024)))"#)?;
//! let manifest = r#"
//!     name = "echo"
//!     version = "1.0.0"
//!     world = "action"
//!     interface = "forewright:plugin@1"
//!     [action]
//!     input = {}
//!     output = {}
//! "#;
//!
//! // Its author makes one file of both.
//! let asked: plugins::manifest::Manifest = manifest.parse()?;
//! let component = componentize(&module, asked.world, &asked.capabilities.named())?;
//! let file = bundle::pack(&component, manifest);
//!
//! // The host takes it apart, looks at it, and calls it.
//! let (bundle, manifest) = bundle::open(&file)?;
//! let granted = Capabilities::default();
//! let grants = shape::admit(&shape::read(bundle.component)?, &manifest, &granted)?;
//! let runtime = Runtime::new(Pace::Timed)?;
//! let plugin = runtime.prepare(bundle.component, manifest.world, grants, &manifest.limits)?;
//! let request = Request::Act { input: r#"{"fan": 7}"#.into(), key: "ticket-1".into() };
//! let context = Context { config: "{}".into(), now_ms: 1_767_225_600_000.0, seed: 1 };
//! let outcome = plugin.call(&request, &context, Arc::new(Nowhere));
//! assert_eq!(outcome.result, Ok(Answer::Act(r#"{"fan": 7}"#.into())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bundle;
pub mod cache;
pub mod call;
pub mod cases;
pub mod check;
pub mod compile;
pub mod componentize;
pub mod contract;
pub mod doors;
pub mod engine;
pub mod failure;
pub mod grants;
mod hex;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod origin;
pub mod project;
pub mod recording;
pub mod schema;
pub mod shape;
pub mod trust;
pub mod v1;
pub mod world;
