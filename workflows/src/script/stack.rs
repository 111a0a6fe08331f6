//! A thread with enough stack for deep scripts, and the fence that keeps their panics in.

use std::cell::Cell;

/// Virtual size; only what is touched is ever committed.
const STACK_BYTES: usize = 64 << 20;

thread_local! {
    static ON_BIG_STACK: Cell<bool> = const { Cell::new(false) };
}

/// What ran on the big stack panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the script engine panicked: {message}")]
pub struct Panicked {
    /// The panic's text.
    pub message: String,
}

/// Runs `work` on a thread with a stack deep enough for every limit scripts are given.
///
/// On such a thread already, it runs in place; callers with many scripts may therefore wrap the whole loop.
///
/// # Errors
///
/// The text of a panic, when `work` panicked.
pub fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Panicked> {
    if ON_BIG_STACK.get() {
        return std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(panicked);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("script".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                ON_BIG_STACK.set(true);
                work()
            })
            .map_err(|e| Panicked {
                message: format!("no thread for the script: {e}"),
            })?;
        thread.join().map_err(panicked)
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the payload is what `join` hands over"
)]
fn panicked(payload: Box<dyn std::any::Any + Send>) -> Panicked {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    Panicked { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_as_an_error_also_when_nested() {
        let outer = on_big_stack(|| on_big_stack(|| panic!("inner")).map(|()| 1));
        let inner = outer.expect("the outer one did not panic");
        assert_eq!(inner.map_err(|p| p.message), Err("inner".to_owned()));
    }
}
