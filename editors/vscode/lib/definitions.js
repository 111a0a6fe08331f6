// Reads a `.d.rhai` text, as `GET /api/v1/policies/definitions` serves it, into what can be completed.
"use strict";

const FUNCTION = /^fn ([a-z_][A-Za-z0-9_]*)\((.*)\)(?:\s*->\s*(.*?))?;?$/;
const FACT = /^\/\/ {3}`([a-z_]+)`\s+(.*)$/;

/** Functions and facts: `{ functions: [{ name, signature, doc }], facts: [{ name, doc }] }`, each signature once. */
function parse(text) {
  const functions = new Map();
  const facts = [];
  let doc = [];
  let inFacts = false;
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    if (line.startsWith("// Facts")) inFacts = true;
    else if (!line.startsWith("//")) inFacts = false;
    const fact = inFacts && FACT.exec(line);
    const called = FUNCTION.exec(line);
    if (line.startsWith("///")) {
      doc.push(line.slice(3).trim());
      continue;
    }
    if (fact) facts.push({ name: fact[1], doc: fact[2] });
    if (called && !functions.has(line)) {
      functions.set(line, { name: called[1], signature: line.replace(/;$/, ""), doc: doc.join("\n") });
    }
    doc = [];
  }
  return { functions: [...functions.values()], facts };
}

/** What fits at the end of a line: facts after `facts.`, else functions; none within a comment. */
function completions(definitions, before) {
  if (/^\s*\/\//.test(before)) return [];
  if (/\bfacts\.[A-Za-z_]*$/.test(before)) {
    return definitions.facts.map((fact) => ({ label: fact.name, kind: "field", detail: "fact", doc: fact.doc }));
  }
  const names = new Map();
  for (const { name, signature, doc } of definitions.functions) {
    const known = names.get(name);
    if (known) known.detail += `\n${signature}`;
    else names.set(name, { label: name, kind: "function", detail: signature, doc });
  }
  return [...names.values()];
}

module.exports = { parse, completions };
