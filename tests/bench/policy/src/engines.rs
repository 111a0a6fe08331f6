//! The same rule asked through each library: from the facts, as the product has them, to a decision.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use cel::common::types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelString};
use cel::common::value::Val;
use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use workflows::model::AssetState;
use workflows::policy::{Decider, Decision, Facts};
use workflows::script::{Limits, Script};

const RHAI: &str = include_str!("rule.rhai");
const REGO: &str = include_str!("rule.rego");
const CEL: &str = include_str!("rule.cel");
const REGO_ENTRY: &str = "data.fleet.decision";

/// A rule, compiled.
pub(crate) trait Asked: Sized {
    /// What the figures call it.
    const NAME: &'static str;
    /// The facts in the library's own values.
    type Given<'a>;

    /// Everything that is done once.
    fn compile() -> anyhow::Result<Self>;

    /// Takes the facts over.
    fn give<'a>(&self, facts: &'a Facts) -> Self::Given<'a>;

    /// Runs the rule, whose answer is not looked at.
    fn run(&mut self, given: Self::Given<'_>) -> anyhow::Result<()>;

    /// All of it.
    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision>;
}

/// The product: [`Decider`], with every limit and the check of what was answered.
pub(crate) struct Ours(Decider);

/// Rhai without any of it, with facts as it likes them.
pub(crate) struct RawRhai {
    engine: rhai::Engine,
    ast: rhai::AST,
}

/// Rego compiled to the register machine of regorus.
pub(crate) struct RegoMachine(RegoVM);

/// Rego in the interpreter of regorus.
pub(crate) struct RegoInterpreter(regorus::CompiledPolicy);

/// CEL, each fact a variable, text borrowed.
pub(crate) struct Cel {
    program: cel::Program,
    env: Arc<cel::Env>,
}

impl Asked for Ours {
    const NAME: &'static str = "forewright";
    type Given<'a> = &'a Facts;

    fn compile() -> anyhow::Result<Self> {
        let script = Script::compile("rule", RHAI)?;
        Ok(Self(Decider::new(&script, &Limits::decision())))
    }

    fn give<'a>(&self, facts: &'a Facts) -> &'a Facts {
        facts
    }

    fn run(&mut self, given: &Facts) -> anyhow::Result<()> {
        std::hint::black_box(self.0.decide(given)?);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision> {
        Ok(self.0.decide(facts)?.decision)
    }
}

impl Asked for RawRhai {
    const NAME: &'static str = "rhai";
    type Given<'a> = rhai::Map;

    fn compile() -> anyhow::Result<Self> {
        let engine = rhai::Engine::new();
        let ast = engine.compile(RHAI)?;
        Ok(Self { engine, ast })
    }

