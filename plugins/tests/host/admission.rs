//! What is let in, and what is refused with its own code and the line to add.

use crate::world::{TIMED, action, everything};
use plugins::bundle::{open, pack};
use plugins::grants::{Capabilities, Grants, State};
use plugins::limits::Limits;
use plugins::manifest::Manifest;
use plugins::shape::{ShapeError, admit, read};
use plugins::world::World;

const ECHO: &str = "(call $ok (local.get $in) (local.get $in_len))";
const LOG: &str =
    r#"(import "forewright:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;

fn manifest(more: &str) -> Manifest {
    let text = format!(
        "name = \"a\"\nversion = \"1.0.0\"\nworld = \"action\"\ninterface = \"forewright:plugin@1\"\n\
         {more}\n[action]\ninput = {{}}\noutput = {{}}\n"
    );
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A component with nothing but one import and, perhaps, one export, both empty instances.
fn component(import: &str, export: &str) -> Vec<u8> {
    let import = match import {
        "" => String::new(),
        name => format!("(import {name:?} (instance))"),
    };
    let export = match export {
        "" => String::new(),
        name => format!("(instance $i) (export {name:?} (instance $i))"),
    };
    wat::parse_str(format!("(component {import} {export})")).unwrap()
}

fn refused(component: &[u8], manifest: &Manifest, granted: &Capabilities) -> ShapeError {
    read(component)
        .and_then(|shape| admit(&shape, manifest, granted))
        .unwrap_err()
}

#[test]
fn a_component_that_fits_is_let_in_and_runs() {
    let component = action(LOG, "", ECHO, &Capabilities::default());
    let shape = read(&component).unwrap();
    assert_eq!(shape.exports, ["forewright:plugin/act@1.0.0"]);
    let grants = admit(&shape, &manifest(""), &everything()).unwrap();
    assert!(
        grants.named().is_empty(),
        "what is granted and not asked for is not had"
    );
    let file = pack(
        &component,
        "name = \"a\"\nversion = \"1.0.0\"\nworld = \"action\"\ninterface = \"forewright:plugin@1\"\n[action]\ninput = {}\noutput = {}\n",
    );
    let (bundle, manifest) = open(&file).unwrap();
    let plugin = TIMED
        .prepare(bundle.component, manifest.world, grants, &manifest.limits)
        .unwrap();
    assert_eq!(crate::world::told(&crate::world::run(&plugin, "7")), "7");
}

#[test]
fn what_does_not_fit_is_refused_with_its_code() {
    let act = "forewright:plugin/act@1.0.0";
    let none = Capabilities::default();
    let cases = [
        (component("", ""), "plugin.world", "exports nothing"),
        (
            component("", "forewright:plugin/detect@1.0.0"),
            "plugin.world",
            "`forewright:plugin/detect@1.0.0`",
        ),
        (
            component("", "forewright:plugin/act@2.0.0"),
            "plugin.interface-version",
            "this host speaks forewright:plugin@1.0.0",
        ),
        (
            component("forewright:plugin/host@2.1.0", act),
            "plugin.interface-version",
            "`forewright:plugin/host@2.1.0`",
        ),
        (
            component("wasi:http/types@0.2.0", act),
            "plugin.wasi-import",
            "--stub-wasi",
        ),
        (
            component("acme:secrets/all@1.0.0", act),
            "plugin.unknown-import",
            "`acme:secrets/all@1.0.0`",
        ),
        (
            component("forewright:plugin/files@1.0.0", act),
            "plugin.unknown-import",
            "files",
        ),
        (
            component("forewright:plugin/state@1.0.0", act),
            "plugin.capability-not-asked",
            "state = { kib = 64 }",
        ),
        (
            wat::parse_str("(module)").unwrap(),
            "plugin.core-module",
            "forewright plugin build",
        ),
        (
            b"\0asm\x0d\0\x01\0garbage".to_vec(),
            "plugin.broken",
            "broken",
        ),
        (Vec::new(), "plugin.broken", "broken"),
    ];
    for (bytes, code, said) in cases {
        let error = refused(&bytes, &manifest(""), &none);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let state = component("forewright:plugin/state@1.0.0", act);
    let asks = manifest("[capabilities]\nstate = { kib = 9 }");
    let error = refused(&state, &asks, &none);
    assert_eq!(error.code(), "plugin.capability-not-granted");
    assert!(
        error.to_string().contains("add `state = { kib = 9 }`"),
        "{error}"
    );
    let granted = Capabilities {
        state: Some(State { kib: 1 }),
        ..Capabilities::default()
    };
    let grants = admit(&read(&state).unwrap(), &asks, &granted).unwrap();
    assert_eq!(grants.state_bytes(), 1 << 10);
}

#[test]
fn a_component_that_lies_about_its_types_is_refused_when_it_is_bound() {
    let liar = component("", "forewright:plugin/act@1.0.0");
    let shape = read(&liar).unwrap();
    let grants = admit(&shape, &manifest(""), &Capabilities::default()).unwrap();
    let error = TIMED
        .prepare(&liar, World::Action, grants, &Limits::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "failed to bind the component to the world `action`"
    );
    let error = TIMED
        .prepare(
            b"\0asm",
            World::Action,
            Grants::default(),
            &Limits::default(),
        )
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "failed to compile the component");
}

#[test]
fn a_module_that_does_not_play_its_role_becomes_no_component() {
    let module = wat::parse_str("(module (memory (export \"memory\") 1))").unwrap();
    let error = plugins::componentize::componentize(&module, World::Action, &[]).unwrap_err();
    assert!(
        error.to_string().contains("forewright:plugin/act@1.0.0"),
        "{error}"
    );
}

mod strange {
    use std::sync::LazyLock;

    use plugins::recording::Recording;
    use proptest::prelude::*;

    use super::*;

    static COMPONENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| action(LOG, "", ECHO, &Capabilities::default()));

    proptest! {
        /// A byte here and there is another one, or the end is missing.
        #[test]
        fn no_upload_is_too_strange(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = COMPONENT.clone();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if changes.is_empty() {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(shape) = read(&bytes) {
                let _ = admit(&shape, &manifest(""), &everything());
            }
            let _ = plugins::componentize::componentize(&bytes, World::Action, &[]);
        }

        #[test]
        fn no_recording_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Recording::from_bytes(&bytes);
        }
    }
}
