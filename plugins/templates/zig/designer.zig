//! Designs a solid block that fills the envelope, where that is allowed and not too heavy.
//! `generate` is the place to begin; `blockStl` makes the mesh of what it chose.

const std = @import("std");
const fw = @import("forewright.zig");
const designer = fw.designer;

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    designer.serve(generate);
}

fn generate(task: *const designer.Task, max_candidates: u32) !fw.Answer([]const designer.Candidate) {
    std.log.info("designs a block for {s}", .{task.asset.id.get()});
    if (max_candidates == 0) return .{ .ok = &.{} };
    if (task.keep_out.get().len > 0) return .{ .unsupported = "this designer cuts no holes" };
    const volume = volumeOf(task.envelope) orelse return .{ .invalid_input = "the envelope has no volume" };
    const mass = volume * task.material.density / 1000;
    if (!std.math.isFinite(mass) or mass > task.max_mass) return .{ .unsupported = "a solid block is too heavy" };
    if (mass <= 0) return .{ .invalid_input = "the material weighs nothing" };

    // A capability's error becomes the answer: what is not granted is `unsupported`, what does not answer `unavailable`.
    const writer = try fw.artifacts.create("block.stl", "model/stl");
    try writer.append(&blockStl(task.envelope));
    const mesh = try writer.finish();

    return .{ .ok = try fw.allocator.dupe(designer.Candidate, &.{.{
        .mesh = mesh,
        .mass = mass,
        .build_direction = .{ .x = 0, .y = 0, .z = 1 },
        .scores = .of(&scores),
        .notes = .of("a solid block"),
    }}) };
}

const scores = [_]designer.Score{.{ .name = .of("solidity"), .value = 1 }};

/// In cubic millimetres, where it is a number greater than nothing.
fn volumeOf(box: fw.Box) ?f64 {
    const x = box.max.x - box.min.x;
    const y = box.max.y - box.min.y;
    const z = box.max.z - box.min.z;
    for ([_]f64{ x, y, z }) |length| if (!std.math.isFinite(length) or length <= 0) return null;
    return x * y * z;
}

/// Corners of the box, one bit of the number per axis; each side counter-clockwise as seen from outside.
const sides = [6][4]u3{
    .{ 0, 2, 3, 1 },
    .{ 4, 5, 7, 6 },
    .{ 0, 1, 5, 4 },
    .{ 2, 6, 7, 3 },
    .{ 0, 4, 6, 2 },
    .{ 1, 3, 7, 5 },
};

const triangle_size = 50;
const header_size = 84;
const triangle_count = 2 * sides.len;

fn blockStl(box: fw.Box) [header_size + triangle_count * triangle_size]u8 {
    // Normals stay zero: readers take them from the winding.
    var bytes: [header_size + triangle_count * triangle_size]u8 = @splat(0);
    std.mem.writeInt(u32, bytes[80..84], triangle_count, .little);
    var triangle: []u8 = bytes[header_size..];
    for (sides) |side| {
        for ([_][3]u3{ .{ side[0], side[1], side[2] }, .{ side[0], side[2], side[3] } }) |corners| {
            for (corners, 1..) |corner, at| writePoint(triangle[at * 12 ..][0..12], .{
                .x = if (corner & 1 != 0) box.max.x else box.min.x,
                .y = if (corner & 2 != 0) box.max.y else box.min.y,
                .z = if (corner & 4 != 0) box.max.z else box.min.z,
            });
            triangle = triangle[triangle_size..];
        }
    }
    return bytes;
}

fn writePoint(bytes: *[12]u8, point: fw.Vec3) void {
    for ([_]f64{ point.x, point.y, point.z }, 0..) |coordinate, axis| {
        const narrow: f32 = @floatCast(coordinate);
        std.mem.writeInt(u32, bytes[axis * 4 ..][0..4], @bitCast(narrow), .little);
    }
}
