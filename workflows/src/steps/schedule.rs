//! `schedule`: proposes the window that hurts least and writes the work order for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Outcome, Step, StepError};
use crate::host::{Answer, Host, SlotRequest};
use crate::model::{
    Asset, AssetState, NewWindow, NewWorkOrder, Part, PluginUse, Technician, Timestamp, Twin,
};
use crate::schedule::{
    Busy, Candidate, Costs, Group, HORIZON_MS, ImpactProfile, Proposal, Request, RiskCurve, Span,
    choice, chosen, hour_of_week, propose,
};
use crate::twin::{Graph, Impact, impact_of};

const HOUR_MS: i64 = 3_600_000;
const WEEK_HOURS: usize = 168;
/// Milliseconds planned for each second of the estimate: prints take longer, a tenth covers heating and pauses.
const PRINT_ALLOWANCE_MS: i64 = 1100;
/// Scanning and inspecting the part before it may go in.
const VERIFY_MS: i64 = 30 * 60_000;
/// How long the work takes where neither the script nor the part says.
const DEFAULT_MINUTES: u32 = 60;

/// Proposes a maintenance window.
pub struct Schedule;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct ScheduleInput {
    /// The asset that has to go offline.
    pub asset: String,
    /// The moment planned from.
    pub at: Timestamp,
    /// Estimated time to print the part; 0 where nothing is made.
    #[serde(default)]
    pub print_seconds: f64,
    /// The part is not ready before this moment, whatever the estimate says.
    #[serde(default)]
    pub ready_after: Option<Timestamp>,
    /// The work must be done by then.
    #[serde(default)]
    pub latest: Option<Timestamp>,
    /// How long the asset is offline; the part says where this does not.
    #[serde(default)]
    pub minutes: Option<u32>,
    /// An item in stock that can go in if the new part cannot.
    #[serde(default)]
    pub replacement_item: Option<String>,
    /// Its failure prediction score by horizon.
    #[serde(default)]
    pub fps: BTreeMap<String, f64>,
    /// Its remaining life.
    #[serde(default)]
    pub remaining_life_hours: Option<LifeQuantiles>,
}

/// Quantiles of the remaining life, hours.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct LifeQuantiles {
    /// 5 of 100 do not outlast it.
    pub p05: f64,
    /// 50 of 100 do not outlast it.
    pub p50: f64,
    /// 95 of 100 do not outlast it.
    pub p95: f64,
}

/// What scripts get back. Without a window nobody can come; the alternatives say what would make one possible.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScheduleOutput {
    /// The window proposed.
    pub window: Option<String>,
    /// First moment of it.
    pub from: Option<Timestamp>,
    /// First moment after it.
    pub to: Option<Timestamp>,
    /// Who does the work.
    pub technician: Option<String>,
    /// What it costs, term by term, and why.
    pub reasons: Value,
    /// Other windows, or what would make one possible; cheapest first.
    pub alternatives: Vec<Candidate>,
    /// The work order.
    pub work_order: Option<String>,
    /// When the part is expected to be made and verified.
    pub ready_at: Timestamp,
    /// Digest of the proposal: what was asked, what was found, what was rejected; no names of this run in it.
    pub digest: String,
    /// The plugin that chose the window, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginUse>,
}

impl Step for Schedule {
    const KIND: &'static str = "schedule";
    type Input = ScheduleInput;
    type Output = ScheduleOutput;

