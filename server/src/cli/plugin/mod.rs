//! `forewright plugin`: the plugin developer's day, on their own machine and on a server.

mod build;
mod call;
mod check;
mod dev;
mod inspect;
mod install;
mod list;
mod new;
mod project;
mod replay;
pub(super) mod server;
mod sign;
mod test;

use clap::Subcommand;

/// What the help of `plugin` and of its commands ends with.
const HELP: &str = "\
A plugin's folder, as `forewright plugin new` makes one, has a plugin.toml:

  name = \"tickets\"
  version = \"1.0.0\"
  world = \"action\"                 # predictor, detector, designer, verifier, scheduler, action
  interface = \"forewright:plugin@1\"
  [action]                         # only an action has it
  input = {}
  output = {}
  [build]
  command = \"make\"
  module = \"tickets.wasm\"          # what your compiler made: a core module or a component
  [tests]
  cases = \"tests/*.toml\"

Everything a plugin can do and is asked: docs/PLUGINS.md.
Exit code: 0 where all is well, 1 where anything is wrong, 2 for arguments that cannot be read.";

/// The plugin developer's day.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub enum Plugin {
    /// Begin a project: a folder that builds and passes its tests.
    New(new::New),
    /// Run a project's build and make one file of component and manifest.
    Build(build::Build),
    /// Ask a plugin what every plugin is asked sooner or later, and say how it did.
    Check(check::Check),
    /// Run the author's own cases.
    Test(test::Test),
    /// Ask a plugin what one case asks, and show its answer.
    Call(call::Call),
    /// Run a recorded call again, with the same plugin or another version of it.
    Replay(replay::Replay),
    /// Say what a plugin is, what it asks for and who signed it.
    Inspect(inspect::Inspect),
    /// Watch a project and put each change onto a server.
    Dev(dev::Dev),
    /// Put a plugin onto a server.
    Install(install::Install),
    /// Show a server's plugins.
    List(list::List),
    /// Make a key to sign plugins with.
    Key(sign::Key),
    /// Sign a plugin.
    Sign(sign::Sign),
}

/// What a guest says, or a stranger's file: it may write no lines of its own into what is shown, nor move the cursor.
fn plain(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

/// The same, with its further lines under the first.
fn indented(text: &str, by: usize) -> String {
    plain(text).replace('\n', &format!("\n{:by$}", ""))
}

impl Plugin {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::New(command) => command.run(),
            Self::Build(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Test(command) => command.run(),
            Self::Call(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Dev(command) => command.run(),
            Self::Install(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Key(command) => command.run(),
            Self::Sign(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::plugins::manifest::Manifest;

    use super::*;

    #[test]
    fn the_manifest_of_the_help_is_one() {
        let lines = HELP.lines().filter(|line| line.starts_with("  "));
        let text = lines.collect::<Vec<_>>().join("\n");
        let manifest: Manifest = text.parse().expect("a manifest");
        assert_eq!(manifest.name, "tickets");
    }

    #[test]
    fn a_guest_cannot_write_over_what_is_shown() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\td"), "a\u{fffd}[2Jb\u{fffd}c\td");
        assert_eq!(indented("a\nb", 2), "a\n  b");
    }
}
