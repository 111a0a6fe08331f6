//! Places tasks in their order, each as early as anybody can do it who knows how; what comes after others follows them.
//! `Board.place` is the place to begin: it chooses who does a task and when.

const std = @import("std");
const fw = @import("forewright.zig");
const scheduler = fw.scheduler;
const Task = scheduler.Task;
const Worker = scheduler.Worker;

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    scheduler.serve(arrange);
}

fn arrange(request: scheduler.Request) !fw.Answer(scheduler.Plan) {
    std.log.info("arranges {d} tasks among {d} people", .{ request.tasks.len, request.workers.len });
    var board: Board = .{ .workers = request.workers };
    var waiting: std.ArrayList(*const Task) = .empty;
    for (request.tasks) |*task| {
        if (find(request.agreed, task.id)) |slot| {
            try board.add(task, slot);
        } else {
            try waiting.append(fw.allocator, task);
        }
    }

    var slots: std.ArrayList(scheduler.Slot) = .empty;
    var unplaced: std.ArrayList(scheduler.Unplaced) = .empty;
    // Each pass places what the one before made ready; what has no place once it is ready never gets one.
    var moved = true;
    while (moved) {
        moved = false;
        var left: usize = 0;
        for (waiting.items) |task| {
            const ready = board.readyAt(task) orelse {
                waiting.items[left] = task;
                left += 1;
                continue;
            };
            if (board.place(task, ready)) |slot| {
                try board.add(task, slot);
                try slots.append(fw.allocator, slot);
                moved = true;
            } else {
                const reason = if (board.isAbleAny(task)) "no time is left in any calendar" else "nobody has the skills";
                try unplaced.append(fw.allocator, .{ .task = task.id, .reason = .of(reason) });
            }
        }
        waiting.shrinkRetainingCapacity(left);
    }
    for (waiting.items) |task| {
        try unplaced.append(fw.allocator, .{ .task = task.id, .reason = .of("what comes before it is not placed") });
    }
    return .{ .ok = .{ .slots = .of(slots.items), .unplaced = .of(unplaced.items) } };
}

/// What is agreed or placed so far.
const Board = struct {
    workers: []const Worker,
    /// In the order of their starts.
    jobs: std.ArrayList(Job) = .empty,

    const Job = struct { task: *const Task, worker: fw.String, start: fw.Instant, end: fw.Instant };

    fn add(board: *Board, task: *const Task, slot: scheduler.Slot) !void {
        const at = for (board.jobs.items, 0..) |job, at| {
            if (job.start > slot.start) break at;
        } else board.jobs.items.len;
        try board.jobs.insert(fw.allocator, at, .{
            .task = task,
            .worker = slot.worker,
            .start = slot.start,
            .end = slot.start + task.duration,
        });
    }

    /// When all that comes before the task is done, or null while some of it has no place.
    fn readyAt(board: Board, task: *const Task) ?fw.Instant {
        var ready = @max(fw.now(), task.earliest);
        for (task.after.get()) |id| {
            const before = for (board.jobs.items) |job| {
                if (same(job.task.id, id)) break job;
            } else return null;
            ready = @max(ready, before.end);
        }
        return ready;
    }

    fn place(board: Board, task: *const Task, ready: fw.Instant) ?scheduler.Slot {
        if (!(task.duration >= 0)) return null;
        var best: ?scheduler.Slot = null;
        for (board.workers) |*worker| {
            if (!isAble(worker, task)) continue;
            const start = board.earliest(worker, task, ready) orelse continue;
            if (best == null or start < best.?.start) best = .{ .task = task.id, .worker = worker.id, .start = start };
        }
        return best;
    }

    /// The first moment from which the worker can do the task in one go.
    fn earliest(board: Board, worker: *const Worker, task: *const Task, ready: fw.Instant) ?fw.Instant {
        for (worker.calendar.get()) |span| {
            var start = @max(ready, span.start);
            for (board.jobs.items) |job| {
                const in_the_way = same(job.worker, worker.id) or haveCommon(job.task.occupies, task.occupies);
                if (in_the_way and job.start < start + task.duration and start < job.end) start = job.end;
            }
            if (start + task.duration <= span.end) return start;
        }
        return null;
    }

    fn isAbleAny(board: Board, task: *const Task) bool {
        for (board.workers) |*worker| if (isAble(worker, task)) return true;
        return false;
    }
};

fn isAble(worker: *const Worker, task: *const Task) bool {
    for (task.skills.get()) |skill| if (!contains(worker.skills, skill)) return false;
    return true;
}

fn haveCommon(some: fw.List(fw.String), others: fw.List(fw.String)) bool {
    for (some.get()) |one| if (contains(others, one)) return true;
    return false;
}

fn contains(list: fw.List(fw.String), wanted: fw.String) bool {
    for (list.get()) |one| if (same(one, wanted)) return true;
    return false;
}

fn same(a: fw.String, b: fw.String) bool {
    return std.mem.eql(u8, a.get(), b.get());
}

fn find(slots: []const scheduler.Slot, task: fw.String) ?scheduler.Slot {
    for (slots) |slot| if (same(slot.task, task)) return slot;
    return null;
}
