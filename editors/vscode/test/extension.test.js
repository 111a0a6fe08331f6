// What of the extension can be said without an editor: node --test editors/vscode/test/
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");
const definitions = require("../lib/definitions");
const { command, diagnostics } = require("../lib/diagnostics");
const { RETRY_MS, loader } = require("../lib/loader");

const root = path.join(__dirname, "..");
const read = (file) => fs.readFileSync(path.join(root, file), "utf8");
const manifest = JSON.parse(read("package.json"));
const grammar = JSON.parse(read("syntaxes/rhai.tmLanguage.json"));

test("the manifest names files that are there", () => {
  const { languages, grammars } = manifest.contributes;
  for (const file of [manifest.main, languages[0].configuration, grammars[0].path]) {
    assert.ok(fs.existsSync(path.join(root, file)), file);
  }
  assert.equal(grammars[0].scopeName, grammar.scopeName);
  assert.doesNotThrow(() => JSON.parse(read(languages[0].configuration)));
});

test("every pattern of the grammar compiles, and every include is there", () => {
  let patterns = 0;
  const walk = (node) => {
    for (const key of ["match", "begin", "end"]) {
      if (node[key] === undefined) continue;
      assert.doesNotThrow(() => new RegExp(node[key]), node[key]);
      patterns += 1;
    }
    if (node.include) assert.ok(grammar.repository[node.include.slice(1)], node.include);
    (node.patterns ?? []).forEach(walk);
  };
  walk(grammar);
  Object.values(grammar.repository).forEach(walk);
  assert.ok(patterns > 20);
});

test("the grammar tells keywords, numbers and calls", () => {
  const matches = (name, text) => new RegExp(grammar.repository[name].match).exec(text)?.[0];
  assert.equal(matches("number", "let x = 1_000.5e3;"), "1_000.5e3");
  assert.equal(matches("call", "if decide (facts) {"), "decide");
  assert.equal(matches("function", "private fn run(event) {"), "fn run");
  const [control, , forbidden] = grammar.repository.keyword.patterns;
  assert.match("switch x {", new RegExp(control.match));
  assert.match("eval(x)", new RegExp(forbidden.match));
});

test("findings become diagnostics counted from 0", () => {
  const json = JSON.stringify({
    ok: false,
    scripts: [
      { file: "/a/sound.rhai", ok: true, findings: [] },
      {
        file: "/a/rule.rhai",
        ok: false,
        findings: [
          {
            severity: "error", code: "unknown_field", message: "there is no fact `fsp`", script: "/a/rule.rhai",
            line: 3, column: 14, end_line: 3, end_column: 17, nearest: "fps", hint: "did you mean `fps`?",
          },
          {
            severity: "warning", code: "unused_variable", message: "`x` is never used", script: "/a/rule.rhai",
            line: 4, column: 9, end_line: 4, end_column: 9, nearest: null, hint: null,
          },
          {
            severity: "error", code: "missing_function", message: "there is no `fn decide(facts)`",
            script: "/a/rule.rhai", line: null, column: null, end_line: null, end_column: null, nearest: null, hint: null,
          },
        ],
      },
    ],
  });
  const found = diagnostics(json);
  assert.deepEqual(found.get("/a/sound.rhai"), []);
  const [field, unused, missing] = found.get("/a/rule.rhai");
  assert.deepEqual(field, {
    line: 2, column: 13, endLine: 2, endColumn: 16, severity: "error", code: "unknown_field",
    message: "there is no fact `fsp`; did you mean `fps`?",
  });
  assert.deepEqual([unused.severity, unused.column, unused.endColumn], ["warning", 8, 9]);
  assert.deepEqual([missing.line, missing.column, missing.endColumn], [0, 0, 1]);
});

test("a script with `fn run(event)` is a workflow", () => {
  assert.equal(command("const N = 1;\nfn run(event) { }"), "workflow");
  assert.equal(command("fn decide(facts) { run(facts) }"), "policy");
});

test("facts and functions are completed from the definitions that came with it", () => {
  const policy = definitions.parse(read("data/policy.d.rhai"));
  const facts = definitions.completions(policy, "  if facts.cri");
  assert.ok(facts.some((item) => item.label === "critical_dependents" && item.doc));
  assert.ok(facts.every((item) => item.detail === "fact"));
  const functions = definitions.completions(policy, "  facts.kind.star");
  const startsWith = functions.find((item) => item.label === "starts_with");
  assert.match(startsWith.detail, /fn starts_with\(/);
  assert.deepEqual(definitions.completions(policy, "// facts."), []);
  const workflow = definitions.parse(read("data/workflow.d.rhai"));
  const step = definitions.completions(workflow, "  ste").find((item) => item.label === "step");
  assert.equal(step.detail.split("\n").length, 2, "both forms of `step`");
  assert.match(step.doc, /Runs a step/);
});

test("a server that does not answer is asked again later, one that answered is not", async () => {
  let now = 0;
  let answer = async () => { throw new TypeError("fetch failed"); };
  let asked = 0;
  const served = () => {
    asked += 1;
    return answer();
  };
  const load = loader(served, async () => "fn bundled();", () => now);
  const first = async (server) => (await load(server, "policy")).functions[0].name;

  assert.deepEqual(await Promise.all([first("http://a"), first("http://a")]), ["bundled", "bundled"]);
  now = RETRY_MS - 1;
  assert.equal(await first("http://a"), "bundled");
  assert.equal(asked, 1, "not before its time");
  now = RETRY_MS;
  answer = async () => null;
  assert.equal(await first("http://a"), "bundled");
  now = 2 * RETRY_MS;
  answer = async () => "fn served();";
  assert.equal(await first("http://a"), "served");
  now = 9 * RETRY_MS;
  assert.equal(await first("http://a"), "served");
  assert.equal(asked, 3);
  assert.equal(await first(""), "bundled");
  assert.equal(asked, 3, "no server is set");
});
