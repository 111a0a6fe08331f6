//! Looks a script over before it runs: names, numbers of arguments, facts, actions, kinds of step.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};

use super::{Limits, Script, ScriptError, limited_engine, nearest, on_big_stack};
use crate::{
    policy::{action_names, fact_names, fields_of},
    run,
};

/// Names the language itself calls.
const BUILT_IN: [&str; 12] = [
    "call",
    "curry",
    "type_of",
    "print",
    "debug",
    "is_shared",
    "is_def_fn",
    "is_def_var",
    "Fn",
    "eval",
    "this",
    "parse_json",
];

/// Checks a policy: `fn decide(facts)`, known functions, known facts, known actions and their fields.
///
/// An empty list means nothing was found; it does not mean the script is right.
#[must_use]
pub fn check_policy(script: &Script) -> Vec<ScriptError> {
    on_big_stack(|| {
        let mut check = Check::new(script, &[], &[]);
        check.entry("decide", "facts");
        check.walk(true);
        check.finish()
    })
    .unwrap_or_else(|panic| vec![ScriptError::internal(script.name(), &panic.to_string())])
}

/// Checks a workflow: `fn run(event)`, known functions, and known kinds of step where `kinds` lists them.
#[must_use]
pub fn check_workflow(script: &Script, kinds: &[&str]) -> Vec<ScriptError> {
    on_big_stack(|| {
        let mut check = Check::new(script, &run::FUNCTIONS, kinds);
        check.entry("run", "event");
        check.walk(false);
        check.finish()
    })
    .unwrap_or_else(|panic| vec![ScriptError::internal(script.name(), &panic.to_string())])
}

struct Check<'a> {
    script: &'a Script,
    functions: BTreeMap<String, BTreeSet<usize>>,
    own: BTreeSet<(String, usize)>,
    kinds: &'a [&'a str],
    found: Vec<ScriptError>,
}

