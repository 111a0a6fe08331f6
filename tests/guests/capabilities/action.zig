//! Goes through every door there is, and answers what it was told behind each.

const std = @import("std");
const fw = @import("forewright.zig");

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    fw.action.serve(run);
}

fn run(_: []const u8, key: []const u8) !fw.Answer([]const u8) {
    const series = try fw.telemetry.query("fan-7", "vibration", 0, 1e13, 10);

    const before = try fw.state.get("k");
    const missing = fw.state.get("none");
    const version = try fw.state.set("k", "new", before.version);
    const conflict = fw.state.set("k", "newer", before.version);
    try fw.state.remove("k");

    const accept = fw.Label{ .name = .of("accept"), .value = .of("text/plain") };
    const told = try fw.http.send(.{
        .method = "POST",
        .url = "https://tickets.example/api",
        .headers = &.{accept},
        .body = key,
    }, 1000);
    const denied = fw.http.send(.{ .method = "GET", .url = "https://elsewhere.example/" }, null);
    const why = fw.refusal;

    const writer = try fw.artifacts.create("a.txt", "text/plain");
    try writer.append("hello");
    const made = try writer.finish();
    const reader = try fw.artifacts.open(made);
    const read = try reader.read(1, 100);
    reader.close();

    return .{ .ok = try std.json.Stringify.valueAlloc(fw.allocator, .{
        .values = .{ series.values.get()[0], series.values.get()[2] },
        .second = series.times.get()[1],
        .remembered = before.value.get(),
        .versions = .{ before.version, version },
        .missing = if (missing) |_| "there" else |failure| @errorName(failure),
        .conflict = if (conflict) |_| "written" else |failure| @errorName(failure),
        .status = told.status,
        .body = told.body.get(),
        .denied = if (denied) |_| "sent" else |failure| @errorName(failure),
        .why = why,
        .size = made.size,
        .read = read,
        .config = fw.config(),
        .now = fw.now(),
        .seed = fw.seed(),
        .stop = fw.progress(0.5, "half of it"),
    }, .{}) };
}
