//! What a run that is begun again takes over from the run it is begun from.

use super::Position;
use crate::model::Timestamp;

/// An entry of the old run's journal, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The call.
    pub position: Position,
    /// Whether a closure of `on_failure` made it, to undo something.
    pub undo: bool,
    /// Whether it has an answer a script may see.
    pub answered: bool,
    /// Whether anybody has heard of it; else its script failed in the moment it asked for it.
    pub begun: bool,
    /// When it was asked.
    pub recorded_at: Timestamp,
    /// When it was answered, or called off.
    pub answered_at: Option<Timestamp>,
}

/// An entry that is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The call.
    pub position: Position,
    /// Whether it is to be asked again; else its answer is taken over with it.
    pub again: bool,
}

/// A restart from somewhere that cannot be restarted from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// The journal has no such call.
    #[error("the journal has no call at `{0}`; `GET /api/v1/runs/{{id}}/journal` shows its calls")]
    Unknown(Position),
    /// The call belongs to what undid the run.
    #[error("the call at `{0}` undid the run; name one that its script made before it failed")]
    Undoing(Position),
}

/// Chooses what a restart takes over: everything the script was told before it was told the answer of `from`, or all of
/// it. `told` is in the order the calls were made.
///
/// What was asked before that answer came cannot depend on it, so a build that was ordered meanwhile is not ordered
/// again. Calls without an answer, `from` among them, are asked again where others that are kept come after them. What
/// the script asked for in the moment it failed, and at once after that, it may ask for anew.
///
/// # Errors
///
/// [`RestartError`], when `from` is no call of the script.
pub fn take_over(told: &[Told], from: Option<&Position>) -> Result<Vec<Kept>, RestartError> {
    let (at, before) = match from {
        None => (usize::MAX, None),
        Some(from) => {
            let found = told.iter().position(|t| t.position == *from);
            let at = found.ok_or_else(|| RestartError::Unknown(from.clone()))?;
            if told[at].undo {
                return Err(RestartError::Undoing(from.clone()));
            }
            (at, told[at].answered_at)
        }
    };
    let begun = told.iter().take_while(|t| t.begun || t.undo);
    let mut kept: Vec<Kept> = begun
        .enumerate()
        .filter(|(index, t)| {
            let earlier = *index <= at || before.is_none_or(|before| t.recorded_at < before);
            earlier && !t.undo
        })
        .map(|(index, t)| Kept {
            position: t.position.clone(),
            again: index == at || !t.answered,
        })
        .collect();
    // Nothing comes after these: the script asks for them itself, as its new revision likes.
    while kept.last().is_some_and(|last| last.again) {
        kept.pop();
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `position asked answered`, where `-` is no answer, `!` one called off, `!!` never begun, and `u` marks what undid.
    fn journal(lines: &[&str]) -> Vec<Told> {
        let told = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let at = |text: &str| text.trim_matches('!').parse().ok().map(Timestamp);
            Told {
                position: words[0].parse().expect("a position"),
                undo: words.get(3) == Some(&"u"),
                answered: at(words[2]).is_some() && !words[2].contains('!'),
                begun: !words[2].ends_with("!!"),
                recorded_at: at(words[1]).expect("a time"),
                answered_at: at(words[2]),
            }
        };
        lines.iter().map(told).collect()
    }

    fn kept(lines: &[&str], from: Option<&str>) -> String {
        let from = from.map(|p| p.parse().expect("a position"));
        match take_over(&journal(lines), from.as_ref()) {
            Err(error) => error.to_string(),
            Ok(kept) => {
                let text = kept.iter().map(|k| match k.again {
                    true => format!("{}?", k.position),
                    false => k.position.to_string(),
                });
                text.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn what_was_told_before_the_answer_is_kept_and_nothing_else() {
        let straight = ["1 0 5", "2 5 9", "3 9 12", "1.1 12 13 u"];
        assert_eq!(kept(&straight, Some("3")), "1 2");
        assert_eq!(kept(&straight, Some("2")), "1");
        assert_eq!(kept(&straight, Some("1")), "");
        assert_eq!(kept(&straight, None), "1 2 3", "what undid it is not kept");
        assert!(kept(&straight, Some("7")).contains("no call at `7`"));
        assert!(kept(&straight, Some("1.1")).contains("undid the run"));
    }

    #[test]
    fn what_ran_beside_the_failed_step_is_not_done_again() {
        // `1.1` was started first and failed at 20; `2` and `3` were done meanwhile, `4` came of the failure.
        let beside = ["1.1 0 20", "2 0 5", "3 5 19", "4 20 25"];
        assert_eq!(kept(&beside, Some("1.1")), "1.1? 2 3");
    }

    #[test]
    fn what_was_called_off_is_asked_again_only_where_it_must_be() {
        let cancelled = ["1.1 0 9!", "2 0 5", "3 5 9!", "4.1 5 -"];
        assert_eq!(kept(&cancelled, None), "1.1? 2");
        assert_eq!(kept(&cancelled, Some("3")), "1.1? 2");
        assert_eq!(kept(&["1 0 -"], None), "");
    }

    #[test]
    fn what_was_asked_in_the_moment_of_the_failure_is_not_waited_for() {
        let failed = [
            "1 0 5",
            "2.1 0 9!",
            "3.1 9 9!!",
            "4 9 9",
            "5.1 9 9!!",
            "1.1 9 12 u",
        ];
        assert_eq!(kept(&failed, None), "1");
        assert_eq!(kept(&failed, Some("4")), "1");
        assert_eq!(kept(&failed, Some("1")), "");
    }
}