    fn give(&self, facts: &Facts) -> rhai::Map {
        let fps = facts.fps.iter();
        let fps: rhai::Map = fps.map(|(h, p)| (h.as_str().into(), (*p).into())).collect();
        let fields: [(&str, rhai::Dynamic); 10] = [
            ("anomaly", facts.anomaly.map_or(().into(), Into::into)),
            ("cooling_down", facts.cooling_down.into()),
            (
                "critical_dependents",
                i64::from(facts.critical_dependents).into(),
            ),
            ("fps", fps.into()),
            ("outage_cost_per_hour", facts.outage_cost_per_hour.into()),
            ("part", facts.part.as_deref().map_or(().into(), Into::into)),
            (
                "spare_capacity",
                facts.spare_capacity.map_or(().into(), Into::into),
            ),
            ("stand_in_possible", facts.stand_in_possible.into()),
            ("state", state(facts).into()),
            (
                "utilisation",
                facts.utilisation.map_or(().into(), Into::into),
            ),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    }

    fn run(&mut self, given: rhai::Map) -> anyhow::Result<()> {
        std::hint::black_box(self.answer(given)?);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision> {
        let answer = self.answer(self.give(facts))?;
        let text = |field: &str| answer.get(field).and_then(|v| v.clone().into_string().ok());
        decision(text)
    }
}

impl RawRhai {
    fn answer(&self, given: rhai::Map) -> anyhow::Result<rhai::Map> {
        let mut scope = rhai::Scope::new();
        let answer = self
            .engine
            .call_fn(&mut scope, &self.ast, "decide", (given,));
        answer.map_err(|error| anyhow!("{error}"))
    }
}

impl Asked for RegoMachine {
    const NAME: &'static str = "regorus_rvm";
    type Given<'a> = regorus::Value;

    fn compile() -> anyhow::Result<Self> {
        let policy = rego()?;
        let program = Compiler::compile_from_policy(&policy, &[REGO_ENTRY])?;
        let mut machine = RegoVM::new_with_policy(policy);
        machine.load_program(program);
        machine.set_data(regorus::Value::new_object())?;
        Ok(Self(machine))
    }

    fn give(&self, facts: &Facts) -> regorus::Value {
        rego_input(facts)
    }

    fn run(&mut self, given: regorus::Value) -> anyhow::Result<()> {
        self.0.set_input(given);
        std::hint::black_box(self.0.execute()?);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision> {
        self.0.set_input(rego_input(facts));
        rego_decision(&self.0.execute()?)
    }
}

impl Asked for RegoInterpreter {
    const NAME: &'static str = "regorus_interpreter";
    type Given<'a> = regorus::Value;

    fn compile() -> anyhow::Result<Self> {
        Ok(Self(rego()?))
    }

    fn give(&self, facts: &Facts) -> regorus::Value {
        rego_input(facts)
    }

    fn run(&mut self, given: regorus::Value) -> anyhow::Result<()> {
        std::hint::black_box(self.0.eval_with_input(given)?);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision> {
        rego_decision(&self.0.eval_with_input(rego_input(facts))?)
    }
}

fn rego() -> anyhow::Result<regorus::CompiledPolicy> {
    let mut engine = regorus::Engine::new();
    engine.add_policy("rule.rego".to_owned(), REGO.to_owned())?;
    engine.compile_with_entrypoint(&REGO_ENTRY.into())
}

fn rego_input(facts: &Facts) -> regorus::Value {
    use regorus::Value;
    let fps = facts.fps.iter();
    let fps: BTreeMap<Value, Value> = fps.map(|(h, p)| (h.as_str().into(), (*p).into())).collect();
    let known = |fact: Option<f64>| fact.map_or(Value::Null, Into::into);
    let fields: [(&str, Value); 10] = [
        ("anomaly", known(facts.anomaly)),
        ("cooling_down", facts.cooling_down.into()),
        ("critical_dependents", facts.critical_dependents.into()),
        ("fps", fps.into()),
        ("outage_cost_per_hour", facts.outage_cost_per_hour.into()),
        (
            "part",
            facts.part.as_deref().map_or(Value::Null, Into::into),
        ),
        ("spare_capacity", known(facts.spare_capacity)),
        ("stand_in_possible", facts.stand_in_possible.into()),
        ("state", state(facts).into()),
        ("utilisation", known(facts.utilisation)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
    fields.collect::<BTreeMap<Value, Value>>().into()
}

fn rego_decision(answer: &regorus::Value) -> anyhow::Result<Decision> {
    let fields = answer.as_object()?;
    decision(|field| Some(fields.get(&field.into())?.as_string().ok()?.to_string()))
}

impl Asked for Cel {
    const NAME: &'static str = "cel";
    type Given<'a> = cel::Context<'a, 'a>;

    fn compile() -> anyhow::Result<Self> {
        let env = Arc::new(cel::Env::stdlib());
        let program = env.compile(CEL).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { program, env })
    }

    fn give<'a>(&self, facts: &'a Facts) -> cel::Context<'a, 'a> {
        let double = |fact: Option<f64>| -> Box<dyn Val> {
            Box::new(CelDouble::from(fact.unwrap_or(f64::NAN)))
        };
        let fps = facts.fps.iter().map(|(horizon, fps)| {
            let fps: Box<dyn Val + 'a> = Box::new(CelDouble::from(*fps));
            (CelMapKey::from(horizon.as_str()), fps)
        });
        let fps: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = fps.collect();
        let mut context = cel::Context::with_env(self.env.clone());
        context.add_variable_as_val("anomaly", double(facts.anomaly));
        context.add_variable_as_val("cooling_down", Box::new(CelBool::from(facts.cooling_down)));
        let dependents = CelInt::from(i64::from(facts.critical_dependents));
        context.add_variable_as_val("critical_dependents", Box::new(dependents));
        context.add_variable_as_val("fps", Box::new(CelMap::from(fps)));
        context.add_variable_as_val(
            "outage_cost_per_hour",
            double(Some(facts.outage_cost_per_hour)),
        );
        let part = CelString::from(facts.part.as_deref().unwrap_or_default());
        context.add_variable_as_val("part", Box::new(part));
        context.add_variable_as_val("spare_capacity", double(facts.spare_capacity));
        context.add_variable_as_val(
            "stand_in_possible",
            Box::new(CelBool::from(facts.stand_in_possible)),
        );
        context.add_variable_as_val("state", Box::new(CelString::from(state(facts))));
        context.add_variable_as_val("utilisation", double(facts.utilisation));
        context
    }

    fn run(&mut self, given: cel::Context<'_, '_>) -> anyhow::Result<()> {
        std::hint::black_box(self.program.execute(&given)?);
        Ok(())
    }

    fn decide(&mut self, facts: &Facts) -> anyhow::Result<Decision> {
        let cel::Value::Map(fields) = self.program.execute(&self.give(facts))? else {
            bail!("the rule answers no map");
        };
        decision(
            |field| match fields.get(&cel::objects::KeyRef::String(field))? {
                cel::Value::String(text) => Some(text.to_string()),
                _ => None,
            },
        )
    }
}

const fn state(facts: &Facts) -> &'static str {
    match facts.state {
        AssetState::InService => "in_service",
        AssetState::Standby => "standby",
        AssetState::StoodIn => "stood_in",
        AssetState::Offline => "offline",
        AssetState::Retired => "retired",
    }
}

/// The least that has to be done with an answer; only the product also refuses what it does not know.
fn decision(text: impl Fn(&str) -> Option<String>) -> anyhow::Result<Decision> {
    let reason = text("reason").context("there is no reason")?;
    match text("action").as_deref() {
        Some("monitor") => Ok(Decision::Monitor { reason }),
        Some("shift_bandwidth") => Ok(Decision::ShiftBandwidth { reason }),
        Some("start") => Ok(Decision::Start {
            workflow: text("workflow").context("there is no workflow")?,
            reason,
            event: serde_json::Map::new(),
        }),
        other => bail!("there is no action {other:?}"),
    }
}
