//! What workers do: advance runs, execute steps, and the chores of the queue.

mod advance_run;
mod compiled;
mod deliver_outbox;
mod execute_step;
mod expire_leases;
mod expire_uploads;
mod fire_triggers;
mod go_on;
mod long_lane;
mod prune;
mod record_advance;
mod workers;

#[cfg(test)]
mod cancel_tests;

pub use deliver_outbox::{Webhook, deliver_outbox};
#[cfg(test)]
pub use expire_leases::expire_leases;
pub use expire_leases::keep_expiring;
pub use expire_uploads::expire_uploads;
pub use fire_triggers::{FireError, TriggerLimits, fire_triggers, schedule};
pub use prune::{Keeper, Removed, prune, too_old_before};
pub use workers::{WorkerContext, WorkerError, all_queues, run_workers};
#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod failpoint_tests;
#[cfg(test)]
mod kill_switch_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod pile_tests;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod rate_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod waiting_tests;
