//! The languages there are templates for: each one's files are in `plugins/templates/`.

use std::fmt;
use std::str::FromStr;

use super::{File, Part, template};
use crate::contract;
use crate::manifest::Bindings;
use crate::world::World;

/// What a project is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Through the SDK, which the project gets a copy of.
    Rust,
    /// C11, freestanding.
    C,
    /// Zig 0.17, freestanding, over the bindings in C.
    Zig,
    /// AssemblyScript.
    AssemblyScript,
    /// JavaScript, on QuickJS.
    JavaScript,
    /// Python 3, on CPython.
    Python,
}

/// What projects of a language have in common.
pub(super) struct Template {
    /// Where what is written for the world goes.
    pub(super) source: &'static str,
    pub(super) files: &'static [Part],
    /// `[limits]` of its manifest, where the usual ones are too tight for the language.
    pub(super) limits: &'static str,
    pub(super) bindings: Option<Bindings>,
    /// What its author needs to have installed.
    pub(super) needs: &'static str,
    /// Further lines of `.gitignore`.
    pub(super) ignored: &'static str,
}

/// What is written for each world: the files of a folder, named after their worlds.
macro_rules! sources {
    ($world:expr, $folder:literal, $extension:literal) => {
        match $world {
            World::Predictor => template!($folder, "/predictor.", $extension),
            World::Detector => template!($folder, "/detector.", $extension),
            World::Designer => template!($folder, "/designer.", $extension),
            World::Verifier => template!($folder, "/verifier.", $extension),
            World::Scheduler => template!($folder, "/scheduler.", $extension),
            World::Action => template!($folder, "/action.", $extension),
        }
    };
}

/// Files of a folder that go into a project under the same names.
macro_rules! parts {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, template!($folder, "/", $path))),*]
    };
}

const RUST: Template = Template {
    source: "src/lib.rs",
    files: parts!("rust": "build.sh", "Cargo.lock", "Cargo.toml"),
    limits: "",
    bindings: None,
    needs: "Rust with `rustup target add wasm32-unknown-unknown`",
    ignored: "/target/\n",
};

/// The SDK, which a project has a copy of: what an author builds with today is there in five years.
fn sdk() -> Vec<File> {
    macro_rules! sdk {
        ($($path:literal),* $(,)?) => {
            [$((concat!("sdk/", $path), include_bytes!(concat!("../../sdk/", $path)) as &[u8])),*]
        };
    }
    let own = sdk!(
        "Cargo.toml",
        "src/bindings.rs",
        "src/capabilities.rs",
        "src/host.rs",
        "src/lib.rs",
        "src/worlds.rs",
    );
    let own = own.map(|(path, bytes)| {
        let text = String::from_utf8_lossy(bytes);
        // In a project it belongs to the project's.
        let (text, _) = text.split_once("[workspace]").unwrap_or((&text, ""));
        File::new(path, text.trim_end().to_owned() + "\n")
    });
    let wit = contract::FILES.map(|(name, text)| File::new(format!("sdk/wit/{name}"), text));
    own.into_iter().chain(wit).collect()
}

const C: Template = Template {
    source: "plugin.c",
    files: parts!(
        "c": "build.sh", "runtime/forewright.h", "runtime/runtime.c", "runtime/stdlib.h", "runtime/string.h"
    ),
    limits: "",
    bindings: Some(Bindings::C),
    needs: "Zig (`pip install ziglang`), or a clang with lld",
    ignored: "",
};

const ZIG: Template = Template {
    source: "{{world}}.zig",
    files: parts!("zig": "build.sh", "forewright.zig"),
    limits: "",
    bindings: None,
    needs: "Zig 0.17 (`pip install ziglang==0.17.1`)",
    ignored: "/.zig-cache/\n",
};

const ASSEMBLYSCRIPT: Template = Template {
    source: "{{world}}.ts",
    files: parts!(
        "assemblyscript":
        "build.sh",
        "forewright/exports.js",
        "forewright/host.ts",
        "forewright/memory.ts",
        "forewright/types.ts",
        "package.json",
    ),
    limits: "",
    bindings: None,
    needs: "Node and npm",
    ignored: "/node_modules/\n",
};

/// A world's part of the contract in AssemblyScript, for which nobody generates it.
fn assemblyscript(world: World) -> &'static [Part] {
    match world {
        World::Predictor => parts!(
            "assemblyscript": "forewright/entry/predictor.ts", "forewright/predictor.ts"
        ),
        World::Detector => parts!(
            "assemblyscript": "forewright/entry/detector.ts", "forewright/detector.ts"
        ),
        World::Designer => parts!(
            "assemblyscript":
            "forewright/artifacts.ts", "forewright/entry/designer.ts", "forewright/designer.ts"
        ),
        World::Verifier => parts!(
            "assemblyscript":
            "forewright/artifacts.ts", "forewright/entry/verifier.ts", "forewright/verifier.ts"
        ),
        World::Scheduler => parts!(
            "assemblyscript": "forewright/entry/scheduler.ts", "forewright/scheduler.ts"
        ),
        World::Action => parts!("assemblyscript": "forewright/entry/action.ts"),
    }
}

const JAVASCRIPT: Template = Template {
    source: "plugin.js",
    files: parts!("js": "build.sh", "guard.js", "package.json"),
    limits: "\
[limits]
deadline-ms = 5_000                 # the language is slow with a great many numbers
",
    bindings: Some(Bindings::Wit),
    needs: "Node and npm",
    ignored: "/node_modules/\n",
};

const PYTHON: Template = Template {
    source: "app.py",
    files: parts!("python": "build.sh", "guard.py", "requirements.txt"),
    limits: "\
[limits]
deadline-ms = 5_000                 # the language is slow with a great many numbers
memory-mib = 128                    # and makes an object of each
",
    bindings: Some(Bindings::Wit),
    needs: "Python 3 and `pip install componentize-py==0.25.1`",
    ignored: "/.venv/\n__pycache__/\n",
};

impl Language {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Rust,
        Self::C,
        Self::Zig,
        Self::AssemblyScript,
        Self::JavaScript,
        Self::Python,
    ];

    /// Its word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Zig => "zig",
            Self::AssemblyScript => "assemblyscript",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    pub(super) fn template(self) -> Template {
        match self {
            Self::Rust => RUST,
            Self::C => C,
            Self::Zig => ZIG,
            Self::AssemblyScript => ASSEMBLYSCRIPT,
            Self::JavaScript => JAVASCRIPT,
            Self::Python => PYTHON,
        }
    }

    /// What is written for a world.
    pub(super) fn source(self, world: World) -> &'static [u8] {
        match self {
            Self::Rust => sources!(world, "rust", "rs"),
            Self::C => sources!(world, "c", "c"),
            Self::Zig => sources!(world, "zig", "zig"),
            Self::AssemblyScript => sources!(world, "assemblyscript", "ts"),
            Self::JavaScript => sources!(world, "js", "js"),
            Self::Python => sources!(world, "python", "py"),
        }
    }

    /// What else a world needs of a language.
    pub(super) fn glue(self, world: World) -> Vec<File> {
        match self {
            Self::Rust => sdk(),
            Self::AssemblyScript => assemblyscript(world).iter().map(File::from).collect(),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There are no templates for it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no template for `{0}`; there is: rust, c, zig, assemblyscript, js, python")]
pub struct UnknownLanguage(String);

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(name: &str) -> Result<Self, UnknownLanguage> {
        let found = Self::ALL
            .into_iter()
            .find(|language| language.name() == name);
        found.ok_or_else(|| UnknownLanguage(name.to_owned()))
    }
}
