// How the host calls a scheduler: a call's arguments come one by one, the answer is where the returned address says.
import * as plugin from "../../scheduler";
import { listAt } from "../memory";
import { Plan, Request, Slot, Task, Worker } from "../scheduler";

export { cabi_realloc } from "../memory";

export function arrange(
  tasks: usize, taskCount: i32,
  workers: usize, workerCount: i32,
  agreed: usize, agreedCount: i32,
): usize {
  const request = new Request(
    listAt<Task>(tasks, taskCount, 8, Task.read),
    listAt<Worker>(workers, workerCount, 4, Worker.read),
    listAt<Slot>(agreed, agreedCount, 8, Slot.read),
  );
  return plugin.arrange(request).handOver(Plan.write);
}
