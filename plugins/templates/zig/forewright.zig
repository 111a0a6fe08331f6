//! The contract `forewright:plugin@1` in Zig: what a plugin is given, what it answers, and what it may ask of the host.
//!
//! Everything here lies in memory as the component model lays it out, so nothing is copied on its way in. Lists, options
//! and variants are read with `get` and made with `of`. Every call has a memory of its own, which is gone with the call:
//! nothing has to be freed, and what an answer points to comes from `allocator`, since it outlives the function.

const std = @import("std");

pub fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        const Self = @This();

        pub fn of(items: []const T) Self {
            // Where an empty slice points is anybody's guess, and the host takes no address outside the memory.
            return .{ .ptr = if (items.len > 0) items.ptr else @ptrFromInt(@alignOf(T)), .len = items.len };
        }

        pub fn get(list: Self) []const T {
            return list.ptr[0..list.len];
        }
    };
}

/// UTF-8.
pub const String = List(u8);

pub fn Option(comptime T: type) type {
    return extern struct {
        is_some: bool,
        value: T,

        const Self = @This();

        pub fn of(optional: ?T) Self {
            return .{ .is_some = optional != null, .value = optional orelse undefined };
        }

        pub fn get(option: Self) ?T {
            return if (option.is_some) option.value else null;
        }
    };
}

/// The tagged union `Cases` as it lies in memory.
pub fn Variant(comptime Cases: type) type {
    const Tag = std.meta.Tag(Cases);
    comptime var size = 0;
    comptime var alignment = 1;
    inline for (comptime std.enums.values(Tag)) |tag| {
        const Payload = @FieldType(Cases, @tagName(tag));
        size = @max(size, @sizeOf(Payload));
        alignment = @max(alignment, @alignOf(Payload));
    }
    const payload_size = size;
    const payload_alignment = alignment;

    return extern struct {
        tag: u8,
        payload: [payload_size]u8 align(payload_alignment),

        const Self = @This();

        pub fn of(cases: Cases) Self {
            var variant: Self = .{ .tag = @backingInt(cases), .payload = undefined };
            switch (cases) {
                inline else => |payload| @as(*@TypeOf(payload), @ptrCast(&variant.payload)).* = payload,
            }
            return variant;
        }

        pub fn get(variant: *const Self) Cases {
            switch (@as(Tag, @fromBackingInt(@intCast(variant.tag)))) {
                inline else => |tag| {
                    const Payload = @FieldType(Cases, @tagName(tag));
                    return @unionInit(Cases, @tagName(tag), @as(*const Payload, @ptrCast(&variant.payload)).*);
                },
            }
        }
    };
}

// What several worlds share.

/// Milliseconds since 1970-01-01T00:00:00Z.
pub const Instant = f64;
/// Milliseconds, never negative.
pub const Duration = f64;
/// Millimetres where it is a place, newtons where it is a force.
pub const Vec3 = extern struct { x: f64, y: f64, z: f64 };
/// A name and a value.
pub const Label = extern struct { name: String, value: String };

pub const Asset = extern struct { id: String, kind: String, labels: List(Label) };

/// `times` rise strictly; `values` are as many, `NaN` where a sample told nothing.
pub const Series = extern struct { metric: String, unit: String, times: List(Instant), values: List(f64) };

/// Bytes that the host keeps: `artifacts.open` reads them.
pub const ArtifactRef = extern struct { digest: String, media_type: String, size: u32, name: String };

pub const Box = extern struct { min: Vec3, max: Vec3 };
/// What lies within `radius` of the line from `start` to `end`.
pub const Cylinder = extern struct { start: Vec3, end: Vec3, radius: f64 };
pub const Region = Variant(union(enum) { box: Box, cylinder: Cylinder });

/// What a world's function answers: a `T`, or why there is none.
pub fn Answer(comptime T: type) type {
    return union(enum) {
        ok: T,
        /// The caller's fault. Never tried again.
        invalid_input: []const u8,
        /// Not now. Tried again, not sooner than this if it is given.
        unavailable: ?Duration,
        /// Not for this plugin. The next one is asked, or the built-in.
        unsupported: []const u8,
        /// A fault of the plugin. Counts towards its quarantine.
        internal: []const u8,
    };
}

