// How the host calls a designer: a call's arguments lie at the given address, the answer at the returned one.
import * as plugin from "../../designer";
import { Candidate, Task } from "../designer";
import { Reader } from "../memory";

export { cabi_realloc } from "../memory";

export function generate(task: usize): usize {
  const from = new Reader(task);
  return plugin
    .generate(Task.read(from), from.u32())
    .handOver((to, candidates) => to.list<Candidate>(candidates, 80, 8, Candidate.write));
}
