//! `notify`: tells the recorded webhook something.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Outcome, Step, StepError};
use crate::host::Host;

/// Puts a message into the outbox.
pub struct Notify;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct NotifyInput {
    /// What it is about.
    pub subject: String,
    /// What is told.
    #[serde(default)]
    pub payload: Value,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotifyOutput {
    /// What it was about.
    pub subject: String,
}

impl Step for Notify {
    const KIND: &'static str = "notify";
    type Input = NotifyInput;
    type Output = NotifyOutput;

    fn run(&self, input: NotifyInput, host: &dyn Host) -> Result<Outcome<NotifyOutput>, StepError> {
        if input.subject.trim().is_empty() {
            return Err(StepError::failed(
                "invalid_input",
                "field `subject` is empty",
            ));
        }
        host.notify(&input.subject, &input.payload)?;
        Ok(Outcome::Done(NotifyOutput {
            subject: input.subject,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn a_message_is_told_once() {
        let world = World::new();
        let input = json!({ "subject": "window", "payload": { "id": 7 } });
        assert_eq!(
            done(&Notify, &input, &world),
            json!({ "subject": "window" })
        );
        done(&Notify, &input, &world);
        assert_eq!(
            *world.notes.borrow(),
            [("window".to_owned(), json!({ "id": 7 }))]
        );
        assert_eq!(
            failed(&Notify, &json!({ "subject": " " }), &world).code(),
            "invalid_input"
        );
    }
}
