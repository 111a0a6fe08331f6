//! What depends on what, and what stops when something stops.
//!
//! An asset works if it serves, everything it needs works, and of each group of alternatives one works. A member of a
//! redundancy group counts as working for those who need it as long as enough of the group serve, and no longer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{Asset, AssetState, Twin};

/// The dependency graph of a twin. Names of assets that do not exist count as things that never work.
pub struct Graph<'a> {
    twin: &'a Twin,
    dependents: BTreeMap<&'a str, BTreeSet<&'a str>>,
    groups: BTreeMap<&'a str, Group<'a>>,
}

/// A redundancy group as declared by its members.
struct Group<'a> {
    members: BTreeSet<&'a str>,
    // Members may disagree; the strictest counts.
    needed: usize,
}

impl<'a> Graph<'a> {
    /// Reads the graph out of a twin.
    #[must_use]
    pub fn new(twin: &'a Twin) -> Self {
        let mut dependents: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
        for asset in twin.assets.values() {
            for dependency in &asset.depends_on {
                dependents
                    .entry(&dependency.asset)
                    .or_default()
                    .insert(&asset.id);
            }
            // A stand-in serves in another's place; it does not make the group larger.
            if let Some(redundancy) = &asset.redundancy
                && !asset.attributes.contains_key("stands_in_for")
            {
                let group = groups.entry(&redundancy.group).or_insert_with(|| Group {
                    members: BTreeSet::new(),
                    needed: 0,
                });
                group.members.insert(&asset.id);
                group.needed = group.needed.max(redundancy.needed as usize);
            }
        }
        Self {
            twin,
            dependents,
            groups,
        }
    }

    /// Who names this asset among its dependencies.
    pub fn direct_dependents(&self, asset: &str) -> impl Iterator<Item = &'a str> {
        self.dependents.get(asset).into_iter().flatten().copied()
    }

    /// Everybody reached by following dependents, with the number of steps; the asset itself is left out.
    #[must_use]
    pub fn dependents(&self, asset: &str) -> BTreeMap<&'a str, usize> {
        let mut reached = BTreeMap::new();
        let mut queue: VecDeque<(&str, usize)> =
            self.carried_by(asset).into_iter().map(|d| (d, 1)).collect();
        while let Some((next, steps)) = queue.pop_front() {
            if next == asset || reached.contains_key(next) {
                continue;
            }
            reached.insert(next, steps);
            queue.extend(self.carried_by(next).into_iter().map(|d| (d, steps + 1)));
        }
        reached
    }

    /// Who stops working if this asset stops: it dominates them, whatever alternatives and redundancy they have.
    #[must_use]
    pub fn critical_dependents(&self, asset: &str) -> BTreeSet<&'a str> {
        let now = self.working(&BTreeSet::new());
        let then = self.working(&BTreeSet::from([asset]));
        now.difference(&then)
            .filter(|a| **a != asset)
            .copied()
            .collect()
    }

    /// Everything that works if `stopped` stop on top of what does not serve already.
    ///
    /// Assets that need each other work together; alternatives must be founded on something outside their circle.
    #[must_use]
    pub fn working(&self, stopped: &BTreeSet<&str>) -> BTreeSet<&'a str> {
        let serving = self.serving(stopped);
        let mut assumed = serving.clone();
        loop {
            let founded = self.founded(&serving, &assumed);
            if founded.len() == assumed.len() {
                return founded;
            }
            assumed = founded;
        }
    }

    /// Members of the asset's redundancy group that serve, itself included, and how many must.
    #[must_use]
    pub fn group_of(&self, asset: &str) -> Option<(Vec<&'a str>, usize)> {
        let name = &self.twin.assets.get(asset)?.redundancy.as_ref()?.group;
        let group = self.groups.get(name.as_str())?;
        let serving = group
            .members
            .iter()
            .filter(|m| self.twin.assets.get(**m).is_some_and(serves))
            .copied()
            .collect();
        Some((serving, group.needed))
    }

    /// Who is carried by an asset: its dependents, and those of its group, since the group carries them together.
    fn carried_by(&self, asset: &str) -> BTreeSet<&'a str> {
        let mut all: BTreeSet<&str> = self.direct_dependents(asset).collect();
        let group = self
            .twin
            .assets
            .get(asset)
            .and_then(|a| self.groups.get(a.redundancy.as_ref()?.group.as_str()));
        for member in group.into_iter().flat_map(|g| &g.members) {
            all.extend(self.direct_dependents(member));
        }
        all
    }

    fn serving(&self, stopped: &BTreeSet<&str>) -> BTreeSet<&'a str> {
        self.twin
            .assets
            .values()
            .filter(|a| serves(a) && !stopped.contains(a.id.as_str()))
            .map(|a| a.id.as_str())
            .collect()
    }

    /// The smallest set in which plain needs are met by `assumed` and alternatives by the set itself.
    fn founded(
        &self,
        serving: &BTreeSet<&'a str>,
        assumed: &BTreeSet<&'a str>,
    ) -> BTreeSet<&'a str> {
        let mut founded: BTreeSet<&str> = BTreeSet::new();
        loop {
            let more: Vec<&str> = serving
                .difference(&founded)
                .filter(|id| self.needs_met(id, assumed, &founded))
                .copied()
                .collect();
            if more.is_empty() {
                return founded;
            }
            founded.extend(more);
        }
    }

    fn needs_met(&self, id: &str, assumed: &BTreeSet<&str>, founded: &BTreeSet<&str>) -> bool {
        let Some(asset) = self.twin.assets.get(id) else {
            return false;
        };
        let mut alternatives: BTreeMap<&str, bool> = BTreeMap::new();
        for need in &asset.depends_on {
            match &need.any_of {
                None if !self.carries(&need.asset, assumed) => return false,
                None => {}
                Some(group) => {
                    *alternatives.entry(group).or_default() |= self.carries(&need.asset, founded);
                }
            }
        }
        alternatives.values().all(|met| *met)
    }

    /// Whether an asset, or its group in its place, carries those who need it.
    fn carries(&self, asset: &str, working: &BTreeSet<&str>) -> bool {
        let group = self
            .twin
            .assets
            .get(asset)
            .and_then(|a| self.groups.get(a.redundancy.as_ref()?.group.as_str()));
        match group {
            Some(group) => {
                group
                    .members
                    .iter()
                    .filter(|m| working.contains(**m))
                    .count()
                    >= group.needed
            }
            None => working.contains(asset),
        }
    }
}

