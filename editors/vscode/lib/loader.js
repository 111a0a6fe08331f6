// Keeps the definitions that completion is made from: what a server answered for good, what stands in for it for a while.
"use strict";

const { parse } = require("./definitions");

/** A server that did not answer is asked again after so long at the earliest. */
const RETRY_MS = 30_000;

/**
 * `load(server, kind)`: the definitions of a server, or the bundled ones where none is set or it does not answer.
 * `served(server, kind)` resolves to a text, or to null, or rejects; `bundled(kind)` resolves to a text.
 */
function loader(served, bundled, now = Date.now) {
  const known = new Map();
  return function load(server, kind) {
    const key = `${server} ${kind}`;
    const kept = known.get(key);
    if (kept && now() < kept.until) return kept.definitions;
    const entry = { until: now() + RETRY_MS };
    known.set(key, entry);
    entry.definitions = read();
    return entry.definitions;

    async function read() {
      const answer = server ? await served(server, kind).catch(() => null) : null;
      const text = answer ?? (await bundled(kind));
      if (answer !== null || !server) entry.until = Infinity;
      return parse(text);
    }
  };
}

module.exports = { loader, RETRY_MS };
