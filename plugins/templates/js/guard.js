// How a plugin fails. The contract has four words for it; anything else that is thrown would end the call as a bare trap,
// so `guard` finds the right one for it.

/** Why there is no answer: thrown from anywhere below `guard`. */
export class PluginError extends Error {
  /**
   * @param {"invalid-input" | "unavailable" | "unsupported" | "internal"} tag decides what the host does next
   * @param {string | number | null} val says why; for `unavailable` it is the milliseconds to wait, or null
   */
  constructor(tag, val) {
    super(`${tag}: ${val}`);
    this.tag = tag;
    this.val = val;
  }
}

/** Wraps a function that the plugin exports. */
export function guard(answer) {
  return (...given) => {
    try {
      return answer(...given);
    } catch (error) {
      throw pluginError(error);
    }
  };
}

function pluginError(error) {
  if (error instanceof PluginError) return { tag: error.tag, val: error.val };
  const refusal = error?.payload; // of a capability
  switch (refusal?.tag) {
    case "denied":
    case "quota":
      return { tag: "unsupported", val: refusal.val };
    case "not-found":
    case "conflict":
    case "unavailable":
      return { tag: "unavailable", val: null };
  }
  const what = refusal ? `${refusal.tag}: ${refusal.val}` : String(error);
  return { tag: "internal", val: `${what}\n${error?.stack ?? ""}`.trimEnd() };
}

/** As `JSON.parse`, which has no limit of its own: a deeply nested text would use up the stack and end the call. */
export function parseJson(text, deepest = 500) {
  let depth = 0;
  let quoted = false;
  for (const [token] of text.matchAll(/\\.|["[\]{}]/gs)) {
    if (token === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (token === "[" || token === "{") depth++;
    else if (token === "]" || token === "}") depth--;
    if (depth > deepest) throw new SyntaxError(`nested more than ${deepest} deep`);
  }
  return JSON.parse(text);
}
