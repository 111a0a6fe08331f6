"""Places task after task as early as it can be done, in the order of the list.
Begin in `place`, which picks a worker and a start for one task; `arrange` decides which task comes first.
"""

import math
from typing import NamedTuple

from guard import guard
from wit_world import exports
from wit_world.exports.schedule import Plan, Request, Slot, Span, Task, Unplaced, Worker
from wit_world.imports import host


class Schedule(exports.Schedule):
    @guard
    def arrange(self, request: Request) -> Plan:
        tasks, workers = request.tasks, request.workers
        host.log(host.Level.INFO, f"plans {len(tasks)} tasks for {len(workers)} workers", [])
        by_id = {task.id: task for task in tasks}
        booked = sorted((book(by_id[slot.task], slot.worker, slot.start) for slot in request.agreed), key=by_start)
        ends = {one.task.id: one.end for one in booked}

        plan = Plan(slots=[], unplaced=[])
        waiting = [task for task in tasks if task.id not in ends]
        before = math.inf
        while len(waiting) < before:
            before = len(waiting)
            asked, waiting = waiting, []
            for task in asked:
                if not all(one in ends for one in task.after):
                    waiting.append(task)
                    continue
                able = [worker for worker in workers if set(task.skills) <= set(worker.skills)]
                found = place(task, able, booked, ends)
                if found is None:
                    plan.unplaced.append(Unplaced(task.id, why_not(able)))
                    continue
                booked.append(found)
                booked.sort(key=by_start)
                ends[task.id] = found.end
                plan.slots.append(Slot(task.id, found.worker, found.start))
        plan.unplaced += [Unplaced(task.id, "what comes before it is not placed") for task in waiting]
        return plan


class Booking(NamedTuple):
    task: Task
    worker: str
    start: float
    end: float


def book(task: Task, worker: str, start: float) -> Booking:
    return Booking(task, worker, start, start + task.duration)


def by_start(booking: Booking) -> float:
    return booking.start


def why_not(able: list[Worker]) -> str:
    return "no time is left in any calendar" if able else "nobody has the skills"


def place(task: Task, able: list[Worker], booked: list[Booking], ends: dict[str, float]) -> Booking | None:
    """The earliest booking that fits, with the first worker who can have it."""
    bounds = [host.now(), task.earliest, *(ends[one] for one in task.after)]
    if not task.duration >= 0 or any(map(math.isnan, bounds)):
        return None
    occupied = set(task.occupies)
    best = None
    for worker in able:
        in_the_way = [
            other for other in booked if other.worker == worker.id or not occupied.isdisjoint(other.task.occupies)
        ]
        start = first_gap(task.duration, worker.calendar, in_the_way, max(bounds))
        if start is not None and (best is None or start < best.start):
            best = book(task, worker.id, start)
    return best


def first_gap(duration: float, calendar: list[Span], in_the_way: list[Booking], earliest: float) -> float | None:
    """The first moment with so much time in one span of a calendar; `in_the_way` is in the order of the starts."""
    for span in calendar:
        start = max(span.start, earliest)
        for other in in_the_way:
            if other.start < start + duration and start < other.end:
                start = other.end
        if start + duration <= span.end:
            return start
    return None
