//! Reads the design and all that was seen of the part; it measures nothing yet, and so accepts nothing.
//! `lookAt` is the place to begin: it is given one observation, and its finding goes into the report.

const std = @import("std");
const fw = @import("forewright.zig");
const verifier = fw.verifier;

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    verifier.serve(inspect);
}

const most_findings = 10_000;

fn inspect(request: verifier.Request) !fw.Answer(verifier.Report) {
    std.log.info("inspects {d} observations", .{request.observations.len});
    // A capability's error becomes the answer: what is not granted is `unsupported`, what does not answer `unavailable`.
    if (!try isStl(request.expected)) return .{ .invalid_input = "the design is no binary STL" };

    const seen = request.observations[0..@min(request.observations.len, most_findings)];
    const findings = try fw.allocator.alloc(verifier.Finding, @max(seen.len, 1));
    findings[0] = .{ .code = .of("not_seen"), .severity = 0.2, .at = .of(null), .detail = .of("nobody looked") };
    for (seen, findings[0..seen.len]) |observation, *finding| finding.* = try lookAt(observation);
    return .{ .ok = .{
        .disposition = .inconclusive,
        .confidence = 0,
        .findings = .of(findings),
        .deviation = .of(null),
    } };
}

fn lookAt(observation: verifier.Observation) !verifier.Finding {
    var pieces: Pieces = try .open(observation.artifact);
    defer pieces.close();
    while (try pieces.next()) |piece| fw.allocator.free(piece);
    return .{
        .code = .of("not_measured"),
        .severity = 0.2,
        .at = .of(null),
        .detail = .of(try std.fmt.allocPrint(
            fw.allocator,
            "{d} bytes were read and nothing was measured yet",
            .{pieces.offset},
        )),
    };
}

/// Whether the size is what the number of triangles, which stands after 80 bytes, makes it.
fn isStl(artifact: fw.ArtifactRef) !bool {
    const header_size = 84;
    const triangle_size = 50;
    var pieces: Pieces = try .open(artifact);
    defer pieces.close();
    const first = try pieces.next() orelse return false;
    if (first.len < header_size) return false;
    const triangles: u64 = std.mem.readInt(u32, first[80..84], .little);
    while (try pieces.next()) |piece| fw.allocator.free(piece);
    return triangles > 0 and pieces.offset == header_size + triangle_size * triangles;
}

/// The bytes of an artifact, a MiB at a time.
const Pieces = struct {
    reader: fw.artifacts.Reader,
    /// How much was read so far.
    offset: u32 = 0,

    const size = 1 << 20;

    fn open(artifact: fw.ArtifactRef) !Pieces {
        return .{ .reader = try fw.artifacts.open(artifact) };
    }

    fn next(pieces: *Pieces) !?[]const u8 {
        const piece = try pieces.reader.read(pieces.offset, size);
        pieces.offset += @intCast(piece.len);
        return if (piece.len > 0) piece else null;
    }

    fn close(pieces: Pieces) void {
        pieces.reader.close();
    }
};
