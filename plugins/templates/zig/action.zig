//! Takes a JSON object and answers with the key of what was done; it does nothing in the world yet.
//! `run` is the place to begin: let it act, and hand the key on to the system that does.

const std = @import("std");
const fw = @import("forewright.zig");

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    fw.action.serve(run);
}

fn run(input: []const u8, key: []const u8) !fw.Answer([]const u8) {
    const asked = std.json.parseFromSliceLeaky(std.json.Value, fw.allocator, input, .{}) catch |failure| switch (failure) {
        error.OutOfMemory => return failure,
        else => std.json.Value.null,
    };
    if (asked != .object) return .{ .invalid_input = "the input has to be an object" };
    fw.log(.info, "is asked to act", &.{
        .{ .name = .of("key"), .value = .of(key) },
        .{ .name = .of("input"), .value = .of(input) },
    });
    return .{ .ok = try std.json.Stringify.valueAlloc(fw.allocator, .{ .done = key }, .{}) };
}
