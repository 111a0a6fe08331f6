// Turns what `forewright policy check --json` prints into what an editor shows.
"use strict";

/** Which command looks a script over: a script with `fn run(event)` is a workflow. */
function command(text) {
  return /^\s*fn\s+run\s*\(\s*\w+\s*\)/m.test(text) ? "workflow" : "policy";
}

/**
 * The findings by file: `Map(file -> [{ line, column, endLine, endColumn, severity, code, message }])`, counted from 0.
 * A finding without a place is shown at the beginning of its file. Every file checked has an entry, empty if it is sound.
 */
function diagnostics(json) {
  const byFile = new Map();
  for (const script of JSON.parse(json).scripts) {
    byFile.set(script.file, script.findings.map(diagnostic));
  }
  return byFile;
}

function diagnostic(finding) {
  const line = (finding.line ?? 1) - 1;
  const column = (finding.column ?? 1) - 1;
  const endLine = (finding.end_line ?? finding.line ?? 1) - 1;
  const endColumn = (finding.end_column ?? (finding.column ?? 1) + 1) - 1;
  return {
    line,
    column,
    endLine,
    endColumn: endLine === line ? Math.max(endColumn, column + 1) : endColumn,
    severity: finding.severity === "warning" ? "warning" : "error",
    code: finding.code,
    message: finding.hint ? `${finding.message}; ${finding.hint}` : finding.message,
  };
}

module.exports = { command, diagnostics };
