//! Weighted max-min fairness by water filling, over any number of links.
//!
//! Everybody's share rises at its weight's pace until a cap or a full link stops it; what is guaranteed is given first.

/// A flow that wants capacity on every link of its path.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// How fast its share rises compared with others; positive.
    pub weight: f64,
    /// What it gets before anything is shared out.
    pub guarantee: f64,
    /// What it can use at most.
    pub cap: f64,
    /// The links it passes, by index.
    pub path: Vec<usize>,
}

/// Why nothing can be shared out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BandwidthError {
    /// A number that makes no sense.
    #[error("flow {flow} has a {field} of {value}")]
    BadFlow {
        /// Which flow, by index.
        flow: usize,
        /// Which field.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// A path leads over a link that does not exist.
    #[error("flow {flow} passes link {link}, but there are only {links}")]
    NoSuchLink {
        /// Which flow, by index.
        flow: usize,
        /// The link it names.
        link: usize,
        /// How many links there are.
        links: usize,
    },
    /// What was promised is more than a link holds.
    #[error("link {link} holds {capacity}, but {promised} is guaranteed on it")]
    Overpromised {
        /// Which link, by index.
        link: usize,
        /// What it holds.
        capacity: f64,
        /// What is guaranteed on it.
        promised: f64,
    },
}

/// Shares `capacity` (per link) out to the flows.
///
/// # Errors
///
/// See [`BandwidthError`].
pub fn max_min(flows: &[Flow], capacity: &[f64]) -> Result<Vec<f64>, BandwidthError> {
    validate(flows, capacity)?;
    let mut share: Vec<f64> = flows.iter().map(|f| f.guarantee.min(f.cap)).collect();
    let mut rising: Vec<bool> = flows.iter().zip(&share).map(|(f, s)| *s < f.cap).collect();
    while rising.contains(&true) {
        let water = next_stop(flows, capacity, &share, &rising);
        for (i, flow) in flows.iter().enumerate() {
            if rising[i] {
                share[i] += water * flow.weight;
                // Rounding must not leave a flow a hair below its cap, or the water would stop there.
                if flow.cap - share[i] <= 1e-12 * flow.cap.max(1.0) {
                    share[i] = flow.cap;
                }
            }
        }
        let full: Vec<bool> = (0..capacity.len())
            .map(|link| room(flows, capacity, &share, link) <= 1e-12 * capacity[link].max(1.0))
            .collect();
        let mut stopped = false;
        for (i, flow) in flows.iter().enumerate() {
            let stops = share[i] >= flow.cap || flow.path.iter().any(|l| full[*l]);
            if rising[i] && stops {
                rising[i] = false;
                stopped = true;
            }
        }
        if !stopped {
            break;
        }
    }
    Ok(share)
}

/// How far the water rises until the next cap or full link.
fn next_stop(flows: &[Flow], capacity: &[f64], share: &[f64], rising: &[bool]) -> f64 {
    let caps = flows
        .iter()
        .enumerate()
        .filter(|(i, _)| rising[*i])
        .map(|(i, f)| (f.cap - share[i]) / f.weight);
    let links = (0..capacity.len()).filter_map(|link| {
        let pull: f64 = flows
            .iter()
            .enumerate()
            .filter(|(i, f)| rising[*i] && f.path.contains(&link))
            .map(|(_, f)| f.weight)
            .sum();
        (pull > 0.0).then(|| room(flows, capacity, share, link).max(0.0) / pull)
    });
    caps.chain(links).fold(f64::INFINITY, f64::min)
}

fn room(flows: &[Flow], capacity: &[f64], share: &[f64], link: usize) -> f64 {
    let used: f64 = flows
        .iter()
        .zip(share)
        .filter(|(f, _)| f.path.contains(&link))
        .map(|(_, s)| s)
        .sum();
    capacity[link] - used
}

