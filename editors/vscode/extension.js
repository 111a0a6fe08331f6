// Checks scripts when they are opened and saved, and completes facts and functions from the definitions.
"use strict";

const { execFile } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const vscode = require("vscode");
const definitions = require("./lib/definitions");
const { command, diagnostics } = require("./lib/diagnostics");
const { loader } = require("./lib/loader");

const SEVERITY = {
  error: vscode.DiagnosticSeverity.Error,
  warning: vscode.DiagnosticSeverity.Warning,
};
const KIND = {
  field: vscode.CompletionItemKind.Field,
  function: vscode.CompletionItemKind.Function,
};
/** A server that takes longer does not answer. */
const PATIENCE_MS = 5_000;
const load = loader(served, bundled);

function activate(context) {
  const shown = vscode.languages.createDiagnosticCollection("forewright");
  const look = (document) => check(document, shown);
  context.subscriptions.push(
    shown,
    vscode.workspace.onDidOpenTextDocument(look),
    vscode.workspace.onDidSaveTextDocument(look),
    vscode.workspace.onDidCloseTextDocument((document) => shown.delete(document.uri)),
    vscode.commands.registerCommand("forewright.check", () => {
      const editor = vscode.window.activeTextEditor;
      if (editor) look(editor.document);
    }),
    vscode.languages.registerCompletionItemProvider("rhai", { provideCompletionItems: complete }, "."),
  );
  vscode.workspace.textDocuments.forEach(look);
}

function check(document, shown) {
  if (document.languageId !== "rhai" || document.uri.scheme !== "file") return;
  const program = vscode.workspace.getConfiguration("forewright").get("command");
  const file = document.uri.fsPath;
  const args = [command(document.getText()), "check", "--json", file];
  // It ends with 1 where something is wrong, and has printed its document all the same.
  execFile(program, args, { cwd: path.dirname(file) }, (error, stdout) => {
    if (!stdout) {
      if (error) vscode.window.showWarningMessage(`Forewright: \`${program}\` did not run: ${error.message}`);
      return;
    }
    const found = diagnostics(stdout).get(file) ?? [];
    shown.set(document.uri, found.map(toDiagnostic));
  });
}

function toDiagnostic(found) {
  const range = new vscode.Range(found.line, found.column, found.endLine, found.endColumn);
  const diagnostic = new vscode.Diagnostic(range, found.message, SEVERITY[found.severity]);
  diagnostic.source = "forewright";
  diagnostic.code = found.code;
  return diagnostic;
}

async function complete(document, position) {
  const server = vscode.workspace.getConfiguration("forewright").get("server");
  const kind = command(document.getText());
  const before = document.lineAt(position.line).text.slice(0, position.character);
  return definitions.completions(await load(server, kind), before).map((item) => {
    const completion = new vscode.CompletionItem(item.label, KIND[item.kind]);
    completion.detail = item.detail;
    completion.documentation = item.doc;
    return completion;
  });
}

/** The definitions a server has, or null. */
async function served(server, kind) {
  const plural = kind === "workflow" ? "workflows" : "policies";
  const token = process.env.FOREWRIGHT_TOKEN;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const url = new URL(`/api/v1/${plural}/definitions`, server);
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
  return answer.ok ? answer.text() : null;
}

/** Those this extension came with. */
function bundled(kind) {
  return fs.promises.readFile(path.join(__dirname, "data", `${kind}.d.rhai`), "utf8");
}

function deactivate() {}

module.exports = { activate, deactivate };
