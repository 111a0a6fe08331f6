//! Waiting for something to become true, by looking, with an end.

use std::time::{Duration, Instant};

/// Looks again and again until there is something, and answers it.
///
/// # Panics
///
/// When there is nothing within `patience`.
#[track_caller]
pub fn eventually<T, F>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                begun.elapsed() < patience,
                "{caller}: waited {} s in vain for {what}",
                patience.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
}
