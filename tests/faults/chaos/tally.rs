//! What all episodes came to, told to people and written for machines.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::LEASE_MS;
use super::plan::Quota;
use crate::history::forewright::History;
use crate::history::leases::Counts;
use crate::history::recovery::{Recovery, quantile};

/// Sums over episodes.
pub(super) struct Tally {
    database: String,
    first: u64,
    episodes: u64,
    quota: Quota,
    cuts: u64,
    counts: Counts,
    builds: (usize, usize),
    given_up: usize,
    faults: usize,
    recovery: Recovery,
}

impl Tally {
    pub(super) fn new(database: &str, first: u64) -> Self {
        Self {
            database: database.to_owned(),
            first,
            episodes: 0,
            quota: Quota::default(),
            cuts: 0,
            counts: Counts::default(),
            builds: (0, 0),
            given_up: 0,
            faults: 0,
            recovery: Recovery::default(),
        }
    }

    pub(super) fn add(
        &mut self,
        quota: Quota,
        history: &History,
        counts: Counts,
        recovery: Recovery,
        cuts: u64,
        faults: usize,
    ) {
        self.episodes += 1;
        self.quota.kills += quota.kills;
        self.quota.zombies += quota.zombies;
        self.quota.restarts += quota.restarts;
        self.quota.terminations += quota.terminations;
        self.cuts += cuts;
        self.faults += faults;
        self.counts.queued += counts.queued;
        self.counts.claims += counts.claims;
        self.counts.ended += counts.ended;
        let (builds, moved) = history.builds();
        self.builds = (self.builds.0 + builds, self.builds.1 + moved);
        self.given_up += history.given_up();
        self.recovery.add(recovery);
    }

    /// Writes what it came to so far into `chaos.json` of the folder that `FOREWRIGHT_CHAOS_OUT` names, if it does.
    pub(super) fn write(&self) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let Ok(folder) = std::env::var("FOREWRIGHT_CHAOS_OUT") else {
            return;
        };
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let file = PathBuf::from(folder).join("chaos.json");
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let mut all: Value = serde_json::from_str(&written).unwrap_or_else(|_| json!({}));
        all[&self.database] = self.document();
        std::fs::write(&file, format!("{all:#}\n")).expect("the report can be written");
    }

    fn document(&self) -> Value {
        json!({
            "first_seed": self.first, "episodes": self.episodes,
            "kills": self.quota.kills, "zombies": self.quota.zombies,
            "postgres_restarts": self.quota.restarts,
            "backend_terminations": self.quota.terminations, "connections_cut": self.cuts,
            "steps": self.counts.queued, "claims": self.counts.claims, "ended": self.counts.ended,
            "builds": self.builds.0, "machine_motions": self.builds.1,
            "given_up_after_one_attempt": self.given_up, "faults": self.faults,
            "lease_ms": LEASE_MS,
            "overdue_ms": spread(&self.recovery.overdue),
            "kill_to_taken_back_ms": spread(&self.recovery.taken_back),
            "kill_to_next_claim_ms": spread(&self.recovery.claimed_again),
        })
    }

    /// Prints what it came to; no lease may have been taken back later than so long after it ran out.
    pub(super) fn report(&self, late_ms: u64) {
        println!("chaos on {}: {:#}", self.database, self.document());
        let late = i64::try_from(late_ms).expect("small");
        let worst = self.recovery.overdue.iter().copied().max().unwrap_or(0);
        assert!(
            worst <= late,
            "a lease was taken back {worst} ms after it ran out"
        );
        let worst = self.recovery.taken_back.iter().copied().max().unwrap_or(0);
        let most = LEASE_MS + late;
        assert!(
            worst <= most,
            "a killed worker's step was taken back after {worst} ms"
        );
    }
}

fn spread(of: &[i64]) -> Value {
    json!({
        "n": of.len(), "p50": quantile(of, 0.5), "p99": quantile(of, 0.99), "max": quantile(of, 1.0),
    })
}