// What every plugin may do.

pub const Level = enum(u32) { trace, debug, info, warn, err };

/// Writes to the plugin's log; at most 32 fields a line. `std.log` writes there as well.
pub fn log(level: Level, message: []const u8, fields: []const Label) void {
    const list: List(Label) = .of(fields);
    host.log(level, message.ptr, message.len, list.ptr, list.len);
}

/// Tells how far the call is, 0 to 1, and in which phase. True asks it to stop, as nobody waits for it any more.
pub fn progress(share: f64, phase: []const u8) bool {
    return host.progress(share, phase.ptr, phase.len) != 0;
}

/// The operator's settings for this plugin: a JSON object.
pub fn config() []const u8 {
    var text: String = undefined;
    host.config(&text);
    return text.get();
}

/// The moment the call is about. It stands still: a call has no other clock.
pub fn now() Instant {
    return host.now();
}

/// Where all randomness of the call starts from.
pub fn seed() u32 {
    return host.seed();
}

const host = struct {
    extern "forewright:plugin/host@1.0.0" fn log(Level, [*]const u8, usize, [*]const Label, usize) void;
    extern "forewright:plugin/host@1.0.0" fn progress(f64, [*]const u8, usize) u32;
    extern "forewright:plugin/host@1.0.0" fn config(*String) void;
    extern "forewright:plugin/host@1.0.0" fn now() f64;
    extern "forewright:plugin/host@1.0.0" fn seed() u32;
};

/// For `std_options`: `std.log` writes to the plugin's log.
pub fn logFn(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    const prefix = if (scope == .default) "" else "(" ++ @tagName(scope) ++ ") ";
    const text = std.fmt.allocPrint(allocator, prefix ++ format, args) catch @panic("out of memory");
    log(switch (level) {
        .err => .err,
        .warn => .warn,
        .info => .info,
        .debug => .debug,
    }, text, &.{});
}

/// For the root file's `panic`: its text reaches the plugin's log before the call ends.
pub const panic = std.debug.FullPanic(struct {
    fn panic(text: []const u8, _: ?usize) noreturn {
        log(.err, text, &.{});
        @trap();
    }
}.panic);

// Capabilities. A plugin that calls one has it in the `[capabilities]` of its plugin.toml.

/// What a capability refuses. An error that the plugin hands on with `try` becomes its answer.
pub const CapabilityError = error{
    /// The grant does not reach this far.
    Denied,
    /// The grant's amount is used up.
    Quota,
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// Somebody else was faster; read again.
    Conflict,
    /// The world behind the host did not answer.
    Unavailable,
};

/// What the host said of the last `CapabilityError`.
pub var refusal: []const u8 = "";

fn CapabilityResult(comptime T: type) type {
    return Variant(union(enum) {
        ok: T,
        err: Variant(union(enum) {
            denied: String,
            quota: String,
            not_found,
            invalid: String,
            conflict,
            unavailable: String,
        }),
    });
}

fn accept(comptime T: type, result: *const CapabilityResult(T)) CapabilityError!T {
    const failure = switch (result.get()) {
        .ok => |value| return value,
        .err => |failure| failure.get(),
    };
    refusal = switch (failure) {
        .not_found => "not found",
        .conflict => "a conflict",
        inline else => |text| text.get(),
    };
    return switch (failure) {
        .denied => error.Denied,
        .quota => error.Quota,
        .not_found => error.NotFound,
        .invalid => error.Invalid,
        .conflict => error.Conflict,
        .unavailable => error.Unavailable,
    };
}

