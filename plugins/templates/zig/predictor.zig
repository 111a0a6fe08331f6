//! Judges each asset by how far its metrics have moved since its part was new: the further, the sooner it fails.
//! `judge` is the place to begin: it looks at one asset's history and says what to expect.

const std = @import("std");
const fw = @import("forewright.zig");
const predictor = fw.predictor;

pub const std_options: std.Options = .{ .logFn = fw.logFn };
pub const panic = fw.panic;

comptime {
    predictor.serve(predict);
}

const day = 86_400_000.0;

fn predict(request: predictor.Request) !fw.Answer([]const predictor.Outlook) {
    std.log.info("judges {d} assets", .{request.histories.len});
    const outlooks = try fw.allocator.alloc(predictor.Outlook, request.histories.len);
    for (request.histories, outlooks) |history, *outlook| outlook.* = try judge(history, request.horizons);
    return .{ .ok = outlooks };
}

fn judge(history: predictor.History, horizons: []const fw.Duration) !predictor.Outlook {
    var strongest: ?Drift = null;
    for (history.columns.get()) |column| {
        const drift = Drift.of(column) orelse continue;
        if (strongest == null or drift.moved > strongest.?.moved) strongest = drift;
    }
    const reason = strongest orelse return .of(.{ .declined = .of("nothing was measured") });

    // The more a metric has moved, the more of such parts fail each day.
    const rate = 0.001 + 0.01 * reason.moved;
    const probabilities = try fw.allocator.alloc(f64, horizons.len);
    for (horizons, probabilities) |horizon, *probability| {
        const expected = rate * horizon / day;
        probability.* = if (expected > 1e9) 1 else expected / (1 + expected);
    }
    return .of(.{ .risk = .{
        .probabilities = .of(probabilities),
        .remaining_life = .of(&.{}),
        .reasons = .of(try fw.allocator.dupe(predictor.Reason, &.{.{
            .metric = reason.metric,
            .feature = .of("last"),
            .value = reason.last,
            .typical = std.math.nan(f64),
            .contribution = reason.moved * day,
        }})),
    } });
}

/// How far a metric has moved since the first row that is known, relative to where it was.
const Drift = struct {
    metric: fw.String,
    last: f64,
    moved: f64,

    const most = 1000;

    fn of(column: predictor.Column) ?Drift {
        var first: ?f64 = null;
        var last: f64 = undefined;
        for (column.values.get()) |value| {
            if (std.math.isNan(value)) continue;
            if (first == null) first = value;
            last = value;
        }
        const from = first orelse return null;
        const moved = @abs(last - from) / (@abs(from) + 1);
        return .{
            .metric = column.metric,
            .last = last,
            // Written so that what is no number becomes the most as well.
            .moved = if (moved < most) moved else most,
        };
    }
};
