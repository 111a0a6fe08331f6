//! What should never be seen of a lease: said of any queue that has states, attempts and holders.

use std::collections::BTreeMap;

use super::witness::Seen;

/// The ends of a step.
const ENDS: [&str; 3] = ["done", "failed", "cancelled"];

/// What was counted on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Rows that were queued.
    pub(crate) queued: usize,
    /// How often one was taken.
    pub(crate) claims: usize,
    /// How many ended, in whatever way.
    pub(crate) ended: usize,
}

/// Everything that is wrong with the lives of some rows.
pub(crate) fn faults(lives: &BTreeMap<String, Vec<Seen>>) -> (Vec<String>, Counts) {
    let (mut found, mut counts) = (Vec::new(), Counts::default());
    for (id, life) in lives {
        let mut say = |what: String| found.push(format!("step {id}: {what}"));
        counts.queued += 1;
        if life[0].state != "ready" && !is_claimed_as_queued(&life[0]) {
            say(format!("it began as {:?}", life[0]));
        }
        counts.claims += usize::from(life[0].state == "leased");
        for pair in life.windows(2) {
            if let Some(fault) = fault_of(&pair[0], &pair[1]) {
                say(fault);
            }
            counts.claims += usize::from(pair[0].state == "ready" && pair[1].state == "leased");
        }
        if let Some(over) = life.iter().find(|seen| seen.attempt > seen.most) {
            say(format!("attempts over the maximum: {over:?}"));
        }
        let ends = life.windows(2).filter(|p| !is_end(&p[0]) && is_end(&p[1]));
        match ends.count() {
            0 => say(format!("lost: it never ended, {:?}", life.last())),
            1 => counts.ended += 1,
            times => say(format!("it ended {times} times")),
        }
    }
    (found, counts)
}

/// A step that its first holder queued for himself looks as if he had claimed it.
fn is_claimed_as_queued(first: &Seen) -> bool {
    let counted = first.fence == Some(1) && first.attempt == Some(1);
    first.state == "leased" && counted && first.owner.is_some()
}

fn is_end(seen: &Seen) -> bool {
    ENDS.contains(&seen.state.as_str())
}

/// What is wrong with a change.
fn fault_of(old: &Seen, new: &Seen) -> Option<String> {
    if old.fence > new.fence {
        return Some(format!("the fence fell: {old:?}, then {new:?}"));
    }
    let raised = old.fence != new.fence;
    let fine = match (old.state.as_str(), new.state.as_str()) {
        (_, "deleted") => false,
        ("ready", "ready") => !raised,
        ("ready", "leased") => old.fence.map(|fence| fence + 1) == new.fence && new.owner.is_some(),
        // Somebody else has it without it having been taken back.
        ("leased", "leased") => !raised && old.owner == new.owner,
        ("leased", "ready" | "done") => !raised,
        ("leased", "failed") => true,
        // It is called off, or too late: whoever has it is shut out.
        ("ready" | "leased", "cancelled") | ("ready", "failed") => raised || old.fence.is_none(),
        (old, new) => old == new,
    };
    (!fine).then(|| format!("{old:?} became {new:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, fence: i64, attempt: i64, owner: Option<&str>) -> Seen {
        Seen {
            at: 0,
            id: "s".into(),
            state: state.into(),
            fence: Some(fence),
            attempt: Some(attempt),
            most: Some(2),
            owner: owner.map(str::to_owned),
            until: None,
        }
    }

    fn found(life: Vec<Seen>) -> Vec<String> {
        faults(&BTreeMap::from([("s".to_owned(), life)])).0
    }

    #[test]
    fn a_life_as_it_should_be_is_found_without_fault() {
        let life = vec![
            seen("ready", 0, 0, None),
            seen("leased", 1, 1, Some("a")),
            seen("leased", 1, 1, Some("a")),
            seen("ready", 1, 1, None),
            seen("leased", 2, 2, Some("b")),
            seen("done", 2, 2, None),
        ];
        assert_eq!(found(life), [""; 0]);
        let queued_for_himself = vec![seen("leased", 1, 1, Some("a")), seen("done", 1, 1, None)];
        assert_eq!(found(queued_for_himself), [""; 0]);
    }

    #[test]
    fn every_fault_is_seen() {
        let ready = || seen("ready", 0, 0, None);
        let leased = || seen("leased", 1, 1, Some("a"));
        let done = || seen("done", 1, 1, None);
        for (life, word) in [
            (vec![ready(), leased()], "lost"),
            (vec![ready(), leased(), seen("deleted", 1, 1, None)], "lost"),
            (
                vec![ready(), leased(), done(), leased(), done()],
                "ended 2 times",
            ),
            (
                vec![ready(), leased(), seen("leased", 1, 1, Some("b")), done()],
                "became",
            ),
            (vec![ready(), seen("done", 0, 0, None)], "became"),
            (
                vec![
                    ready(),
                    seen("leased", 1, 3, Some("a")),
                    seen("done", 1, 3, None),
                ],
                "over the maximum",
            ),
            (
                vec![
                    ready(),
                    leased(),
                    seen("ready", 0, 1, None),
                    leased(),
                    done(),
                ],
                "the fence fell",
            ),
            (vec![ready(), leased(), seen("done", 2, 1, None)], "became"),
            (vec![seen("leased", 1, 1, None), done()], "began as"),
            (vec![seen("leased", 2, 1, Some("a")), done()], "began as"),
            (vec![seen("leased", 1, 0, Some("a")), done()], "began as"),
        ] {
            let said = found(life).join("\n");
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
