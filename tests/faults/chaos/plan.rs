//! What is done to the processes: drawn from a seed before it begins, so that a seed has the same fate again.

use std::time::Duration;

use tests::Seeded;

use super::hall::{Hall, LEASE_MS, Role, now};

/// How much of each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quota {
    /// `kill -9` of workers, servers and cells.
    pub(crate) kills: u64,
    /// Processes stopped for longer than a lease, which then go on.
    pub(crate) zombies: u64,
    /// Immediate stops of Postgres.
    pub(crate) restarts: u64,
    /// Connections ended by Postgres.
    pub(crate) terminations: u64,
    /// Steps at least.
    pub(crate) steps: u64,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill(Role),
    Zombie(Role),
    Restart,
    Terminate,
}

/// Does it all, with pauses; wakes every zombie before it ends.
pub(super) async fn torment(hall: &mut Hall, quota: Quota, seed: u64) {
    let mut chance = Seeded::new(seed);
    let mut asleep: Vec<(usize, i64)> = Vec::new();
    let roles: &[Role] = match hall.cluster {
        Some(_) => &[
            Role::Worker,
            Role::Worker,
            Role::Worker,
            Role::Cell,
            Role::Server,
        ],
        None => &[Role::Server, Role::Cell],
    };
    for act in acts(quota, roles, &mut chance) {
        let pause = chance.between(30, 400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        wake(hall, &mut asleep, now());
        hall.look_after();
        match act {
            Act::Kill(role) => {
                if hall.awake(role).is_empty() {
                    wake_all(hall, &mut asleep).await;
                }
                let victims = hall.awake(role);
                let victim = *chance.one_of(&victims);
                let outage = now();
                let killed = hall.all[victim].kill().await;
                hall.killed.push(killed);
                if hall.cluster.is_none() && role == Role::Server {
                    hall.all_answer().await;
                    hall.outages.0.push((outage, now()));
                }
            }
            Act::Zombie(role) => {
                // Somebody has to be awake to see that the others are not.
                let needed = 1 + usize::from(hall.cluster.is_some());
                if hall.awake(role).len() < needed {
                    wake_all(hall, &mut asleep).await;
                }
                let victims = hall.awake(role);
                let victim = *chance.one_of(&victims);
                let until = now() + LEASE_MS + LEASE_MS / 2;
                hall.all[victim].signal(true);
                asleep.push((victim, until));
                if hall.cluster.is_none() && role == Role::Server {
                    hall.outages.0.push((now(), until + 1_000));
                }
            }
            Act::Restart => restart(hall, &mut chance).await,
            Act::Terminate => terminate(hall, &mut chance),
        }
    }
    wake_all(hall, &mut asleep).await;
}

fn acts(quota: Quota, roles: &[Role], chance: &mut Seeded) -> Vec<Act> {
    let mut acts = Vec::new();
    for (times, act) in [
        (quota.kills, Act::Kill as fn(Role) -> Act),
        (quota.zombies, Act::Zombie),
        (quota.restarts, |_| Act::Restart),
        (quota.terminations, |_| Act::Terminate),
    ] {
        acts.extend((0..times).map(|_| act(*chance.one_of(roles))));
    }
    chance.shuffle(&mut acts);
    acts
}

/// Waits until the last zombie has slept its time, and wakes them.
async fn wake_all(hall: &mut Hall, asleep: &mut Vec<(usize, i64)>) {
    if let Some(last) = asleep.iter().map(|(_, until)| *until).max() {
        let left = u64::try_from(last - now()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
    wake(hall, asleep, i64::MAX);
}

fn wake(hall: &mut Hall, asleep: &mut Vec<(usize, i64)>, at: i64) {
    asleep.retain(|(who, until)| {
        let due = *until <= at;
        if due {
            hall.all[*who].signal(false);
        }
        !due
    });
}

/// A power cut of the database: whatever it had not synced is gone.
async fn restart(hall: &mut Hall, chance: &mut Seeded) {
    let Some(cluster) = &hall.cluster else { return };
    let begun = now();
    cluster.stop_at_once();
    tokio::time::sleep(Duration::from_millis(chance.between(0, 600))).await;
    cluster.start_again();
    // Whoever was refused a connection meanwhile tries again within a second.
    hall.outages.0.push((begun, now() + 1_000));
}

fn terminate(hall: &Hall, chance: &mut Seeded) {
    let nth = chance.between(0, 40);
    let of = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS n, \
         count(*) OVER () AS of {of}) AS connection WHERE n = {nth} % of"
    );
    if let Err(said) = hall.rows.execute(&sql) {
        eprintln!("no connection was ended: {said}");
    }
}
