//! What becomes of a call: an answer that holds to the contract, or a failure its author can act on.

use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::bindings::types::PluginError;
use super::guest::{Guest, Stop};
use super::judge::judge;
use crate::call::{Answer, Outcome, Request, Used};
use crate::doors::Halt;
use crate::failure::{Code, Failure, Frame, LimitHit};
use crate::limits::ALL_MEMORY;

/// The longest text that a guest is quoted with, and the longest name of a function, in bytes.
const LONGEST_MESSAGE: usize = 8 << 10;
const LONGEST_FUNCTION: usize = 256;

/// What became of a call.
pub(crate) fn ended(
    request: &Request,
    called: wasmtime::Result<Result<Answer, PluginError>>,
    mut guest: Guest,
) -> Outcome {
    guest.end_lines();
    let result = match called {
        Ok(Ok(answer)) => match judge(request, &answer, &guest) {
            Ok(()) => Ok(answer),
            Err(why) => {
                let message = format!("the answer breaks the contract: {why}");
                Err(Seen::new(Code::InvalidOutput, message))
            }
        },
        Ok(Err(declared)) => Err(Seen::declared(declared)),
        Err(error) => Err(Seen::stopped(&error, &guest)),
    };
    outcome(request, result, guest)
}

/// A call that was not made: the request breaks the contract, for which its plugin is not to blame.
pub(crate) fn refused(request: &Request, guest: Guest, why: String) -> Outcome {
    outcome(request, Err(Seen::new(Code::InvalidRequest, why)), guest)
}

/// A call that was not made: as many are under way as the plugin may have.
pub(crate) fn busy(request: &Request, guest: Guest) -> Outcome {
    let seen = Seen {
        limit: Some(LimitHit {
            name: "concurrency".to_owned(),
            allowed: u64::from(guest.limits.concurrency),
            asked: None,
        }),
        ..Seen::new(
            Code::Busy,
            "as many of its calls are under way as it may have",
        )
    };
    outcome(request, Err(seen), guest)
}

fn outcome(request: &Request, result: Result<Answer, Seen>, guest: Guest) -> Outcome {
    let result = result.map_err(|seen| Box::new(seen.failure(request, &guest)));
    Outcome {
        state: if result.is_ok() {
            guest.keys()
        } else {
            Vec::new()
        },
        used: Used {
            wall_ms: 0.0,
            memory_bytes: guest.meter.peak as u64,
            fuel: None,
            host_calls: guest.host_calls,
            capabilities: guest.used.iter().copied().collect(),
            names: guest.names(),
        },
        log: guest.log,
        result,
    }
}

fn function(request: &Request) -> &'static str {
    match request {
        Request::Predict(_) => "predict",
        Request::Detect(_) => "detect",
        Request::Design { .. } => "generate",
        Request::Verify(_) => "inspect",
        Request::Schedule(_) => "arrange",
        Request::Act { .. } => "run",
    }
}

/// What is seen of a failure, before it is told.
struct Seen {
    code: Code,
    message: String,
    limit: Option<LimitHit>,
    hint: Option<&'static str>,
    after_ms: Option<f64>,
    frames: Vec<Frame>,
}

