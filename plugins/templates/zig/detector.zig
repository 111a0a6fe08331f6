//! Calls a sample unusual that lies far from what its metric did before `since`.
//! `look` is the place to begin: it looks at one metric and adds what is unusual to the anomalies.

const std = @import("std");
const fw = @import("forewright.zig");
const detector = fw.detector;

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    detector.serve(detect);
}

/// With fewer samples nobody can say what is normal.
const least_samples = 8;
/// Standard deviations from the mean.
const usual = 4.0;
const most_anomalies = 10_000;

const Anomalies = std.ArrayList(detector.Anomaly);

fn detect(request: detector.Request) !fw.Answer([]const detector.Anomaly) {
    std.log.info("looks at {d} metrics", .{request.series.len});
    var anomalies: Anomalies = .empty;
    for (request.series) |*series| try look(series, request.since, &anomalies);
    std.mem.sort(detector.Anomaly, anomalies.items, {}, startsBefore);
    return .{ .ok = anomalies.items[0..@min(anomalies.items.len, most_anomalies)] };
}

fn look(series: *const fw.Series, since: fw.Instant, anomalies: *Anomalies) !void {
    const times = series.times.get();
    const values = series.values.get();
    const known = for (times, 0..) |time, at| {
        if (time >= since) break at;
    } else times.len;
    const normal = Normal.of(values[0..known]) orelse return;

    var going_on = false;
    for (times[known..], values[known..]) |time, value| {
        const distance = @abs(value - normal.mean) / normal.deviation;
        const unusual = distance > usual; // never where the value is NaN
        defer going_on = unusual;
        if (!unusual) continue;
        if (!going_on) try anomalies.append(fw.allocator, .{
            .start = time,
            .end = time,
            .score = 0,
            .kind = .of("spike"),
            .metrics = .of((&series.metric)[0..1]),
        });
        const anomaly = &anomalies.items[anomalies.items.len - 1];
        anomaly.end = time;
        anomaly.score = @max(anomaly.score, 1 - usual / distance);
    }
}

fn startsBefore(_: void, a: detector.Anomaly, b: detector.Anomaly) bool {
    return a.start < b.start;
}

const Normal = struct {
    mean: f64,
    deviation: f64,

    fn of(values: []const f64) ?Normal {
        var count: f64 = 0;
        var sum: f64 = 0;
        for (values) |value| if (!std.math.isNan(value)) {
            count += 1;
            sum += value;
        };
        if (count < least_samples) return null;
        const mean = sum / count;

        var squares: f64 = 0;
        for (values) |value| if (!std.math.isNan(value)) {
            squares += (value - mean) * (value - mean);
        };
        const variance = squares / count;
        if (!std.math.isFinite(mean) or !std.math.isFinite(variance)) return null;
        // What never moved would make the least tremor unusual.
        return .{ .mean = mean, .deviation = @max(@sqrt(variance), 1e-9 * (1 + @abs(mean))) };
    }
};
