//! Which cells are woken for the builds that wait.

use super::fit::{Capabilities, could_take};

/// How many builds of one sort wait for a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Printer profile they are sliced for.
    pub printer: String,
    /// Material they need.
    pub material: String,
    /// How many.
    pub builds: usize,
}

/// A cell that waits for work.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiter<'a> {
    /// What it could take now.
    pub offer: &'a Capabilities,
    /// Whether it was woken before and is still on its way to a build.
    pub on_its_way: bool,
}

/// Says which of the cells to wake, by their place in the list: at most one per build, the first that fits.
///
/// Those on their way already are reckoned with, so that one build does not wake a whole hall.
#[must_use]
pub fn whom_to_wake(demands: &[Demand], cells: &[Waiter<'_>]) -> Vec<usize> {
    let mut left: Vec<usize> = demands.iter().map(|demand| demand.builds).collect();
    let mut take = |cell: &Waiter<'_>| {
        let found = (0..demands.len()).find(|&i| {
            left[i] > 0 && could_take(cell.offer, &demands[i].printer, &demands[i].material)
        });
        if let Some(i) = found {
            left[i] -= 1;
        }
        found.is_some()
    };
    for cell in cells.iter().filter(|cell| cell.on_its_way) {
        take(cell);
    }
    let idle = cells
        .iter()
        .enumerate()
        .filter(|(_, cell)| !cell.on_its_way);
    idle.filter(|(_, cell)| take(cell))
        .map(|(i, _)| i)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(printer: &str, material: &str, builds: usize) -> Demand {
        Demand {
            printer: printer.into(),
            material: material.into(),
            builds,
        }
    }

    fn offer(printers: &[&str], materials: &[&str]) -> Capabilities {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Capabilities {
            printers: texts(printers),
            materials: texts(materials),
            volume_mm: None,
        }
    }

    fn woken(demands: &[Demand], cells: &[(Capabilities, bool)]) -> Vec<usize> {
        let waiters: Vec<_> = cells
            .iter()
            .map(|(offer, on_its_way)| Waiter {
                offer,
                on_its_way: *on_its_way,
            })
            .collect();
        whom_to_wake(demands, &waiters)
    }

    #[test]
    fn as_many_are_woken_as_there_are_builds_they_can_take() {
        let any = || (offer(&[], &[]), false);
        let voron = || (offer(&["voron_24"], &["ABS"]), false);
        let cells = [voron(), any(), voron(), any(), any()];
        assert_eq!(woken(&[], &cells), [0_usize; 0]);
        assert_eq!(woken(&[demand("prusa_mk4", "petg", 1)], &cells), [1]);
        assert_eq!(woken(&[demand("prusa_mk4", "petg", 9)], &cells), [1, 3, 4]);
        let both = [demand("voron_24", "abs", 2), demand("prusa_mk4", "petg", 1)];
        assert_eq!(
            woken(&both, &cells),
            [0, 1, 3],
            "the first that waits takes the first that fits"
        );
    }

    #[test]
    fn a_build_somebody_is_on_the_way_to_wakes_nobody_else() {
        let cells = [
            (offer(&[], &[]), false),
            (offer(&[], &["petg"]), true),
            (offer(&[], &["abs"]), true),
        ];
        assert_eq!(
            woken(&[demand("prusa_mk4", "petg", 1)], &cells),
            [0_usize; 0]
        );
        assert_eq!(woken(&[demand("prusa_mk4", "petg", 2)], &cells), [0]);
    }
}
