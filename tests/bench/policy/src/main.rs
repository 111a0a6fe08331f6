//! A policy of 20 lines and 10 facts beside the same rule in Rego and in CEL.
//!
//! usage: bench-policy ROUNDS MILLISECONDS
//!        bench-policy profile SECONDS       only the product, for a profiler
//! Prints one JSON object; what it holds is told in ../README.md.

mod engines;
mod facts;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use workflows::policy::Facts;
use workflows::script::on_big_stack;

use engines::{Asked, Cel, Ours, RawRhai, RegoInterpreter, RegoMachine};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match words[..] {
        [rounds, millis] if rounds != "profile" => compare(rounds.parse()?, millis.parse()?)?,
        ["profile", seconds] => profile(seconds.parse()?)?,
        _ => bail!("usage: bench-policy ROUNDS MILLISECONDS | profile SECONDS"),
    };
    println!("{told}");
    Ok(())
}

fn profile(seconds: u64) -> anyhow::Result<Value> {
    let about = facts::drawn();
    let each = Duration::from_secs(seconds);
    let cpu_ns = on_big_stack(|| {
        let mut ours = Ours::compile().ok()?;
        per_decision(each, about.len(), || {
            about.iter().all(|facts| ours.decide(facts).is_ok())
        })
    })?;
    Ok(json!({ "whole_cpu_ns": cpu_ns }))
}

/// All of them in turn, `rounds` times, each measurement for so many milliseconds.
fn compare(rounds: usize, millis: u64) -> anyhow::Result<Value> {
    let about = facts::drawn();
    let reached = agree(&about)?;
    let mut bench = Bench {
        facts: about,
        each: Duration::from_millis(millis),
        told: BTreeMap::new(),
    };
    for _ in 0..rounds {
        bench.one::<Ours>()?;
        bench.one::<RegoMachine>()?;
        bench.one::<Cel>()?;
        bench.one::<RegoInterpreter>()?;
        bench.one::<RawRhai>()?;
        bench.threads::<Ours>()?;
        bench.threads::<RegoMachine>()?;
        bench.threads::<Cel>()?;
    }
    Ok(json!({ "facts": facts::MANY, "decisions": reached, "rounds": rounds, "told": bench.told }))
}

/// Refuses to measure unless all of them decide alike about everything, and every end of the rule is reached.
fn agree(about: &[Facts]) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut ours = Ours::compile()?;
    let mut reached = BTreeMap::<String, usize>::new();
    let mut decided = Vec::new();
    for facts in about {
        let decision = ours.decide(facts)?;
        *reached
            .entry(format!("{}: {}", decision.action(), decision.reason()))
            .or_default() += 1;
        decided.push(decision);
    }
    anyhow::ensure!(reached.len() == 6, "not every end is reached: {reached:?}");
    alike::<RegoMachine>(about, &decided)?;
    alike::<RegoInterpreter>(about, &decided)?;
    alike::<Cel>(about, &decided)?;
    alike::<RawRhai>(about, &decided)?;
    Ok(reached)
}

fn alike<E: Asked>(about: &[Facts], decided: &[workflows::policy::Decision]) -> anyhow::Result<()> {
    let mut engine = E::compile()?;
    for (facts, ours) in about.iter().zip(decided) {
        let theirs = engine.decide(facts)?;
        anyhow::ensure!(
            theirs == *ours,
            "{} decides {theirs:?} where we decide {ours:?}",
            E::NAME
        );
    }
    Ok(())
}

struct Bench {
    facts: Vec<Facts>,
    /// How long each measurement lasts.
    each: Duration,
    /// Of each engine, the figures of each round.
    told: BTreeMap<String, Vec<Value>>,
}

impl Bench {
    /// Processor time of one decision, and of its running alone.
    fn one<E: Asked>(&mut self) -> anyhow::Result<()> {
        let (facts, each) = (&self.facts, self.each);
        let (whole, alone) = on_big_stack(move || {
            let mut engine = E::compile().ok()?;
            let whole = per_decision(each, facts.len(), || {
                facts.iter().all(|facts| engine.decide(facts).is_ok())
            })?;
            // The facts are taken over outside the clock.
            let (mut spent, mut count) = (Duration::ZERO, 0);
            while spent < each / 2 {
                let given: Vec<_> = facts.iter().map(|facts| engine.give(facts)).collect();
                let began = cpu();
                for given in given {
                    engine.run(given).ok()?;
                }
                spent += cpu() - began;
                count += facts.len();
            }
            Some((whole, nanos(spent, count)))
        })?
        .ok_or_else(|| anyhow::anyhow!("{} failed", E::NAME))?;
        let told = json!({ "whole_cpu_ns": whole, "run_cpu_ns": alone });
        self.told.entry(E::NAME.to_owned()).or_default().push(told);
        Ok(())
    }

    /// Decisions a second on one thread and on two, each thread with an engine of its own.
    fn threads<E: Asked>(&mut self) -> anyhow::Result<()> {
        let one = self.rate::<E>(1)?;
        let two = self.rate::<E>(2)?;
        let told = json!({
            "scaling": two.0 / one.0,
            // What two threads cost each other, whatever else the machine does meanwhile.
            "scaling_cpu": 2.0 * one.1 / two.1,
        });
        self.told
            .entry(format!("{}_threads", E::NAME))
            .or_default()
            .push(told);
        Ok(())
    }

    /// Decisions a second by the clock, and processor time of each, nanoseconds.
    fn rate<E: Asked>(&self, threads: usize) -> anyhow::Result<(f64, f64)> {
        let start = Barrier::new(threads);
        let (facts, each) = (&self.facts, self.each);
        let told: Vec<Option<(f64, f64)>> = std::thread::scope(|scope| {
            let work = || {
                on_big_stack(|| {
                    let mut engine = E::compile().ok()?;
                    let mut all = || facts.iter().all(|facts| engine.decide(facts).is_ok());
                    all().then_some(())?;
                    start.wait();
                    let (clock, used, mut count) = (Instant::now(), cpu(), 0);
                    while clock.elapsed() < each {
                        all().then_some(())?;
                        count += facts.len();
                    }
                    Some((
                        count as f64 / clock.elapsed().as_secs_f64(),
                        nanos(cpu() - used, count),
                    ))
                })
                .ok()?
            };
            let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            spawned.into_iter().map(|one| one.join().ok()?).collect()
        });
        let told: Option<Vec<_>> = told.into_iter().collect();
        let told = told.ok_or_else(|| anyhow::anyhow!("{} failed", E::NAME))?;
        let rate = told.iter().map(|(rate, _)| rate).sum();
        let cpu_ns = told.iter().map(|(_, ns)| ns).sum::<f64>() / threads as f64;
        Ok((rate, cpu_ns))
    }
}

/// Processor time of one of the decisions a turn makes, nanoseconds; nothing where one failed.
fn per_decision(each: Duration, in_a_turn: usize, mut turn: impl FnMut() -> bool) -> Option<f64> {
    turn().then_some(())?;
    let (began, mut count) = (cpu(), 0);
    while cpu() - began < each {
        turn().then_some(())?;
        count += in_a_turn;
    }
    Some(nanos(cpu() - began, count))
}

fn nanos(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e9 / count as f64
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