impl Seen {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            limit: None,
            hint: None,
            after_ms: None,
            frames: Vec::new(),
        }
    }

    /// A limit of the manifest that was met.
    fn limit(code: Code, message: String, name: &str, allowed: u32, hint: &'static str) -> Self {
        Self {
            limit: Some(LimitHit {
                name: name.to_owned(),
                allowed: u64::from(allowed),
                asked: None,
            }),
            hint: Some(hint),
            ..Self::new(code, message)
        }
    }

    fn failure(self, request: &Request, guest: &Guest) -> Failure {
        Failure {
            code: self.code,
            message: plain(&self.message, LONGEST_MESSAGE),
            function: function(request).to_owned(),
            frames: self.frames,
            log: guest.log.tail(),
            limit: self.limit,
            hint: self.hint.map(str::to_owned),
            after_ms: self.after_ms,
        }
    }

    fn declared(declared: PluginError) -> Self {
        match declared {
            PluginError::InvalidInput(why) => Self::new(Code::InvalidInput, why),
            PluginError::Unsupported(why) => Self::new(Code::Unsupported, why),
            PluginError::Internal(why) => Self::new(Code::Internal, why),
            PluginError::Unavailable(after) => Self {
                after_ms: after.filter(|ms| ms.is_finite() && *ms >= 0.0),
                ..Self::new(Code::Unavailable, "the plugin cannot answer now")
            },
        }
    }

    /// A call that the guest did not end itself.
    fn stopped(error: &wasmtime::Error, guest: &Guest) -> Self {
        let frames = error.downcast_ref::<WasmBacktrace>();
        let frames =
            frames.map_or_else(Vec::new, |trace| trace.frames().iter().map(frame).collect());
        Self {
            frames,
            ..Self::reason(error, guest)
        }
    }

    fn reason(error: &wasmtime::Error, guest: &Guest) -> Self {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return Self::stop(stop, guest);
        }
        if let Some(halt) = error.downcast_ref::<Halt>() {
            let code = match halt {
                Halt::Diverged(_) => Code::Diverged,
                Halt::RecordingFull(_) => Code::RecordingFull,
            };
            return Self::new(code, halt.to_string());
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::new(Code::Busy, "as many plugins run as there are places for");
        }
        let cause = error.root_cause().to_string();
        // These two of the engine's limits have no types of their own; a test each shows that they are still known.
        if cause.contains("fuel allocated for hostcalls has been exhausted") {
            return Self::limit(
                Code::AnswerTooLarge,
                "it told the host more at once than the host takes".to_owned(),
                "answer-mib",
                guest.limits.answer_mib,
                "write large results into an artifact, or raise `answer-mib` under `[limits]`",
            );
        }
        if cause.contains("store handle limit exceeded") {
            return Self::stop(&Stop::Handles, guest);
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Self::limit(
                Code::OutOfFuel,
                format!(
                    "it did not end within {} million instructions",
                    guest.limits.fuel_millions
                ),
                "fuel-millions",
                guest.limits.fuel_millions,
                "raise `fuel-millions` under `[limits]`, or do less",
            ),
            trap => Self::trap(trap, cause, guest),
        }
    }

    fn stop(stop: &Stop, guest: &Guest) -> Self {
        let hinted = |code, hint| Self {
            hint: Some(hint),
            ..Self::new(code, stop.to_string())
        };
        match stop {
            Stop::Deadline => Self::limit(
                Code::Timeout,
                format!("it did not end within {} ms", guest.limits.deadline_ms),
                "deadline-ms",
                guest.limits.deadline_ms,
                "raise `deadline-ms` under `[limits]`, or do less",
            ),
            Stop::Handles => Self::limit(
                Code::Handles,
                stop.to_string(),
                "handles",
                guest.limits.handles,
                "drop readers and finish writers before opening others",
            ),
            Stop::Cancelled => hinted(
                Code::Cancelled,
                "call `progress` now and then, and return when it answers true",
            ),
            Stop::Absent(_) => hinted(
                Code::Absent,
                "use the plugin's own capabilities; there are no files, sockets or processes",
            ),
            Stop::Misused(_) => hinted(
                Code::Trap,
                "write no more at once than `check-write` answered",
            ),
            Stop::Exited => hinted(Code::Trap, "return an error instead of leaving the process"),
        }
    }

    /// A trap, which after a refused growth is most likely its consequence: allocators give up by trapping.
    fn trap(trap: Option<&Trap>, cause: String, guest: &Guest) -> Self {
        let message = match trap {
            Some(Trap::UnreachableCodeReached) => {
                "it panicked or aborted (`unreachable` was executed)".to_owned()
            }
            Some(Trap::StackOverflow) => "its stack overflowed".to_owned(),
            Some(trap) => format!("it trapped: {trap}"),
            None => cause,
        };
        let Some(limit) = guest.meter.refused.clone() else {
            return Self::new(Code::Trap, message);
        };
        let (code, hint) = match limit.name.as_str() {
            ALL_MEMORY => (Code::Busy, "other plugins have the memory; try again"),
            "memory-mib" => (
                Code::Memory,
                "raise `memory-mib` under `[limits]`, or read data in pieces",
            ),
            _ => (Code::Tables, "raise `table-elements` under `[limits]`"),
        };
        let message = format!(
            "it was refused more of `{}`, and then: {message}",
            limit.name
        );
        Self {
            limit: Some(limit),
            hint: Some(hint),
            ..Self::new(code, message)
        }
    }
}

fn frame(info: &FrameInfo) -> Frame {
    let named = |name| format!("{:#}", rustc_demangle::demangle(name));
    let name = info
        .func_name()
        .map_or_else(|| "<unknown>".to_owned(), named);
    Frame {
        function: plain(&name, LONGEST_FUNCTION),
        offset: info.module_offset().map(|offset| offset as u64),
    }
}

/// A guest's text as it may be shown: no control characters but line ends and tabs, and not too long.
fn plain(text: &str, most: usize) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text[..text.floor_char_boundary(most)]
        .chars()
        .map(shown)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_is_shown_without_control_characters_and_not_for_ever() {
        assert_eq!(plain("a\n\tb\u{1b}[2J", 100), "a\n\tb\u{fffd}[2J");
        assert_eq!(plain(&"ä".repeat(100), 9), "ääää");
    }
}
