//! From function to function: what each is given and gives, until nothing new is learnt; then what is wrong in them.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTFlags, ASTNode, Expr, Ident, Position, Stmt};

use super::{
    body::Env,
    decision,
    facts::FACTS,
    finding::{Finding, Findings},
    functions::Functions,
    steps::StepInput,
    test_names,
    types::{Type, of_constant},
};
use crate::script::{Script, nearest, sites::links_of};

/// Rounds after which what is given to functions counts as unknown.
const ROUNDS: usize = 8;

/// Looks a policy over.
pub(super) fn policy(script: &Script) -> Vec<Finding> {
    let entry = Entry {
        function: "decide",
        parameter: "facts",
        gets: FACTS,
        policy: true,
    };
    look_over(script, &entry, &[])
}

/// Looks a workflow over.
pub(super) fn workflow(script: &Script, steps: &[StepInput]) -> Vec<Finding> {
    let entry = Entry {
        function: "run",
        parameter: "event",
        gets: Type::ANY,
        policy: false,
    };
    look_over(script, &entry, steps)
}

/// Looks the tests of a script over, which may call its functions.
pub(super) fn tests(subject: &Script, tests: &Script, steps: &[StepInput]) -> Vec<Finding> {
    let ast = match tests.unoptimised() {
        Ok(ast) => ast,
        Err(error) => return vec![error.into()],
    };
    let mut constants = constants_of(subject.ast());
    constants.extend(constants_of(&ast));
    let mut walker = Walker {
        functions: Functions::of_tests(subject, tests),
        findings: Findings::default(),
        steps: &[],
        policy: false,
        lenient: false,
        constants,
        assigned: assigned_in(&ast),
        summaries: BTreeMap::new(),
        within_maps: 0,
        unfinished: Vec::new(),
    };
    walker.settle(&functions_of(&ast), None, &ast);
    let kinds: Vec<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
    test_names::check(subject, tests, &kinds, &mut walker.findings);
    walker.findings.finish(tests)
}

struct Entry {
    function: &'static str,
    parameter: &'static str,
    gets: Type,
    policy: bool,
}

/// What is known of a function of the script.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    pub(super) takes: Vec<Type>,
    pub(super) gives: Type,
}

/// The state of a check.
pub(super) struct Walker<'a> {
    pub(super) functions: Functions,
    pub(super) findings: Findings,
    pub(super) steps: &'a [StepInput],
    pub(super) policy: bool,
    /// Whether a variable may be one nobody declares.
    pub(super) lenient: bool,
    pub(super) constants: BTreeMap<String, Type>,
    /// Variables something is assigned to: whatever they begin as, they may become anything.
    pub(super) assigned: BTreeSet<String>,
    pub(super) summaries: BTreeMap<(String, usize), Summary>,
    /// How many map literals the one at hand is in.
    pub(super) within_maps: usize,
    /// What decisions of the function at hand lack, by where they begin.
    pub(super) unfinished: Vec<(Position, decision::Missing)>,
}

struct Function {
    name: String,
    takes: Vec<String>,
    body: Vec<Stmt>,
    at: Position,
}

fn look_over(script: &Script, entry: &Entry, steps: &[StepInput]) -> Vec<Finding> {
    // What the engine leaves out because it never runs is what is looked for here.
    let ast = match script.unoptimised() {
        Ok(ast) => ast,
        Err(error) => return vec![error.into()],
    };
    let bodies = functions_of(&ast);
    let mut walker = Walker {
        functions: Functions::of(script, !entry.policy),
        findings: Findings::default(),
        steps,
        policy: entry.policy,
        lenient: script.is_lenient(),
        constants: constants_of(&ast),
        assigned: assigned_in(&ast),
        summaries: BTreeMap::new(),
        within_maps: 0,
        unfinished: Vec::new(),
    };
    walker.settle(&bodies, Some(entry), &ast);
    walker.outside(entry, &ast);
    walker.findings.finish(script)
}

