//! What commands show: progress on standard error, results and one JSON document on standard output.
//!
//! Whoever reads them may stop early (`forewright … | head`). Then a command ends without a word, and one that has said
//! something on standard error goes on.

use std::io::{ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Time between two plain lines of progress.
const BETWEEN_LINES: Duration = Duration::from_secs(2);
/// Parts the bar is divided into.
const PARTS: u64 = 1000;

/// Progress of long work: a bar on a terminal, a plain line now and then elsewhere.
pub struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Says what begins.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| bar(&what));
        if bar.is_none() {
            note(&format!("{what} …"));
        }
        Self {
            what,
            bar,
            last_line: Instant::now(),
        }
    }

    /// Shows the share done, 0 to 1; the work always goes on.
    pub fn tell(&mut self, share: f64) -> ControlFlow<()> {
        let share = share.clamp(0.0, 1.0);
        if let Some(bar) = &self.bar {
            bar.set_position((share * PARTS as f64) as u64);
        } else if self.last_line.elapsed() >= BETWEEN_LINES {
            note(&format!("{}: {:.0} %", self.what, share * 100.0));
            self.last_line = Instant::now();
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Progress {
    /// Leaves a clean terminal, also when the work failed.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(PARTS).with_message(what.to_owned());
    let style = ProgressStyle::with_template("{msg} [{bar:32}] {percent:>3} % {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Whoever read the result stopped reading: nobody is left to tell anything.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the result")]
pub struct ClosedEarly;

/// Prints one JSON document.
pub fn json(document: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(document)?)
}

/// Prints a line of the result.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ClosedEarly.into()),
        printed => printed.context("failed to print the result"),
    }
}

/// Says something beside the result; nobody need listen.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints facts, one a line, their values in one column.
pub fn facts(facts: &[(&str, String)]) -> anyhow::Result<()> {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max();
    for (name, value) in facts {
        line(&format!("{name:<0$}  {value}", width.unwrap_or(0)))?;
    }
    Ok(())
}

/// Prints a table; the first column is aligned left, the others right.
pub fn table(rows: &[Vec<String>]) -> anyhow::Result<()> {
    for row in aligned(rows) {
        line(&row)?;
    }
    Ok(())
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let cell = |(column, text): (usize, &String)| match column {
        0 => format!("{text:<0$}", widths[0]),
        _ => format!("  {text:>0$}", widths[column]),
    };
    let text = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<String>();
    rows.iter().map(text).collect()
}

/// Reads a file; an error names it and what it was to be.
pub fn read(what: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("failed to read {what} `{}`", path.display()))
}

/// Reads a text file; an error names it and what it was to be.
pub fn read_text(what: &str, path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(what, path)?)
        .with_context(|| format!("{what} `{}` is not UTF-8 text", path.display()))
}

/// Writes a file; an error names it.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("failed to write `{}`", path.display()))
}

/// Makes a folder with all above it; an error names it.
pub fn make_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("failed to make folder `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_by_characters() {
        let rows = [vec!["", "mm²", "n"], vec!["left", "1.5", "100"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(aligned(&rows), ["      mm²    n", "left  1.5  100"]);
        assert!(aligned(&[]).is_empty());
    }
}
