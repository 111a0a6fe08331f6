// Places task after task as early as it can be done, in the order of the list.
// Begin in `place`, which picks a worker and a start for one task; `arrange` decides which task comes first.

import host from "forewright:plugin/host@1.0.0";
import { guard } from "./guard.js";

export const schedule = {
  arrange: guard(({ tasks, workers, agreed }) => {
    host.log("info", `plans ${tasks.length} tasks for ${workers.length} workers`, []);
    const byId = new Map(tasks.map((task) => [task.id, task]));
    const booked = agreed.map(({ task, worker, start }) => booking(byId.get(task), worker, start)).sort(byStart);
    const ends = new Map(booked.map(({ task, end }) => [task.id, end]));

    const slots = [];
    const unplaced = [];
    let waiting = tasks.filter(({ id }) => !ends.has(id));
    for (let before = Infinity; waiting.length < before; ) {
      before = waiting.length;
      const asked = waiting;
      waiting = [];
      for (const task of asked) {
        if (!task.after.every((id) => ends.has(id))) {
          waiting.push(task);
          continue;
        }
        const able = workers.filter((worker) => isAble(worker, task));
        const found = place(task, able, booked, ends);
        if (found === null) {
          unplaced.push({ task: task.id, reason: whyNot(able) });
          continue;
        }
        booked.push(found);
        booked.sort(byStart);
        ends.set(task.id, found.end);
        slots.push({ task: task.id, worker: found.worker, start: found.start });
      }
    }
    for (const { id } of waiting) unplaced.push({ task: id, reason: "what comes before it is not placed" });
    return { slots, unplaced };
  }),
};

function booking(task, worker, start) {
  return { task, worker, start, end: start + task.duration };
}

const byStart = (a, b) => a.start - b.start;

const isAble = (worker, task) => task.skills.every((skill) => worker.skills.includes(skill));

const whyNot = (able) => (able.length === 0 ? "nobody has the skills" : "no time is left in any calendar");

/** The earliest booking that fits, with the first worker who can have it; null if there is none. */
function place(task, able, booked, ends) {
  if (!(task.duration >= 0)) return null; // nor can a NaN be planned
  const from = Math.max(host.now(), task.earliest, ...task.after.map((id) => ends.get(id)));
  const assets = new Set(task.occupies);
  const sharing = new Set(booked.filter((other) => other.task.occupies.some((asset) => assets.has(asset))));
  let best = null;
  for (const { id, calendar } of able) {
    const inTheWay = booked.filter((other) => other.worker === id || sharing.has(other));
    const start = firstGap(task.duration, calendar, inTheWay, from);
    if (start !== null && (best === null || start < best.start)) best = booking(task, id, start);
  }
  return best;
}

/** The first moment with so much time in one span of a calendar; `inTheWay` is in the order of the starts. */
function firstGap(duration, calendar, inTheWay, from) {
  for (const span of calendar) {
    let start = Math.max(span.start, from);
    for (const other of inTheWay) {
      if (other.start < start + duration && start < other.end) start = other.end;
    }
    if (start + duration <= span.end) return start;
  }
  return null;
}
