//! The binary under test: built by cargo once per test process, with the profile the tests are built with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

static BINARY: LazyLock<PathBuf> = LazyLock::new(build);

/// Where `forewright` lies; `FOREWRIGHT_BINARY` names another one to be tested instead.
pub fn forewright() -> &'static Path {
    &BINARY
}

/// Runs the binary to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(arguments: &[&str]) -> std::process::Output {
    let output = Command::new(forewright()).args(arguments).output();
    output.expect("forewright can be started")
}

fn build() -> PathBuf {
    if let Some(given) = std::env::var_os("FOREWRIGHT_BINARY") {
        return given.into();
    }
    // …/target/debug/deps/stories-0123
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests lie in `deps`");
    let target = profile.parent().expect("profiles lie in the target folder");
    // Asked at run time: a target folder may outlive the checkout and the toolchain that filled it.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--bin", "forewright"])
        .arg("--target-dir")
        .arg(target)
        .current_dir("..")
        .stdin(Stdio::null());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo can be started");
    assert!(built.success(), "cargo could not build forewright");
    profile.join("forewright")
}