    fn run(
        &self,
        input: ScheduleInput,
        host: &dyn Host,
    ) -> Result<Outcome<ScheduleOutput>, StepError> {
        let asset = host.asset(&input.asset)?;
        let part = asset.part.as_ref().map(|id| host.part(id)).transpose()?;
        let request = request(&input, &asset, part.as_ref(), host)?;
        let unplannable = |e| StepError::failed("cannot_schedule", e);
        let mut proposal = propose(&request).map_err(unplannable)?;
        let plugin = match &proposal.best {
            Some(own) => {
                let ask = SlotRequest {
                    asset: &asset,
                    skills: &request.skills,
                    technicians: &request.technicians,
                    cost_per_hour_late: request.outage_cost_per_hour,
                    choice: choice(&request).map_err(unplannable)?,
                    own,
                    at: input.at,
                };
                let price =
                    |from, who: &str| chosen(&request, from, who).map_err(|e| e.to_string());
                host.plugin_slot(&ask, &price)?
            }
            // Where nobody can come there is nothing to choose from.
            None => None,
        };
        let plugin = plugin.map(|(chosen, plugin)| {
            prefer(&mut proposal, chosen, &plugin);
            plugin
        });
        let mut output = ScheduleOutput {
            window: None,
            from: None,
            to: None,
            technician: None,
            reasons: reasons(&proposal),
            alternatives: proposal.alternatives.clone(),
            work_order: None,
            ready_at: request.ready_at,
            digest: digest(&request, &proposal)?,
            plugin,
        };
        let Some(best) = &proposal.best else {
            return Ok(Outcome::Done(output));
        };
        let window = host.store_window(&new_window(&asset, best, &output))?;
        let order = work_order(&asset, part.as_ref(), best, &window.id, &input);
        output.work_order = Some(host.store_work_order(&order)?.id);
        output.window = Some(window.id);
        output.from = Some(best.from);
        output.to = Some(best.to);
        output.technician.clone_from(&best.technician);
        Ok(Outcome::Done(output))
    }
}

/// Puts the window that a plugin chose first; the planner's own is the next best.
fn prefer(proposal: &mut Proposal, mut chosen: Candidate, plugin: &PluginUse) {
    let (name, version) = (&plugin.name, &plugin.version);
    chosen
        .reasons
        .push(format!("chosen by the plugin `{name}` {version}"));
    let same = |one: &Candidate| one.from == chosen.from && one.technician == chosen.technician;
    if let Some(own) = proposal.best.take().filter(|own| !same(own)) {
        proposal.alternatives.insert(0, own);
    }
    proposal.best = Some(chosen);
}

/// Gathers everything the planner weighs.
fn request(
    input: &ScheduleInput,
    asset: &Asset,
    part: Option<&Part>,
    host: &dyn Host,
) -> Answer<Request> {
    let twin = host.twin()?;
    let graph = Graph::new(&twin);
    let impact = impact_of(&twin, &graph, &asset.id);
    let technicians = host.technicians()?;
    let ready_at = ready_at(input)?;
    let minutes = input
        .minutes
        .or_else(|| part.map(|p| p.swap_minutes).filter(|m| *m > 0))
        .unwrap_or(DEFAULT_MINUTES);
    let life = input.remaining_life_hours.map(|l| [l.p05, l.p50, l.p95]);
    Ok(Request {
        asset: asset.id.clone(),
        at: input.at,
        ready_at,
        latest: input.latest,
        duration_ms: i64::from(minutes) * 60_000,
        risk: RiskCurve::new(&input.fps, life),
        outage_cost_per_hour: impact.cost_per_hour,
        impact: profile(
            &twin,
            &impact,
            site_zone(asset, &technicians),
            input.at,
            host,
        )?,
        skills: part.map(|p| p.skills.clone()).unwrap_or_default(),
        busy: busy(input.at, ready_at, host)?,
        group: group(&graph, asset),
        freezes: freezes(asset)?,
        costs: Costs::default(),
        technicians,
    })
}

fn ready_at(input: &ScheduleInput) -> Answer<Timestamp> {
    let seconds = input.print_seconds;
    if !(0.0..=90.0 * 86_400.0).contains(&seconds) {
        return Err(StepError::failed(
            "invalid_input",
            format_args!("field `print_seconds` is {seconds}, it must lie between 0 and 90 days"),
        ));
    }
    let lead_ms = if seconds > 0.0 {
        seconds.ceil() as i64 * PRINT_ALLOWANCE_MS + VERIFY_MS
    } else {
        0
    };
    let made = input.at.plus_ms(lead_ms);
    Ok(input.ready_after.map_or(made, |t| t.max(made)))
}

