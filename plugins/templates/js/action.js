// Does something in the world: this one only writes down what it was asked.
// Begin in `run`. The same `key` is the same action: hand it on to whatever acts, so that nothing is done twice.

import host from "forewright:plugin/host@1.0.0";
import { guard, parseJson, PluginError } from "./guard.js";

export const act = {
  run: guard((input, key) => {
    const asked = parse(input);
    host.log("info", `asked for ${JSON.stringify(asked)}`, [["key", key]]);
    return JSON.stringify({ done: key });
  }),
};

function parse(input) {
  let asked = null;
  try {
    asked = parseJson(input);
  } catch {
    // No JSON is no object either.
  }
  if (asked === null || typeof asked !== "object" || Array.isArray(asked)) {
    throw new PluginError("invalid-input", "the input has to be an object");
  }
  return asked;
}