/// Bytes by digest, in pieces of at most 1 MiB.
pub const artifacts = struct {
    /// Opens what the call was given or has made itself.
    pub fn open(artifact: ArtifactRef) CapabilityError!Reader {
        var result: CapabilityResult(Reader) = undefined;
        imports.open(
            artifact.digest.ptr,
            artifact.digest.len,
            artifact.media_type.ptr,
            artifact.media_type.len,
            artifact.size,
            artifact.name.ptr,
            artifact.name.len,
            &result,
        );
        return accept(Reader, &result);
    }

    /// `name` is a file's, without a folder.
    pub fn create(name: []const u8, media_type: []const u8) CapabilityError!Writer {
        var result: CapabilityResult(Writer) = undefined;
        imports.create(name.ptr, name.len, media_type.ptr, media_type.len, &result);
        return accept(Writer, &result);
    }

    pub const Reader = extern struct {
        handle: u32,

        pub fn size(reader: Reader) u32 {
            return imports.@"[method]reader.size"(reader.handle);
        }

        /// Shorter at the end, empty beyond it.
        pub fn read(reader: Reader, offset: u32, most: u32) CapabilityError![]const u8 {
            var result: CapabilityResult(List(u8)) = undefined;
            imports.@"[method]reader.read"(reader.handle, offset, most, &result);
            return (try accept(List(u8), &result)).get();
        }

        pub fn close(reader: Reader) void {
            imports.@"[resource-drop]reader"(reader.handle);
        }
    };

    /// Ends with `finish`, or with `discard`, which takes its bytes with it.
    pub const Writer = extern struct {
        handle: u32,

        pub fn append(writer: Writer, chunk: []const u8) CapabilityError!void {
            var result: CapabilityResult(void) = undefined;
            imports.@"[method]writer.append"(writer.handle, chunk.ptr, chunk.len, &result);
            return accept(void, &result);
        }

        pub fn finish(writer: Writer) CapabilityError!ArtifactRef {
            var result: CapabilityResult(ArtifactRef) = undefined;
            imports.@"[static]writer.finish"(writer.handle, &result);
            return accept(ArtifactRef, &result);
        }

        pub fn discard(writer: Writer) void {
            imports.@"[resource-drop]writer"(writer.handle);
        }
    };

    const imports = struct {
        extern "forewright:plugin/artifacts@1.0.0" fn open(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            u32,
            [*]const u8,
            usize,
            *CapabilityResult(Reader),
        ) void;
        extern "forewright:plugin/artifacts@1.0.0" fn create(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            *CapabilityResult(Writer),
        ) void;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[method]reader.size"(u32) u32;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[method]reader.read"(u32, u32, u32, *CapabilityResult(List(u8))) void;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[resource-drop]reader"(u32) void;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[method]writer.append"(u32, [*]const u8, usize, *CapabilityResult(void)) void;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[static]writer.finish"(u32, *CapabilityResult(ArtifactRef)) void;
        extern "forewright:plugin/artifacts@1.0.0" fn @"[resource-drop]writer"(u32) void;
    };
};

/// What was measured.
pub const telemetry = struct {
    /// Samples from `start` (included) to `end` (excluded). More than `max_points` are averaged in equal spans.
    pub fn query(asset: []const u8, metric: []const u8, start: Instant, end: Instant, max_points: u32) CapabilityError!Series {
        var result: CapabilityResult(Series) = undefined;
        imports.query(asset.ptr, asset.len, metric.ptr, metric.len, start, end, max_points, &result);
        return accept(Series, &result);
    }

    const imports = struct {
        extern "forewright:plugin/telemetry@1.0.0" fn query(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            f64,
            f64,
            u32,
            *CapabilityResult(Series),
        ) void;
    };
};

/// What the plugin remembers from call to call.
pub const state = struct {
    pub const Entry = extern struct { value: List(u8), version: u32 };

    /// `error.NotFound` for a key that is not there.
    pub fn get(key: []const u8) CapabilityError!Entry {
        var result: CapabilityResult(Entry) = undefined;
        imports.get(key.ptr, key.len, &result);
        return accept(Entry, &result);
    }

    /// Writes if the key is still at version `expected` (0: not there yet; null: whatever is there), else
    /// `error.Conflict`. Answers the new version.
    pub fn set(key: []const u8, value: []const u8, expected: ?u32) CapabilityError!u32 {
        var result: CapabilityResult(u32) = undefined;
        imports.set(key.ptr, key.len, value.ptr, value.len, expected != null, expected orelse 0, &result);
        return accept(u32, &result);
    }

    pub fn remove(key: []const u8) CapabilityError!void {
        var result: CapabilityResult(void) = undefined;
        imports.remove(key.ptr, key.len, &result);
        return accept(void, &result);
    }

    const imports = struct {
        extern "forewright:plugin/state@1.0.0" fn get([*]const u8, usize, *CapabilityResult(Entry)) void;
        extern "forewright:plugin/state@1.0.0" fn set(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            bool,
            u32,
            *CapabilityResult(u32),
        ) void;
        extern "forewright:plugin/state@1.0.0" fn remove([*]const u8, usize, *CapabilityResult(void)) void;
    };
};