fn validate(flows: &[Flow], capacity: &[f64]) -> Result<(), BandwidthError> {
    let links = capacity.len();
    for (flow, f) in flows.iter().enumerate() {
        let fields = [
            ("weight", f.weight, f.weight > 0.0),
            ("guarantee", f.guarantee, f.guarantee >= 0.0),
            ("cap", f.cap, f.cap >= 0.0),
        ];
        for (field, value, holds) in fields {
            if !holds || !value.is_finite() {
                return Err(BandwidthError::BadFlow { flow, field, value });
            }
        }
        if let Some(&link) = f.path.iter().find(|l| **l >= links) {
            return Err(BandwidthError::NoSuchLink { flow, link, links });
        }
    }
    let given: Vec<f64> = flows.iter().map(|f| f.guarantee.min(f.cap)).collect();
    for link in 0..links {
        let room = room(flows, capacity, &given, link);
        if room < -1e-9 {
            return Err(BandwidthError::Overpromised {
                link,
                capacity: capacity[link],
                promised: capacity[link] - room,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(weight: f64, guarantee: f64, cap: f64, path: &[usize]) -> Flow {
        Flow {
            weight,
            guarantee,
            cap,
            path: path.to_vec(),
        }
    }

    #[test]
    fn shares_by_hand() {
        let cases = [
            (
                "weights",
                vec![flow(1.0, 0.0, 100.0, &[0]), flow(3.0, 0.0, 100.0, &[0])],
                vec![8.0],
                vec![2.0, 6.0],
            ),
            (
                "what one cannot use goes to the others",
                vec![
                    flow(1.0, 0.0, 1.0, &[0]),
                    flow(1.0, 0.0, 9.0, &[0]),
                    flow(1.0, 0.0, 9.0, &[0]),
                ],
                vec![7.0],
                vec![1.0, 3.0, 3.0],
            ),
            (
                "guarantees come first",
                vec![flow(1.0, 4.0, 9.0, &[0]), flow(1.0, 0.0, 9.0, &[0])],
                vec![6.0],
                vec![5.0, 1.0],
            ),
            (
                "the classic three flows over two links",
                vec![
                    flow(1.0, 0.0, 99.0, &[0, 1]),
                    flow(1.0, 0.0, 99.0, &[0]),
                    flow(1.0, 0.0, 99.0, &[1]),
                ],
                vec![10.0, 4.0],
                vec![2.0, 8.0, 2.0],
            ),
        ];
        for (name, flows, capacity, expected) in cases {
            let shares = max_min(&flows, &capacity).unwrap();
            assert!(
                shares
                    .iter()
                    .zip(&expected)
                    .all(|(a, b)| (a - b).abs() < 1e-9),
                "{name}: {shares:?}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(max_min(&[flow(0.0, 0.0, 1.0, &[0])], &[1.0]).is_err());
        assert!(max_min(&[flow(1.0, 0.0, 1.0, &[3])], &[1.0]).is_err());
        let twice = [flow(1.0, 2.0, 9.0, &[0]), flow(1.0, 2.0, 9.0, &[0])];
        assert!(matches!(
            max_min(&twice, &[3.0]),
            Err(BandwidthError::Overpromised { .. })
        ));
    }

    proptest! {
        /// Nobody can rise without someone no better off falling: each flow is at its cap or has a full link on which
        /// its level (what it got above its guarantee, by weight) is the highest of those who rose.
        #[test]
        fn everybody_has_a_bottleneck(
            raw in proptest::collection::vec((0.1_f64..5.0, 0.0_f64..0.2, 0.0_f64..10.0, 1_usize..16), 1..12),
            capacity in proptest::collection::vec(3.0_f64..20.0, 4),
        ) {
            let flows: Vec<Flow> = raw.iter().map(|(w, g, c, mask)| {
                let path: Vec<usize> = (0..4).filter(|l| mask >> l & 1 == 1).collect();
                flow(*w, *g, *c, &path)
            }).collect();
            let share = max_min(&flows, &capacity).unwrap();
            for link in 0..4 {
                prop_assert!(room(&flows, &capacity, &share, link) >= -1e-9);
            }
            let level = |i: usize| (share[i] - flows[i].guarantee.min(flows[i].cap)) / flows[i].weight;
            for (i, f) in flows.iter().enumerate() {
                let at_cap = share[i] >= f.cap - 1e-9;
                let bottleneck = f.path.iter().any(|l| {
                    room(&flows, &capacity, &share, *l) < 1e-9
                        && flows.iter().enumerate().filter(|(_, o)| o.path.contains(l))
                            .all(|(j, _)| level(j) <= level(i) + 1e-9)
                });
                prop_assert!(at_cap || bottleneck);
            }
        }
    }
}
