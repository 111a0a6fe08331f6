//! Compiling in a child under limits, and running what came of it from the cache.

use std::ffi::OsString;
use std::path::PathBuf;

use plugins::bundle::digest;
use plugins::cache::Cache;
use plugins::compile::{CompileError, CompileLimits, Worker};
use plugins::engine::{Compiler, Pace};
use plugins::grants::{Capabilities, Grants};
use plugins::limits::Limits;
use plugins::world::World;

use crate::world::{COUNTED, TIMED, action, run, told};

const ECHO: &str = "(call $ok (local.get $in) (local.get $in_len))";

fn worker() -> Worker {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_plugin-compile-worker"));
    Worker {
        program,
        arguments: Vec::new(),
    }
}

fn shell(script: &str) -> Worker {
    let arguments = ["-c", script].map(OsString::from).to_vec();
    Worker {
        program: PathBuf::from("/bin/sh"),
        arguments,
    }
}

#[test]
fn what_a_child_compiled_runs_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let component = action("", "", ECHO, &Capabilities::default());
    for (pace, runtime) in [(Pace::Timed, &TIMED), (Pace::Counted, &COUNTED)] {
        let kind = Compiler::new(pace).unwrap().kind();
        let cache = Cache::new(folder.path(), &kind, &[7; 32], 1 << 30).unwrap();
        let name = digest(&component);
        assert_eq!(
            cache.get(&name).unwrap(),
            None,
            "each pace has code of its own"
        );
        let code = worker()
            .compile(&component, pace, CompileLimits::default(), folder.path())
            .unwrap();
        cache.put(&name, &code).unwrap();
        let file = cache.get(&name).unwrap().unwrap();
        let load = |runtime: &plugins::engine::Runtime| {
            // SAFETY: the cache vouches for the file, and its folder is this test's own.
            #[expect(unsafe_code, reason = "compiled code is code; this test made it")]
            unsafe {
                runtime.load(&file, World::Action, Grants::default(), &Limits::default())
            }
        };
        assert_eq!(told(&run(&load(runtime).unwrap(), "[1]")), "[1]");
        let other = if pace == Pace::Timed {
            &COUNTED
        } else {
            &TIMED
        };
        assert!(load(other).is_err(), "code of another pace is refused");
    }
}

#[test]
fn a_compiler_that_fails_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let limits = CompileLimits {
        seconds: 60,
        memory_mib: 512,
    };
    let compile = |worker: &Worker, limits| {
        worker.compile(b"\0asm\x0d\0\x01\0x", Pace::Timed, limits, folder.path())
    };
    let error = compile(&worker(), limits).unwrap_err();
    assert!(matches!(error, CompileError::Invalid(_)), "{error}");
    assert_eq!(error.code(), Some("plugin.invalid"));
    let error = compile(
        &shell("sleep 60"),
        CompileLimits {
            seconds: 1,
            ..limits
        },
    )
    .unwrap_err();
    assert!(matches!(error, CompileError::Timeout(1)), "{error}");
    let error = compile(&shell("echo oh no >&2; kill -9 $$"), limits).unwrap_err();
    assert!(
        matches!(&error, CompileError::GaveUp { said, .. } if said == "oh no"),
        "{error}"
    );
    let nowhere = Worker {
        program: folder.path().join("nothing"),
        arguments: Vec::new(),
    };
    let error = compile(&nowhere, limits).unwrap_err();
    assert_eq!(error.code(), None, "the plugin is not to blame: {error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_compiler_has_no_more_memory_than_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    // A function of many blocks, which takes the compiler some MiB.
    let body = "(drop (i32.mul (local.get $in) (i32.load (local.get $in_len))))".repeat(60_000);
    let component = action("", "", &format!("{body} {ECHO}"), &Capabilities::default());
    let limits = CompileLimits {
        seconds: 120,
        memory_mib: 24,
    };
    let error = worker()
        .compile(&component, Pace::Timed, limits, folder.path())
        .unwrap_err();
    assert!(
        matches!(error, CompileError::GaveUp { memory_mib: 24, .. }),
        "{error}"
    );
    assert_eq!(error.code(), Some("plugin.compile-gave-up"));
}