/// Windows of others. This step's own, from an earlier attempt, does not stand in its way.
fn busy(at: Timestamp, ready_at: Timestamp, host: &dyn Host) -> Answer<Vec<Busy>> {
    let until = ready_at.max(at).plus_ms(HORIZON_MS);
    let windows = host.windows(at, until)?;
    let mut busy: Vec<Busy> = windows
        .into_iter()
        .filter(|w| w.run != host.run() || w.position != host.position())
        .map(|w| Busy {
            asset: w.proposal.asset,
            technician: w.proposal.technician,
            span: Span {
                from: w.proposal.from,
                to: w.proposal.to,
            },
        })
        .collect();
    busy.sort_by(|a, b| (a.span, &a.asset).cmp(&(b.span, &b.asset)));
    Ok(busy)
}

fn group(graph: &Graph, asset: &Asset) -> Option<Group> {
    let (members, needed) = graph.group_of(&asset.id)?;
    let others = members.into_iter().filter(|m| *m != asset.id);
    Some(Group {
        name: asset.redundancy.as_ref()?.group.clone(),
        needed: u32::try_from(needed).unwrap_or(u32::MAX),
        serving: others.map(str::to_owned).collect(),
        stood_in: asset.state == AssetState::StoodIn,
    })
}

/// Spans in which the asset must not be touched, as its attribute `freezes` says.
fn freezes(asset: &Asset) -> Answer<Vec<Span>> {
    let Some(value) = asset.attributes.get("freezes") else {
        return Ok(Vec::new());
    };
    serde_json::from_value(value.clone()).map_err(|e| {
        StepError::failed(
            "bad_attribute",
            format_args!("attribute `freezes` of asset `{}`: {e}", asset.id),
        )
    })
}

/// The asset's own zone, else that of the first technician by id, else UTC.
fn site_zone(asset: &Asset, technicians: &[Technician]) -> String {
    let own = asset.attributes.get("time_zone").and_then(Value::as_str);
    let first = || technicians.iter().min_by_key(|t| &t.id);
    own.map(str::to_owned)
        .or_else(|| first().map(|t| t.time_zone.clone()))
        .unwrap_or_else(|| "UTC".to_owned())
}

/// How much everybody affected was used in each hour of the past week, and what an hour offline costs then.
fn profile(
    twin: &Twin,
    impact: &Impact,
    time_zone: String,
    at: Timestamp,
    host: &dyn Host,
) -> Answer<ImpactProfile> {
    let zone = jiff::tz::TimeZone::get(&time_zone).map_err(|_| {
        StepError::failed(
            "unknown_time_zone",
            format_args!("time zone `{time_zone}` is unknown; use an IANA name"),
        )
    })?;
    let until = Timestamp(at.0.div_euclid(HOUR_MS) * HOUR_MS);
    let from = until.plus_ms(-(WEEK_HOURS as i64) * HOUR_MS);
    let mut per_hour = vec![0.0; WEEK_HOURS];
    let mut known = vec![(0.0, 0.0); WEEK_HOURS];
    for (id, share) in impact.weights() {
        let cost = twin.assets.get(id).map_or(0.0, |a| a.outage_cost_per_hour) * share;
        let hours = host.utilisation(id, from, until, HOUR_MS)?;
        let week = by_hour_of_week(&hours, from, &zone);
        let all: Vec<f64> = week.iter().flatten().copied().collect();
        // An hour nobody measured is as busy as the others; if none was measured, it is full.
        let usual = match all.len() {
            0 => 1.0,
            n => all.iter().sum::<f64>() / n as f64,
        };
        for (hour, used) in week.iter().enumerate() {
            per_hour[hour] += cost * used.unwrap_or(usual);
            if let Some(used) = used {
                known[hour].0 += cost * used;
                known[hour].1 += cost;
            }
        }
    }
    Ok(ImpactProfile {
        time_zone,
        per_hour,
        utilisation: known
            .into_iter()
            .map(|(sum, weight)| (weight > 0.0).then(|| sum / weight))
            .collect(),
        dependents: impact.stopped.clone(),
    })
}