impl Walker<'_> {
    /// Goes from function to function until nothing new is learnt; those of tests are called from outside, each.
    fn settle(&mut self, bodies: &[Function], entry: Option<&Entry>, ast: &AST) {
        for body in bodies {
            self.begin(body, entry, ast);
        }
        for round in 0..=ROUNDS {
            let before = self.summaries.clone();
            self.findings.clear();
            if round == ROUNDS - 1 {
                self.give_up(entry);
            }
            self.initialisers(ast);
            bodies.iter().for_each(|body| self.function(body, entry));
            if self.summaries == before {
                break;
            }
        }
    }

    fn begin(&mut self, function: &Function, entry: Option<&Entry>, ast: &AST) {
        // A closure, and a function that is passed by its name, may be given anything.
        let free =
            entry.is_none() || function.name.starts_with("anon$") || is_named(ast, &function.name);
        let start = if free { Type::ANY } else { Type::NONE };
        let mut takes = vec![start; function.takes.len()];
        if let Some(entry) = entry
            && function.name == entry.function
            && takes.len() == 1
        {
            takes[0] = entry.gets;
        }
        let key = (function.name.clone(), function.takes.len());
        let gives = Type::NONE;
        self.summaries.insert(key, Summary { takes, gives });
    }

    fn give_up(&mut self, entry: Option<&Entry>) {
        for ((name, _), summary) in &mut self.summaries {
            if entry.is_none_or(|entry| name != entry.function) {
                summary.takes.fill(Type::ANY);
            }
            summary.gives = Type::ANY;
        }
    }

    /// What constants are given; each sees those before it.
    fn initialisers(&mut self, ast: &AST) {
        let mut env = Env::default();
        for (name, value) in constants_in(ast) {
            let type_ = self.expr(value, &mut env);
            env.declare(&name.name, type_, name.pos, true);
        }
    }

    fn function(&mut self, function: &Function, entry: Option<&Entry>) {
        let key = (function.name.clone(), function.takes.len());
        let Some(summary) = self.summaries.get(&key).cloned() else {
            return;
        };
        let given = function.takes.iter().zip(summary.takes);
        let given = given.map(|(name, type_)| match self.assigned.contains(name) {
            true => (name.clone(), Type::ANY),
            false => (name.clone(), type_),
        });
        let mut env = Env::of(given);
        let flow = self.block(&function.body, &mut env, function.at);
        let mut answers = env.returns;
        if !flow.ends {
            answers.extend(flow.values);
        }
        for (decision, missing) in std::mem::take(&mut self.unfinished) {
            let is_answered = answers.iter().any(|(_, at)| *at == decision);
            missing.tell(is_answered, &mut self.findings);
        }
        if let Some(entry) = entry
            && entry.policy
            && function.name == entry.function
            && function.takes.len() == 1
        {
            decision::check_answers(&answers, &mut self.findings);
        }
        let gives = answers
            .iter()
            .fold(Type::NONE, |all, (type_, _)| all.or(*type_));
        if let Some(summary) = self.summaries.get_mut(&key) {
            summary.gives = summary.gives.or(gives);
        }
    }

    /// The entry has to be there, and nothing but constants may stand outside functions: it would run before it.
    fn outside(&mut self, entry: &Entry, ast: &AST) {
        if !self.functions.is_own(entry.function, 1) {
            let message = format!("there is no `fn {}({})`", entry.function, entry.parameter);
            let names: Vec<String> = self.functions.own_names().map(ToOwned::to_owned).collect();
            let names = names.iter().map(String::as_str);
            let meant = nearest(entry.function, names.filter(|n| *n != entry.function));
            let finding = self
                .findings
                .error("missing_function", message, Position::NONE);
            finding.hint(format!(
                "write `fn {}({}) {{ … }}`",
                entry.function, entry.parameter
            ));
            finding.meaning(meant);
        }
        for statement in ast.statements() {
            if !matches!(statement, Stmt::Noop(_)) && constant(statement).is_none() {
                let message = "only constants may stand outside functions".to_owned();
                let hint = format!("move it into `fn {}`", entry.function);
                let at = statement.position();
                self.findings.error("top_level", message, at).hint(hint);
            }
        }
    }
}

/// The functions of a script, those that are closures last.
fn functions_of(ast: &AST) -> Vec<Function> {
    let mut functions: Vec<Function> = ast
        .iter_fn_def()
        .map(|def| Function {
            name: def.name.to_string(),
            takes: def.params.iter().map(ToString::to_string).collect(),
            body: body_of(ast, &def.name, def.params.len()),
            at: def.body.end_position().or_else(def.body.start_position()),
        })
        .collect();
    functions.sort_by(|a, b| (&a.name, a.takes.len()).cmp(&(&b.name, b.takes.len())));
    functions
}

fn body_of(ast: &AST, name: &str, takes: usize) -> Vec<Stmt> {
    let mut alone = ast.clone_functions_only();
    alone.retain_functions(|_, _, n, count| n == name && count == takes);
    let mut body = Vec::new();
    alone.walk(&mut |path| {
        if let [ASTNode::Stmt(statement)] = path {
            body.push((*statement).clone());
        }
        true
    });
    body
}

fn constants_of(ast: &AST) -> BTreeMap<String, Type> {
    let constants = constants_in(ast).map(|(name, value)| {
        let value = value.get_literal_value(None);
        let type_ = value.as_ref().map_or(Type::ANY, of_constant);
        (name.name.to_string(), type_)
    });
    constants.collect()
}

/// The constants outside functions. What stands there as `let` no function sees.
pub(super) fn constants_in(ast: &AST) -> impl Iterator<Item = (&Ident, &Expr)> {
    ast.statements().iter().filter_map(constant)
}

fn constant(statement: &Stmt) -> Option<(&Ident, &Expr)> {
    match statement {
        Stmt::Var(parts, flags, _) if flags.contains(ASTFlags::CONSTANT) => {
            Some((&parts.0, &parts.1))
        }
        _ => None,
    }
}

fn assigned_in(ast: &AST) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Assignment(parts))) = path.last() {
            let mut links = Vec::new();
            links_of(&parts.1.lhs, &mut links);
            if let Some(Expr::Variable(name, ..)) = links.first().map(|link| link.expr()) {
                names.insert(name.1.to_string());
            }
        }
        true
    });
    names
}

/// Whether a script has a name as a text, as it hands functions to others.
fn is_named(ast: &AST, function: &str) -> bool {
    let mut named = false;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::StringConstant(text, _))) = path.last() {
            named |= text.as_str() == function;
        }
        true
    });
    named
}
