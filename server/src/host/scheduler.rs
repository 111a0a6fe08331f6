//! The role `scheduler`: a plugin chooses the window of one piece of work, out of what people and rules leave.

use std::collections::BTreeMap;

use ::plugins::call::{Answer, Request};
use ::plugins::v1::schedule::{Request as Asked, Span, Task, Worker};
use ::plugins::world::World;
use tracing::warn;
use workflows::host::{PriceOf, SlotRequest};
use workflows::model::{PluginUse, Timestamp};
use workflows::schedule::Candidate;

use super::panel::{Panel, is_for};
use crate::plugins::{Member, NoAnswer, Plugins, Question};
use crate::store::StoreError;
use crate::store::plugin_differences::{self, Difference};

/// The name of the one task.
const TASK: &str = "work";
const HOUR_MS: f64 = 3_600_000.0;

/// Everybody who is asked for a window, as they stand at one moment.
pub(super) struct Schedulers(Panel);

impl Schedulers {
    pub(super) async fn now(plugins: &Plugins) -> Result<Self, StoreError> {
        Panel::now(plugins, World::Scheduler).await.map(Self)
    }

    /// The window that the first one chooses who has an answer that breaks no rule. Whoever is only compared is asked too.
    pub(super) async fn choose(
        &self,
        ask: &SlotRequest<'_>,
        price: PriceOf<'_>,
        seed: u32,
    ) -> Result<Option<(Candidate, PluginUse)>, StoreError> {
        let kind = ask.asset.kind.as_str();
        let mut found = None;
        let serving = self.0.serving(kind);
        for member in serving.filter(|member| is_for(member, &ask.asset.id)) {
            found = self.chosen(member, ask, price, seed).await;
            if found.is_some() {
                break;
            }
        }
        for member in self.0.compared(kind) {
            let Some((own, _)) = self.chosen(member, ask, price, seed).await else {
                continue;
            };
            let theirs = found.as_ref().map_or(ask.own, |(candidate, _)| candidate);
            let difference = Difference {
                asset: ask.asset.id.clone(),
                at: ask.at.0,
                other: found
                    .as_ref()
                    .map_or("built in", |(_, by)| &by.digest)
                    .to_owned(),
                own: numbers(&own, ask.at),
                theirs: numbers(theirs, ask.at),
            };
            let db = &self.0.plugins.db().write;
            plugin_differences::put(db, &member.row.id, &difference).await?;
        }
        Ok(found)
    }

    /// What one chooses, if it has an answer that breaks no rule.
    async fn chosen(
        &self,
        member: &Member,
        ask: &SlotRequest<'_>,
        price: PriceOf<'_>,
        seed: u32,
    ) -> Option<(Candidate, PluginUse)> {
        let (plugin, asset) = (&member.row.plugin, &ask.asset.id);
        let (from, who, by) = match self.ask(member, ask, seed).await {
            Ok(slot) => slot?,
            Err(error) => {
                warn!(plugin = %plugin, "{error}");
                return None;
            }
        };
        match price(from, &who) {
            Ok(candidate) => Some((candidate, by)),
            Err(why) => {
                warn!(plugin = %plugin, "the window that `{plugin}` chose for `{asset}` is none: {why}");
                None
            }
        }
    }

    async fn ask(
        &self,
        member: &Member,
        ask: &SlotRequest<'_>,
        seed: u32,
    ) -> Result<Option<(Timestamp, String, PluginUse)>, NoAnswer> {
        let purpose = format!("schedule work on {}", ask.asset.id);
        let question = Question {
            member,
            purpose: &purpose,
            request: Request::Schedule(asked(ask)),
            now_ms: ask.at.0,
            seed,
        };
        let told = self.0.plugins.ask(question).await?;
        let Answer::Schedule(plan) = told.answer else {
            // The host holds answers to the world of their question.
            return Ok(None);
        };
        let slot = plan.slots.into_iter().find(|slot| slot.task == TASK);
        Ok(slot.map(|slot| (Timestamp(slot.start.ceil() as i64), slot.worker, told.by)))
    }
}

fn asked(ask: &SlotRequest<'_>) -> Asked {
    let choice = &ask.choice;
    let worker = |(id, spans): &(String, Vec<workflows::schedule::Span>)| {
        let known = ask.technicians.iter().find(|one| one.id == *id);
        let span = |span: &workflows::schedule::Span| Span {
            start: span.from.0 as f64,
            end: span.to.0 as f64,
        };
        Worker {
            id: id.clone(),
            skills: known.map_or_else(Vec::new, |one| one.skills.clone()),
            calendar: spans.iter().map(span).collect(),
        }
    };
    Asked {
        tasks: vec![Task {
            id: TASK.to_owned(),
            duration: choice.duration_ms as f64,
            skills: ask.skills.to_vec(),
            after: Vec::new(),
            earliest: choice.earliest.0 as f64,
            due: choice.due.0 as f64,
            cost_per_hour_late: ask.cost_per_hour_late,
            occupies: vec![ask.asset.id.clone()],
        }],
        workers: choice.calendars.iter().map(worker).collect(),
        agreed: Vec::new(),
    }
}

fn numbers(candidate: &Candidate, at: Timestamp) -> BTreeMap<String, f64> {
    let hours = candidate.from.since(at) as f64 / HOUR_MS;
    [
        ("cost".to_owned(), candidate.cost.total),
        ("starts_in_hours".to_owned(), hours),
    ]
    .into()
}