/// Means by local hour of the week; an hour that clocks skip or repeat is simply missing or a mean of two.
fn by_hour_of_week(
    hours: &[Option<f64>],
    from: Timestamp,
    zone: &jiff::tz::TimeZone,
) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0_u32); WEEK_HOURS];
    for (time, used) in (from.0..).step_by(HOUR_MS as usize).zip(hours) {
        if let Some(used) = used {
            let slot = &mut sums[hour_of_week(Timestamp(time), zone)];
            *slot = (slot.0 + used, slot.1 + 1);
        }
    }
    sums.into_iter()
        .map(|(sum, n)| (n > 0).then(|| sum / f64::from(n)))
        .collect()
}

fn reasons(proposal: &Proposal) -> Value {
    json!({
        "cost": proposal.best.as_ref().map(|b| b.cost),
        "failure_before": proposal.best.as_ref().map(|b| b.failure_before),
        "overtime_minutes": proposal.best.as_ref().map(|b| b.overtime_minutes),
        "why": proposal.best.as_ref().map(|b| &b.reasons),
        "rejected": proposal.rejected,
    })
}

fn digest(request: &Request, proposal: &Proposal) -> Answer<String> {
    let told = json!({
        "asset": request.asset,
        "at": request.at,
        "ready_at": request.ready_at,
        "risk": request.risk,
        "proposal": proposal,
    });
    let bytes = serde_json::to_vec(&told).map_err(|e| StepError::failed("invalid_output", e))?;
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Ok(format!("sha256:{hex}"))
}

fn new_window(asset: &Asset, best: &Candidate, output: &ScheduleOutput) -> NewWindow {
    NewWindow {
        asset: asset.id.clone(),
        from: best.from,
        to: best.to,
        technician: best.technician.clone(),
        reasons: output.reasons.clone(),
        alternatives: output.alternatives.iter().map(|a| json!(a)).collect(),
    }
}

