// Places tasks in their order, each as early as anybody can do it who knows how; what comes after others follows them.
// `Board.place` is the place to begin: it chooses who does a task and when.
import { Level, log, now } from "./forewright/host";
import { Plan, Request, Slot, Task, Unplaced, Worker } from "./forewright/scheduler";
import { Answer } from "./forewright/types";

export function arrange(request: Request): Answer<Plan> {
  log(Level.info, `arranges ${request.tasks.length} tasks among ${request.workers.length} people`);
  const board = new Board(request.workers);
  const waiting: Task[] = [];
  for (let i = 0; i < request.tasks.length; i++) {
    const task = request.tasks[i];
    const slot = slotOf(task, request.agreed);
    if (slot) board.add(task, slot);
    else waiting.push(task);
  }

  const slots: Slot[] = [];
  const unplaced: Unplaced[] = [];
  // Each pass places what the one before made ready; what has no place once it is ready never gets one.
  let moved = true;
  while (moved) {
    moved = false;
    let left = 0;
    for (let i = 0; i < waiting.length; i++) {
      const task = waiting[i];
      const ready = board.readyAt(task);
      if (isNaN(ready)) {
        waiting[left++] = task;
        continue;
      }
      const slot = board.place(task, ready);
      if (slot) {
        board.add(task, slot);
        slots.push(slot);
        moved = true;
      } else {
        const reason = board.isAnybodyAble(task) ? "no time is left in any calendar" : "nobody has the skills";
        unplaced.push(new Unplaced(task.id, reason));
      }
    }
    waiting.length = left;
  }
  for (let i = 0; i < waiting.length; i++) {
    unplaced.push(new Unplaced(waiting[i].id, "what comes before it is not placed"));
  }
  return Answer.of<Plan>(new Plan(slots, unplaced));
}

class Job {
  constructor(readonly task: Task, readonly worker: string, readonly start: f64) {}

  get end(): f64 {
    return this.start + this.task.duration;
  }
}

/** What is agreed or placed so far. */
class Board {
  /** In the order of their starts. */
  private jobs: Job[] = [];

  constructor(private workers: Worker[]) {}

  add(task: Task, slot: Slot): void {
    const job = new Job(task, slot.worker, slot.start);
    let at = this.jobs.push(job) - 1;
    for (; at > 0 && this.jobs[at - 1].start > job.start; at--) this.jobs[at] = this.jobs[at - 1];
    this.jobs[at] = job;
  }

  /** When all that comes before the task is done, or `NaN` while some of it has no place. */
  readyAt(task: Task): f64 {
    let ready = Math.max(now(), task.earliest);
    for (let i = 0; i < task.after.length; i++) ready = Math.max(ready, this.endOf(task.after[i]));
    return ready;
  }

  place(task: Task, ready: f64): Slot | null {
    if (!(task.duration >= 0)) return null;
    let best: Slot | null = null;
    for (let i = 0; i < this.workers.length; i++) {
      const worker = this.workers[i];
      if (!isAble(worker, task)) continue;
      const start = this.earliest(worker, task, ready);
      if (!isNaN(start) && (!best || start < best.start)) best = new Slot(task.id, worker.id, start);
    }
    return best;
  }

  isAnybodyAble(task: Task): bool {
    for (let i = 0; i < this.workers.length; i++) if (isAble(this.workers[i], task)) return true;
    return false;
  }

  private endOf(task: string): f64 {
    for (let i = 0; i < this.jobs.length; i++) if (this.jobs[i].task.id == task) return this.jobs[i].end;
    return NaN;
  }

  /** The first moment from which the worker can do the task in one go, or `NaN` if there is none. */
  private earliest(worker: Worker, task: Task, ready: f64): f64 {
    for (let s = 0; s < worker.calendar.length; s++) {
      const span = worker.calendar[s];
      let start = Math.max(ready, span.start);
      for (let i = 0; i < this.jobs.length; i++) {
        const job = this.jobs[i];
        const inTheWay = job.worker == worker.id || haveCommon(job.task.occupies, task.occupies);
        if (inTheWay && job.start < start + task.duration && start < job.end) start = job.end;
      }
      if (start + task.duration <= span.end) return start;
    }
    return NaN;
  }
}

function isAble(worker: Worker, task: Task): bool {
  for (let i = 0; i < task.skills.length; i++) if (!worker.skills.includes(task.skills[i])) return false;
  return true;
}

function haveCommon(some: string[], others: string[]): bool {
  for (let i = 0; i < some.length; i++) if (others.includes(some[i])) return true;
  return false;
}

function slotOf(task: Task, agreed: Slot[]): Slot | null {
  for (let i = 0; i < agreed.length; i++) if (agreed[i].task == task.id) return agreed[i];
  return null;
}
