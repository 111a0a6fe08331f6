// How the host calls an action: a call's arguments come one by one, the answer is where the returned address says.
import * as plugin from "../../action";
import { textAt } from "../memory";
import { writeText } from "../types";

export { cabi_realloc } from "../memory";

export function run(input: usize, inputBytes: usize, key: usize, keyBytes: usize): usize {
  return plugin.run(textAt(input, inputBytes), textAt(key, keyBytes)).handOver(writeText);
}