/// Whether an asset serves, by itself or by a stand-in.
fn serves(asset: &Asset) -> bool {
    matches!(asset.state, AssetState::InService | AssetState::StoodIn)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Dependency, Redundancy};

    /// A twin out of lines such as `srv: fan1 a=fan2 a=fan3` and `fan1 @pair/1`.
    pub(crate) fn twin(lines: &[&str]) -> Twin {
        let mut twin = Twin::default();
        for line in lines {
            let (head, needs) = line.split_once(':').unwrap_or((line, ""));
            let mut words = head.split_whitespace();
            let id = words.next().unwrap().to_owned();
            let redundancy = words.next().map(|w| {
                let (group, needed) = w.trim_start_matches('@').split_once('/').unwrap();
                Redundancy {
                    group: group.into(),
                    needed: needed.parse().unwrap(),
                }
            });
            let depends_on = needs
                .split_whitespace()
                .map(|need| match need.split_once('=') {
                    Some((group, asset)) => Dependency {
                        asset: asset.into(),
                        any_of: Some(group.into()),
                    },
                    None => Dependency {
                        asset: need.into(),
                        any_of: None,
                    },
                })
                .collect();
            twin.assets
                .insert(id.clone(), asset(&id, depends_on, redundancy));
        }
        twin
    }

    pub(crate) fn asset(
        id: &str,
        depends_on: Vec<Dependency>,
        redundancy: Option<Redundancy>,
    ) -> Asset {
        Asset {
            id: id.into(),
            kind: id.split('-').next().unwrap_or(id).into(),
            name: id.into(),
            locality: "rack-01".into(),
            row: 0,
            col: 0,
            u: None,
            depends_on,
            redundancy,
            state: AssetState::InService,
            part: None,
            failure_mode: None,
            vibration_metric: None,
            outage_cost_per_hour: 100.0,
            attributes: BTreeMap::new(),
        }
    }

    fn critical(lines: &[&str], asset: &str) -> Vec<String> {
        let twin = twin(lines);
        let graph = Graph::new(&twin);
        let all = graph.critical_dependents(asset);
        all.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn who_stops_with_it() {
        let cases: [(&str, &[&str], &[&str]); 7] = [
            ("a plain need", &["fan", "srv: fan"], &["srv"]),
            ("a chain", &["fan", "srv: fan", "app: srv"], &["app", "srv"]),
            ("alternatives", &["fan", "fan2", "srv: a=fan a=fan2"], &[]),
            (
                "alternatives that lean on the same thing",
                &["fan", "x: fan", "y: fan", "srv: a=x a=y"],
                &["srv", "x", "y"],
            ),
            (
                "two of three suffice",
                &["fan @g/2", "fan2 @g/2", "fan3 @g/2", "srv: fan"],
                &[],
            ),
            (
                "three of three are needed, so all who lean on the group stop",
                &["fan @g/3", "fan2 @g/3", "fan3 @g/3", "srv: fan2"],
                &["srv"],
            ),
            ("nobody", &["fan", "srv"], &[]),
        ];
        for (name, lines, expected) in cases {
            assert_eq!(critical(lines, "fan"), expected, "{name}");
        }
    }

    #[test]
    fn circles_neither_hang_nor_hold_themselves_up() {
        // Two servers that need each other work together, and stop together.
        let pair = ["fan", "a: b", "b: a fan"];
        assert_eq!(critical(&pair, "fan"), ["a", "b"]);
        // Two that fail over to each other are still both fed by the one tray.
        let failover = ["fan", "a: g=b g=fan", "b: g=a g=fan"];
        assert_eq!(critical(&failover, "fan"), ["a", "b"]);
        let twin = twin(&["a: a"]);
        assert!(Graph::new(&twin).dependents("a").is_empty());
    }

    #[test]
    fn what_does_not_serve_already_does_not_count_as_redundancy() {
        let mut twin = twin(&["fan @g/1", "fan2 @g/1", "srv: fan"]);
        assert!(Graph::new(&twin).critical_dependents("fan").is_empty());
        twin.assets.get_mut("fan2").unwrap().state = AssetState::Standby;
        let graph = Graph::new(&twin);
        assert_eq!(graph.critical_dependents("fan"), BTreeSet::from(["srv"]));
        assert_eq!(graph.group_of("fan"), Some((vec!["fan"], 1)));
    }

    #[test]
    fn a_need_that_does_not_exist_is_never_met() {
        let twin = twin(&["fan", "srv: ghost"]);
        let working = Graph::new(&twin).working(&BTreeSet::new());
        assert_eq!(working, BTreeSet::from(["fan"]));
    }

    proptest! {
        /// With alternatives only, what an asset dominates is what every path from a source passes through.
        #[test]
        fn criticality_is_domination(edges in proptest::collection::vec((0_usize..8, 0_usize..8), 0..20)) {
            let mut twin = twin(&["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"]);
            for (from, to) in &edges {
                let need = Dependency { asset: format!("n{from}"), any_of: Some("any".into()) };
                twin.assets.get_mut(&format!("n{to}")).unwrap().depends_on.push(need);
            }
            let sources: Vec<usize> = (0..8).filter(|n| edges.iter().all(|e| e.1 != *n)).collect();
            let reach = |without: Option<usize>| {
                let mut seen: BTreeSet<usize> = sources.iter().copied().filter(|s| Some(*s) != without).collect();
                loop {
                    let next: Vec<usize> = edges.iter()
                        .filter(|(f, t)| seen.contains(f) && !seen.contains(t) && Some(*t) != without)
                        .map(|e| e.1).collect();
                    if next.is_empty() { return seen; }
                    seen.extend(next);
                }
            };
            let graph = Graph::new(&twin);
            for node in 0..8 {
                let lost: BTreeSet<String> = reach(None).difference(&reach(Some(node)))
                    .filter(|n| **n != node).map(|n| format!("n{n}")).collect();
                let found: BTreeSet<String> = graph.critical_dependents(&format!("n{node}"))
                    .into_iter().map(str::to_owned).collect();
                prop_assert_eq!(found, lost);
            }
        }
    }
}