fn work_order(
    asset: &Asset,
    part: Option<&Part>,
    best: &Candidate,
    window: &str,
    input: &ScheduleInput,
) -> NewWorkOrder {
    let place = asset
        .u
        .map_or_else(String::new, |u| format!(", height unit {u}"));
    let mut procedure = vec![format!(
        "Go to {} in `{}`{place}.",
        asset.name, asset.locality
    )];
    procedure.extend(part.iter().flat_map(|p| p.procedure.iter().cloned()));
    let mut bring: Vec<String> = part
        .iter()
        .map(|p| format!("{} (new, verified)", p.name))
        .collect();
    bring.push(format!("label of `{}`", asset.id));
    if let Some(item) = &input.replacement_item {
        bring.push(format!("`{item}` from stock"));
        procedure.push(format!(
            "If the new part does not fit, put `{item}` in and say so."
        ));
    }
    let week = input.fps.get("7d").map_or_else(
        || "no score".to_owned(),
        |p| format!("probability {:.1} %", p * 100.0),
    );
    NewWorkOrder {
        asset: asset.id.clone(),
        window: window.to_owned(),
        technician: best.technician.clone(),
        bring,
        procedure,
        reason: format!(
            "`{}` is expected to fail within 7 days with {week}{}",
            asset.id,
            asset
                .failure_mode
                .as_ref()
                .map_or_else(String::new, |m| format!(", by {m}"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, done, failed};
    use super::*;

    fn input(world: &World) -> Value {
        json!({
            "asset": "fan-r01-01", "at": world.at, "print_seconds": 5400,
            "fps": { "1d": 0.02, "7d": 0.15, "30d": 0.5 },
            "remaining_life_hours": { "p05": 60.0, "p50": 400.0, "p95": 900.0 },
        })
    }

    #[test]
    fn the_window_lies_in_a_quiet_hour_after_the_part_is_ready() {
        let world = World::new();
        let found = done(&Schedule, &input(&world), &world);
        // 08:07 and 99 minutes of printing and half an hour of verifying.
        assert_eq!(found["ready_at"], "2026-03-02T10:16:00.000Z");
        assert_eq!(found["technician"], "lena");
        let from: Timestamp = found["from"].as_str().unwrap().parse().unwrap();
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        assert!((1..5).contains(&(hour_of_week(from, &zone) % 24)), "{from}");
        assert_eq!(found["alternatives"].as_array().map(Vec::len), Some(3));
        assert!(found["digest"].as_str().unwrap().starts_with("sha256:"));
        let order = &world.orders.borrow()[0].order;
        assert!(order.procedure.len() > 10);
        assert!(order.bring.iter().all(|item| !item.contains("from stock")));
        assert!(order.reason.contains("15.0 %"));
    }

    #[test]
    fn a_replacement_item_goes_onto_the_work_order() {
        let world = World::new();
        let mut with_item = input(&world);
        with_item["replacement_item"] = json!("fan-spare-1");
        done(&Schedule, &with_item, &world);
        let order = &world.orders.borrow()[0].order;
        assert!(order.bring.contains(&"`fan-spare-1` from stock".to_owned()));
        assert!(order.procedure.last().unwrap().contains("fan-spare-1"));
    }

    #[test]
    fn asking_again_gives_the_same_window_and_another_run_a_free_one() {
        let world = World::new();
        let first = done(&Schedule, &input(&world), &world);
        assert_eq!(done(&Schedule, &input(&world), &world), first);
        assert_eq!(
            (world.windows.borrow().len(), world.orders.borrow().len()),
            (1, 1)
        );
        world.next_position();
        let mut other = input(&world);
        other["asset"] = json!("fan-r01-02");
        let second = done(&Schedule, &other, &world);
        assert_ne!(second["from"], first["from"]);
    }

    #[test]
    fn a_riskier_asset_is_repaired_sooner() {
        let world = World::new();
        let calm = done(&Schedule, &input(&world), &world);
        world.next_position();
        let mut steep = input(&world);
        steep["fps"] = json!({ "1d": 0.9, "7d": 0.99, "30d": 0.999 });
        steep["remaining_life_hours"] = json!({ "p05": 2.0, "p50": 8.0, "p95": 30.0 });
        let soon = done(&Schedule, &steep, &world);
        assert!(soon["from"].as_str() < calm["from"].as_str());
        assert_ne!(soon["digest"], calm["digest"]);
    }

    #[test]
    fn without_anybody_there_is_no_window_but_a_way_to_one() {
        let mut world = World::new();
        world.technicians.clear();
        let found = done(&Schedule, &input(&world), &world);
        assert_eq!(
            (&found["window"], &found["work_order"]),
            (&Value::Null, &Value::Null)
        );
        assert!(
            found["alternatives"][0]["needs"][0]
                .as_str()
                .unwrap()
                .contains("fan_tray")
        );
        assert!(world.windows.borrow().is_empty());
    }

    #[test]
    fn nonsense_is_named() {
        let world = World::new();
        let mut odd = input(&world);
        odd["print_seconds"] = json!(-1);
        assert_eq!(failed(&Schedule, &odd, &world).code(), "invalid_input");
        odd["asset"] = json!("fan-r99-01");
        assert_eq!(failed(&Schedule, &odd, &world).code(), "unknown_asset");
    }
}
