// Reads a design and what was seen of the part, measures nothing yet, and so comes to no conclusion.
// Begin in `look`: make a finding of each deviation, and let `inspect` conclude something from them.

import artifacts from "forewright:plugin/artifacts@1.0.0";
import host from "forewright:plugin/host@1.0.0";
import { guard, PluginError } from "./guard.js";

const PIECE = 1 << 20;
const MOST = 10_000; // findings in one report

export const verify = {
  inspect: guard(({ expected, observations }) => {
    host.log("info", `looks at ${observations.length} observations`, []);
    if (!isStl(read(expected))) throw new PluginError("invalid-input", "the design is no binary STL");

    const findings =
      observations.length > 0
        ? observations.slice(0, MOST).map(look)
        : [{ code: "not_seen", severity: 0.2, at: null, detail: "nobody looked" }];
    return { disposition: "inconclusive", confidence: 0, findings, deviation: null };
  }),
};

function look({ artifact }) {
  const bytes = read(artifact);
  const detail = `${bytes.length} bytes were read and nothing was measured yet`;
  return { code: "not_measured", severity: 0.2, at: null, detail };
}

function isStl(bytes) {
  if (bytes.length < 84) return false;
  const count = new DataView(bytes.buffer).getUint32(80, true);
  return count > 0 && bytes.length === 84 + 50 * count;
}

function read(artifact) {
  const reader = artifacts.open(artifact);
  try {
    const bytes = new Uint8Array(reader.size());
    for (let offset = 0; offset < bytes.length; offset += PIECE) {
      bytes.set(reader.read(offset, PIECE), offset);
    }
    return bytes;
  } finally {
    reader[Symbol.dispose](); // a call may have only so many open
  }
}