/// Requests to other systems.
pub const http = struct {
    pub const Request = struct {
        /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
        method: []const u8,
        url: []const u8,
        headers: []const Label = &.{},
        body: []const u8 = "",
    };

    pub const Response = extern struct { status: u32, headers: List(Label), body: List(u8) };

    /// An answer of any status is an answer; `error.Unavailable` is none within `timeout`.
    pub fn send(request: Request, timeout: ?Duration) CapabilityError!Response {
        const headers: List(Label) = .of(request.headers);
        var result: CapabilityResult(Response) = undefined;
        imports.send(
            request.method.ptr,
            request.method.len,
            request.url.ptr,
            request.url.len,
            headers.ptr,
            headers.len,
            request.body.ptr,
            request.body.len,
            timeout != null,
            timeout orelse 0,
            &result,
        );
        return accept(Response, &result);
    }

    const imports = struct {
        extern "forewright:plugin/http@1.0.0" fn send(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            [*]const Label,
            usize,
            [*]const u8,
            usize,
            bool,
            f64,
            *CapabilityResult(Response),
        ) void;
    };
};

// The worlds. A plugin's source file exports its one: `comptime { fw.predictor.serve(predict); }`.

pub const predictor = struct {
    /// One metric on the grid of its history, `NaN` where nothing is known.
    pub const Column = extern struct { metric: String, unit: String, values: List(f64) };

    pub const History = extern struct {
        asset: Asset,
        /// When the part now in the asset was new, where it is known.
        installed: Option(Instant),
        /// The moment of the first row.
        start: Instant,
        step: Duration,
        /// Sorted by metric, all of one length.
        columns: List(Column),
    };

    pub const Quantile = extern struct { p: f64, after: Duration };

    pub const Reason = extern struct {
        metric: String,
        /// Which statistic of it, such as `mean_5`.
        feature: String,
        value: f64,
        /// What that is in assets that have a long life ahead; `NaN` where it cannot be told.
        typical: f64,
        /// Milliseconds of expected remaining life that it takes away.
        contribution: f64,
    };

    pub const Risk = extern struct {
        /// Of failing within each horizon asked for; never falls as the horizon grows.
        probabilities: List(f64),
        /// Of the life that remains: `p` rising, `after` not falling; at most 64.
        remaining_life: List(Quantile),
        /// Strongest first, at most 64.
        reasons: List(Reason),
    };

    /// `declined` says why this asset cannot be told.
    pub const Outlook = Variant(union(enum) { risk: Risk, declined: String });

    pub const Request = struct {
        histories: []const History,
        /// Ahead of `now`, rising.
        horizons: []const Duration,
        /// The trained model for assets of this kind: `artifacts.open` reads it.
        model: ?ArtifactRef,
    };

    /// One outlook per history, in their order.
    pub fn serve(comptime predict: fn (Request) anyerror!Answer([]const Outlook)) void {
        const entry = struct {
            fn entry(
                histories: [*]const History,
                histories_len: usize,
                horizons: [*]const Duration,
                horizons_len: usize,
                has_model: u32,
                digest: [*]const u8,
                digest_len: usize,
                media_type: [*]const u8,
                media_type_len: usize,
                size: u32,
                name: [*]const u8,
                name_len: usize,
            ) callconv(.c) *const Result([]const Outlook) {
                return hand(predict(.{
                    .histories = histories[0..histories_len],
                    .horizons = horizons[0..horizons_len],
                    .model = if (has_model == 0) null else .{
                        .digest = .{ .ptr = digest, .len = digest_len },
                        .media_type = .{ .ptr = media_type, .len = media_type_len },
                        .size = size,
                        .name = .{ .ptr = name, .len = name_len },
                    },
                }));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/predict@1.0.0#predict" });
    }
};

pub const detector = struct {
    /// A span in which something is unusual.
    pub const Anomaly = extern struct {
        start: Instant,
        end: Instant,
        /// 0 to 1; the greater, the more unusual.
        score: f64,
        /// Such as `spike`, `drift`, `stuck`.
        kind: String,
        /// The metrics it shows in, strongest first, each once.
        metrics: List(String),
    };

    pub const Request = struct {
        asset: Asset,
        /// Sorted by metric.
        series: []const Series,
        /// What lies before this is there to learn what is normal.
        since: Instant,
    };

    /// In the order of their starts, at most 10,000.
    pub fn serve(comptime detect: fn (Request) anyerror!Answer([]const Anomaly)) void {
        const entry = struct {
            fn entry(
                id: [*]const u8,
                id_len: usize,
                kind: [*]const u8,
                kind_len: usize,
                labels: [*]const Label,
                labels_len: usize,
                series: [*]const Series,
                series_len: usize,
                since: Instant,
            ) callconv(.c) *const Result([]const Anomaly) {
                return hand(detect(.{
                    .asset = .{
                        .id = .{ .ptr = id, .len = id_len },
                        .kind = .{ .ptr = kind, .len = kind_len },
                        .labels = .{ .ptr = labels, .len = labels_len },
                    },
                    .series = series[0..series_len],
                    .since = since,
                }));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/detect@1.0.0#detect" });
    }
};

pub const designer = struct {
    /// A force that acts on what of the part lies in a region.
    pub const LoadCase = extern struct { name: String, force: Vec3, region: Region };

    pub const Material = extern struct {
        name: String,
        /// Grams per cubic centimetre.
        density: f64,
        /// Young's modulus in megapascals.
        stiffness: f64,
        poisson_ratio: f64,
        /// In megapascals, along the layers.
        yield_strength: f64,
        /// The same across them.
        yield_strength_across: f64,
    };

    pub const Process = extern struct {
        layer_height: f64,
        /// The thinnest wall, in millimetres.
        min_wall: f64,
        /// How far from the vertical a wall may lean without support, in degrees.
        max_overhang: f64,
    };

    pub const Task = extern struct {
        asset: Asset,
        /// The present mesh of the part, where there is one.
        source: Option(ArtifactRef),
        /// Nothing of the part may lie outside.
        envelope: Box,
        /// Must be solid.
        keep_in: List(Region),
        /// Must stay empty.
        keep_out: List(Region),
        /// Where the part is held.
        fixed: List(Region),
        loads: List(LoadCase),
        material: Material,
        process: Process,
        /// In grams.
        max_mass: f64,
        min_safety_factor: f64,
    };

    pub const Score = extern struct { name: String, value: f64 };

    pub const Candidate = extern struct {
        /// A closed mesh (`model/stl`) in the frame of the task.
        mesh: ArtifactRef,
        /// In grams.
        mass: f64,
        /// Which way is up while it is built; of length 1.
        build_direction: Vec3,
        /// Greater is better. At most 64.
        scores: List(Score),
        notes: String,
    };

    /// Best first, at most as many as asked for.
    pub fn serve(comptime generate: fn (*const Task, max_candidates: u32) anyerror!Answer([]const Candidate)) void {
        const Arguments = extern struct { task: Task, max_candidates: u32 };
        const entry = struct {
            fn entry(arguments: *const Arguments) callconv(.c) *const Result([]const Candidate) {
                return hand(generate(&arguments.task, arguments.max_candidates));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/design@1.0.0#generate" });
    }
};

pub const verifier = struct {
    pub const Disposition = enum(u8) { accept, rework, reject, inconclusive };

    pub const Finding = extern struct {
        /// A stable word, such as `layer_shift`.
        code: String,
        /// 0 to 1; from 0.5 on the part cannot be accepted.
        severity: f64,
        /// Where, in the frame of the design; none where the whole part is meant.
        at: Option(Vec3),
        detail: String,
    };

    /// How far the part is from its design, in millimetres; positive is too much material.
    pub const Deviation = extern struct {
        mean: f64,
        /// The one that is greatest without its sign.
        max: f64,
        /// Of the mean, one standard deviation.
        uncertainty: f64,
        /// The share of the surface that was seen.
        coverage: f64,
    };

    /// A unit quaternion.
    pub const Rotation = extern struct { x: f64, y: f64, z: f64, w: f64 };
    /// A point of a scan is turned, then moved.
    pub const Pose = extern struct { rotation: Rotation, translation: Vec3 };
    /// The middle of an image's first pixel, and the way to the next one in its row and to the one below.
    pub const Pixels = extern struct { origin: Vec3, right: Vec3, down: Vec3 };
    /// How what was seen is carried into the frame of the design.
    pub const Placement = Variant(union(enum) { unknown, pose: Pose, pixels: Pixels });

    pub const Observation = extern struct {
        /// A scan (`model/ply`, millimetres) or an image (`image/png`).
        artifact: ArtifactRef,
        placement: Placement,
        /// Of one measured point, one standard deviation in millimetres.
        uncertainty: Option(f64),
    };

    pub const Request = struct {
        /// The mesh of the design (`model/stl`).
        expected: ArtifactRef,
        observations: []const Observation,
        /// How far a surface may be off, in millimetres.
        tolerance: f64,
    };

    pub const Report = extern struct {
        disposition: Disposition,
        /// 0 to 1.
        confidence: f64,
        /// At most 10,000.
        findings: List(Finding),
        /// Where something was measured.
        deviation: Option(Deviation),
    };

    pub fn serve(comptime inspect: fn (Request) anyerror!Answer(Report)) void {
        const entry = struct {
            fn entry(
                digest: [*]const u8,
                digest_len: usize,
                media_type: [*]const u8,
                media_type_len: usize,
                size: u32,
                name: [*]const u8,
                name_len: usize,
                observations: [*]const Observation,
                observations_len: usize,
                tolerance: f64,
            ) callconv(.c) *const Result(Report) {
                return hand(inspect(.{
                    .expected = .{
                        .digest = .{ .ptr = digest, .len = digest_len },
                        .media_type = .{ .ptr = media_type, .len = media_type_len },
                        .size = size,
                        .name = .{ .ptr = name, .len = name_len },
                    },
                    .observations = observations[0..observations_len],
                    .tolerance = tolerance,
                }));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/verify@1.0.0#inspect" });
    }
};

pub const scheduler = struct {
    pub const Span = extern struct { start: Instant, end: Instant };

    pub const Worker = extern struct {
        id: String,
        skills: List(String),
        /// When they can work, in order, without overlaps.
        calendar: List(Span),
    };

    pub const Task = extern struct {
        id: String,
        duration: Duration,
        /// Every one of them, in one person.
        skills: List(String),
        /// Tasks that have to be done before.
        after: List(String),
        earliest: Instant,
        /// Ending later than this costs.
        due: Instant,
        cost_per_hour_late: f64,
        /// Assets that cannot be used meanwhile; two tasks that share one do not overlap.
        occupies: List(String),
    };

    pub const Slot = extern struct { task: String, worker: String, start: Instant };
    pub const Unplaced = extern struct { task: String, reason: String };

    pub const Request = struct {
        /// In the order of their ids, no two alike.
        tasks: []const Task,
        workers: []const Worker,
        /// Taken as they are, neither moved nor listed again.
        agreed: []const Slot,
    };

    /// Every task that is not agreed is in exactly one of the two lists.
    pub const Plan = extern struct { slots: List(Slot), unplaced: List(Unplaced) };

    pub fn serve(comptime arrange: fn (Request) anyerror!Answer(Plan)) void {
        const entry = struct {
            fn entry(
                tasks: [*]const Task,
                tasks_len: usize,
                workers: [*]const Worker,
                workers_len: usize,
                agreed: [*]const Slot,
                agreed_len: usize,
            ) callconv(.c) *const Result(Plan) {
                return hand(arrange(.{
                    .tasks = tasks[0..tasks_len],
                    .workers = workers[0..workers_len],
                    .agreed = agreed[0..agreed_len],
                }));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/schedule@1.0.0#arrange" });
    }
};

pub const action = struct {
    /// JSON in, JSON out. The same `key` is the same action, which may be asked for again.
    pub fn serve(comptime run: fn (input: []const u8, key: []const u8) anyerror!Answer([]const u8)) void {
        const entry = struct {
            fn entry(
                input: [*]const u8,
                input_len: usize,
                key: [*]const u8,
                key_len: usize,
            ) callconv(.c) *const Result([]const u8) {
                return hand(run(input[0..input_len], key[0..key_len]));
            }
        }.entry;
        @export(&entry, .{ .name = "forewright:plugin/act@1.0.0#run" });
    }
};

const PluginError = Variant(union(enum) {
    invalid_input: String,
    unavailable: Option(Duration),
    unsupported: String,
    internal: String,
});

/// A slice is handed over as a list; a record as it is.
fn Handed(comptime T: type) type {
    return switch (@typeInfo(T)) {
        .pointer => |pointer| List(pointer.child),
        else => T,
    };
}

fn Result(comptime T: type) type {
    return Variant(union(enum) { ok: Handed(T), err: PluginError });
}

/// Lays an answer down where the host reads it. What a capability refused decides what the host does next; any other
/// error is the plugin's fault.
fn hand(outcome: anytype) *const Result(@FieldType(@typeInfo(@TypeOf(outcome)).error_union.payload, "ok")) {
    const T = @FieldType(@typeInfo(@TypeOf(outcome)).error_union.payload, "ok");
    const answer = outcome catch |failure| @as(Answer(T), switch (failure) {
        error.Denied, error.Quota => .{ .unsupported = refusal },
        error.NotFound, error.Conflict, error.Unavailable => .{ .unavailable = null },
        error.Invalid => .{ .internal = refusal },
        error.OutOfMemory => @panic("out of memory"),
        else => .{ .internal = @errorName(failure) },
    });
    const result = allocator.create(Result(T)) catch @panic("out of memory");
    result.* = switch (answer) {
        .ok => |value| .of(.{ .ok = if (Handed(T) == T) value else .of(value) }),
        .invalid_input => |text| .of(.{ .err = .of(.{ .invalid_input = .of(text) }) }),
        .unavailable => |after| .of(.{ .err = .of(.{ .unavailable = .of(after) }) }),
        .unsupported => |text| .of(.{ .err = .of(.{ .unsupported = .of(text) }) }),
        .internal => |text| .of(.{ .err = .of(.{ .internal = .of(text) }) }),
    };
    return result;
}

// Memory.

/// Begins where the module's own memory ends, and takes back only the block that was made last.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = allocate,
    .resize = resize,
    .remap = remap,
    .free = free,
} };

const page_size = 65536;
var heap_end: usize = 0;

/// Whether there is memory up to `end`.
fn reach(end: usize) bool {
    const there = @wasmMemorySize(0) * page_size;
    if (end > there and @wasmMemoryGrow(0, (end - there - 1) / page_size + 1) < 0) return false;
    heap_end = end;
    return true;
}

fn allocate(_: *anyopaque, len: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    if (heap_end == 0) heap_end = @wasmMemorySize(0) * page_size;
    const start = alignment.forward(heap_end);
    const end = std.math.add(usize, start, len) catch return null;
    return if (reach(end)) @ptrFromInt(start) else null;
}

fn resize(_: *anyopaque, block: []u8, _: std.mem.Alignment, len: usize, _: usize) bool {
    const start = @intFromPtr(block.ptr);
    if (start + block.len != heap_end) return len <= block.len;
    return reach(std.math.add(usize, start, len) catch return false);
}

fn remap(context: *anyopaque, block: []u8, alignment: std.mem.Alignment, len: usize, caller: usize) ?[*]u8 {
    return if (resize(context, block, alignment, len, caller)) block.ptr else null;
}

fn free(_: *anyopaque, block: []u8, _: std.mem.Alignment, _: usize) void {
    const start = @intFromPtr(block.ptr);
    if (start + block.len == heap_end) heap_end = start;
}

/// The host makes room here for what it hands over.
export fn cabi_realloc(old: [*]u8, old_len: usize, alignment: usize, len: usize) [*]u8 {
    if (len == 0) return @ptrFromInt(alignment);
    const block = allocator.rawAlloc(len, .fromByteUnits(alignment), 0) orelse @panic("out of memory");
    @memcpy(block[0..@min(old_len, len)], old[0..@min(old_len, len)]);
    return block;
}