impl<'a> Check<'a> {
    fn new(script: &'a Script, host: &[(&str, &[usize])], kinds: &'a [&'a str]) -> Self {
        let mut functions = package_functions(&limited_engine(&Limits::batch()));
        for (name, arities) in host {
            functions
                .entry((*name).to_owned())
                .or_default()
                .extend(*arities);
        }
        let own: BTreeSet<(String, usize)> = script
            .ast()
            .iter_functions()
            .map(|f| (f.name.to_owned(), f.params.len()))
            .collect();
        for (name, arity) in &own {
            functions.entry(name.clone()).or_default().insert(*arity);
        }
        Self {
            script,
            functions,
            own,
            kinds,
            found: Vec::new(),
        }
    }

    fn finish(mut self) -> Vec<ScriptError> {
        self.found.sort_by_key(|e| (e.line, e.column));
        self.found.dedup();
        self.found
    }

    fn tell(&mut self, code: &str, message: String, position: Position, meant: Option<&str>) {
        let error = ScriptError::at(self.script.name(), code, message, position);
        self.found.push(error.meaning(meant));
    }

    /// The entry has to be there, and nothing but constants may stand outside functions: it would run before it.
    fn entry(&mut self, name: &str, parameter: &str) {
        if !self.script.defines(name, 1) {
            let message = format!("there is no `fn {name}({parameter})`");
            let names: Vec<String> = self.own.iter().map(|(name, _)| name.clone()).collect();
            let meant = nearest(
                name,
                names.iter().map(String::as_str).filter(|n| *n != name),
            );
            self.tell("missing_function", message, Position::NONE, meant);
        }
        for statement in self.script.ast().statements() {
            if !matches!(statement, Stmt::Var(..) | Stmt::Noop(_)) {
                let message = "only constants may stand outside functions".to_owned();
                self.tell("top_level", message, statement.position(), None);
            }
        }
    }

    fn walk(&mut self, policy: bool) {
        let facts = self.parameter_of("decide");
        let mut nodes = Vec::new();
        self.script.ast().walk(&mut |path| {
            match path.last() {
                Some(ASTNode::Expr(expr)) => nodes.push((*expr).clone()),
                // A call that stands alone is a statement of its own.
                Some(ASTNode::Stmt(Stmt::FnCall(call, position))) => {
                    nodes.push(Expr::FnCall(call.clone(), *position));
                }
                _ => {}
            }
            true
        });
        for node in &nodes {
            match node {
                Expr::FnCall(call, position) => self.call(call, 0, *position),
                Expr::MethodCall(call, position) => self.call(call, 1, *position),
                _ => {}
            }
            if policy {
                if let Some(facts) = &facts {
                    self.fact(node, facts);
                }
                self.answer(node);
            }
        }
    }

    fn parameter_of(&self, function: &str) -> Option<String> {
        let mut functions = self.script.ast().iter_functions();
        let found = functions.find(|f| f.name == function && f.params.len() == 1)?;
        found.params.first().map(ToString::to_string)
    }

    fn call(&mut self, call: &FnCallExpr, object: usize, position: Position) {
        let name = call.name.as_str();
        let given = call.args.len();
        if call.op_token.is_some() || BUILT_IN.contains(&name) || !call.namespace.is_empty() {
            return;
        }
        let Some(arities) = self.functions.get(name) else {
            let message = format!("there is no function `{name}`");
            let names: Vec<String> = self.functions.keys().cloned().collect();
            let meant = nearest(
                name,
                names.iter().map(String::as_str).filter(|n| is_name(n)),
            );
            self.tell("unknown_function", message, position, meant);
            return;
        };
        // A function of the script called on an object gets it as `this`, any other as its first argument.
        let fits = arities.contains(&(given + object))
            || (object == 1 && self.own.contains(&(name.to_owned(), given)));
        if !fits {
            let takes: Vec<String> = arities.iter().map(ToString::to_string).collect();
            let message = format!(
                "`{name}` takes {} arguments, not {}",
                takes.join(" or "),
                given + object
            );
            self.tell("wrong_arguments", message, position, None);
            return;
        }
        let is_step =
            matches!(name, "step" | "start") && !self.own.contains(&(name.to_owned(), given));
        if let (true, false, Some(Expr::StringConstant(kind, at))) =
            (is_step, self.kinds.is_empty(), call.args.first())
            && !self.kinds.contains(&kind.as_str())
        {
            let message = format!("there is no kind of step `{kind}`");
            let meant = nearest(kind, self.kinds.iter().copied());
            self.tell("unknown_kind", message, *at, meant);
        }
    }

    /// `facts.x`, `facts["x"]`, and the fields below those that have some.
    fn fact(&mut self, node: &Expr, facts: &str) {
        let (Expr::Dot(pair, ..) | Expr::Index(pair, ..)) = node else {
            return;
        };
        if !matches!(&pair.lhs, Expr::Variable(name, ..) if name.1 == facts) {
            return;
        }
        let mut path = Vec::new();
        names_along(&pair.rhs, &mut path);
        let Some((first, position)) = path.first() else {
            return;
        };
        let names = fact_names().iter().map(String::as_str);
        if !names.clone().any(|name| name == first) {
            let message = format!("there is no fact `{first}`");
            self.tell("unknown_field", message, *position, nearest(first, names));
            return;
        }
        let fields: &[&str] = match first.as_str() {
            "fps" => &["1d", "7d", "30d"],
            "remaining_life_hours" => &["p05", "p50", "p95"],
            "redundancy" => &["group", "serving", "needed"],
            _ => return,
        };
        if let Some((field, position)) = path.get(1)
            && !fields.contains(&field.as_str())
        {
            let message = format!(
                "fact `{first}` has no `{field}`, only {}",
                fields.join(", ")
            );
            let meant = nearest(field, fields.iter().copied());
            self.tell("unknown_field", message, *position, meant);
        }
    }

    /// A map literal with a literal `action` is an answer; its action and fields have to be known.
    fn answer(&mut self, node: &Expr) {
        let fields: Vec<(String, Position)> = match node {
            Expr::Map(map, _) => map
                .0
                .iter()
                .map(|(k, _)| (k.name.to_string(), k.pos))
                .collect(),
            Expr::DynamicConstant(value, position) => match value.read_lock::<rhai::Map>() {
                Some(map) => map.keys().map(|k| (k.to_string(), *position)).collect(),
                None => return,
            },
            _ => return,
        };
        let action = match node {
            Expr::Map(map, _) => map.0.iter().find_map(|(k, v)| match v {
                Expr::StringConstant(text, at) if k.name == "action" => {
                    Some((text.to_string(), *at))
                }
                _ => None,
            }),
            Expr::DynamicConstant(value, at) => value
                .read_lock::<rhai::Map>()
                .and_then(|map| map.get("action").and_then(|v| v.clone().into_string().ok()))
                .map(|text| (text, *at)),
            _ => None,
        };
        let Some((action, at)) = action else {
            return;
        };
        let Some(known) = fields_of(&action) else {
            let message = format!("`{action}` is not an action");
            self.tell(
                "unknown_action",
                message,
                at,
                nearest(&action, action_names()),
            );
            return;
        };
        for (field, position) in &fields {
            if !known.contains(&field.as_str()) {
                let message = format!("decision `{action}` has no field `{field}`");
                let meant = nearest(field, known.iter().copied());
                self.tell("unknown_field", message, *position, meant);
            }
        }
        if !fields.iter().any(|(field, _)| field == "reason") {
            let message = format!("decision `{action}` lacks `reason`");
            self.tell("missing_reason", message, at, None);
        }
    }
}

/// The property names along a chain, as far as they are literal.
fn names_along(expr: &Expr, path: &mut Vec<(String, Position)>) {
    match expr {
        Expr::Property(name, position) => path.push((name.2.to_string(), *position)),
        Expr::StringConstant(name, position) => path.push((name.to_string(), *position)),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => {
            names_along(&pair.lhs, path);
            names_along(&pair.rhs, path);
        }
        _ => {}
    }
}

fn package_functions(engine: &Engine) -> BTreeMap<String, BTreeSet<usize>> {
    let all = engine.collect_fn_metadata(
        None,
        |f| Some((f.metadata.name.to_string(), f.metadata.num_params)),
        true,
    );
    let mut functions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (name, arity) in all {
        functions.entry(name).or_default().insert(arity);
    }
    functions
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(body: &str) -> Vec<String> {
        let source = format!("fn decide(facts) {{\n{body}\n}}");
        let script = Script::compile("p", &source).expect("compiles");
        check_policy(&script)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_sound_policy_passes() {
        let found = policy(
            "let fps = facts.fps[\"7d\"];
             if facts.redundancy != () && facts.redundancy.serving > 1 && facts.kind.starts_with(\"fan\") {
                 return #{ action: \"shift_bandwidth\", reason: `${fps}` };
             }
             let worst = [1, 2].map(|x| x + 1).filter(|x| x > 1);
             #{ action: \"monitor\", reason: \"fine\" }",
        );
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn what_is_unknown_is_told_with_place_and_nearest_name() {
        for (body, message) in [
            (
                "facts.fsp",
                "p:2:7: there is no fact `fsp`; did you mean `fps`?",
            ),
            (
                "facts.critical_dependants",
                "did you mean `critical_dependents`?",
            ),
            ("facts[\"utilization\"]", "did you mean `utilisation`?"),
            ("facts.fps[\"8d\"]", "fact `fps` has no `8d`"),
            ("facts.redundancy.sering", "did you mean `serving`?"),
            (
                "rond(1.5)",
                "there is no function `rond`; did you mean `round`?",
            ),
            (
                "facts.kind.starts_wiht(\"a\")",
                "did you mean `starts_with`?",
            ),
            ("step(\"make\", #{})", "there is no function `step`"),
            ("round(1.5, 2, 3)", "`round` takes"),
            (
                "#{ action: \"monitr\", reason: facts.kind }",
                "did you mean `monitor`?",
            ),
            (
                "#{ action: \"monitor\", reson: facts.kind }",
                "did you mean `reason`?",
            ),
            ("#{ action: \"monitor\" }", "lacks `reason`"),
        ] {
            let found = policy(body);
            assert!(
                found.iter().any(|f| f.contains(message)),
                "{body}: {found:?}"
            );
        }
    }

    #[test]
    fn a_workflow_is_checked_against_its_own_functions_and_kinds() {
        let check = |source: &str| {
            let script = Script::compile("w", source).expect("compiles");
            let found = check_workflow(&script, &["predict", "make"]);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(check("const N = 3; fn run(event) { wait(start(\"make\", #{})) }").is_empty());
        assert_eq!(
            check("fn run(event) {\n  step(\"predct\", #{});\n}"),
            ["w:2:8: there is no kind of step `predct`; did you mean `predict`?"]
        );
        assert_eq!(check("fn run(event) { wiat(1) }").len(), 1);
        assert_eq!(check("fn run(event) { sleep() }").len(), 1);
        assert!(check("fn rum(event) { }")[0].contains("did you mean `rum`?"));
        assert!(check("log(\"x\"); fn run(event) { }")[0].contains("only constants"));
    }
}
