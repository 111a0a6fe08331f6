//! Statements: what a block gives, whether it is left, and what in it is never reached or never used.

use std::collections::BTreeSet;

use rhai::{ASTFlags, Expr, FlowControl, FnCallExpr, Position, Stmt, SwitchCasesCollection};

use super::{
    guards::Guards,
    types::{Kinds, Type},
    walk::Walker,
};

/// What is in scope.
#[derive(Debug, Default)]
pub(super) struct Env {
    variables: Vec<Variable>,
    /// Paths that are certainly not `()` here.
    pub(super) known: BTreeSet<String>,
    /// What the function has returned so far, and where.
    pub(super) returns: Vec<(Type, Position)>,
    /// How the loop at hand is left.
    leaves: Leaves,
}

/// How the body of a loop is left.
#[derive(Debug, Default, Clone, Copy)]
struct Leaves {
    breaks: bool,
    continues: bool,
}

#[derive(Debug)]
struct Variable {
    name: String,
    type_: Type,
    at: Position,
    used: bool,
}

impl Env {
    pub(super) fn of(given: impl Iterator<Item = (String, Type)>) -> Self {
        let mut env = Self::default();
        for (name, type_) in given {
            env.declare(&name, type_, Position::NONE, true);
        }
        env
    }

    pub(super) fn declare(&mut self, name: &str, type_: Type, at: Position, used: bool) {
        self.known.retain(|path| root(path) != name);
        self.variables.push(Variable {
            name: name.to_owned(),
            type_,
            at,
            used: used || name.starts_with('_'),
        });
    }

    /// The type of a variable, which counts as used from here on.
    pub(super) fn read(&mut self, name: &str) -> Option<Type> {
        let variable = self.variables.iter_mut().rev().find(|v| v.name == name)?;
        variable.used = true;
        Some(variable.type_)
    }

    /// The names in scope.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|v| v.name.as_str())
    }

    fn declared(&self, name: &str) -> Option<Position> {
        let variable = self.variables.iter().rev().find(|v| v.name == name);
        variable.map(|v| v.at)
    }
}

fn root(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// How a statement or a block leaves off.
#[derive(Debug)]
pub(super) struct Flow {
    /// What it may give, and where that comes from.
    pub(super) values: Vec<(Type, Position)>,
    /// Whether what follows is never reached.
    pub(super) ends: bool,
}

impl Flow {
    fn giving(type_: Type, at: Position) -> Self {
        Self {
            values: vec![(type_, at)],
            ends: false,
        }
    }

    fn nothing(at: Position) -> Self {
        Self::giving(Type::UNIT, at)
    }

    const fn ending() -> Self {
        Self {
            values: Vec::new(),
            ends: true,
        }
    }

    /// One of two ways was gone.
    fn or(self, other: Self) -> Self {
        let values = |flow: Self| if flow.ends { Vec::new() } else { flow.values };
        Self {
            ends: self.ends && other.ends,
            values: [values(self), values(other)].concat(),
        }
    }

    pub(super) fn type_(&self) -> Type {
        if self.ends {
            return Type::ANY;
        }
        self.values
            .iter()
            .fold(Type::NONE, |all, (type_, _)| all.or(*type_))
    }
}

impl Walker<'_> {
    /// A block with a scope of its own; `at` is where it is empty.
    pub(super) fn block(&mut self, statements: &[Stmt], env: &mut Env, at: Position) -> Flow {
        let (depth, known) = (env.variables.len(), env.known.clone());
        let mut flow = Flow::nothing(at);
        let mut told = false;
        for statement in statements {
            if matches!(statement, Stmt::Noop(_) | Stmt::Share(_)) {
                continue;
            }
            if flow.ends && !told {
                let message = "this is never reached".to_owned();
                let hint = "what stands before it always leaves; take it out or move it up";
                let finding = self
                    .findings
                    .warning("unreachable", message, place(statement));
                finding.hint(hint);
                told = true;
            }
            let next = self.statement(statement, env);
            flow = Flow {
                ends: flow.ends || next.ends,
                values: next.values,
            };
        }
        self.leave(env, depth);
        env.known = known;
        flow
    }

    fn leave(&mut self, env: &mut Env, depth: usize) {
        for variable in env.variables.drain(depth..).filter(|v| !v.used) {
            let name = variable.name;
            let message = format!("`{name}` is never used");
            let hint = format!("take it out, or call it `_{name}`");
            let finding = self
                .findings
                .warning("unused_variable", message, variable.at);
            finding.hint(hint);
        }
    }

    fn statement(&mut self, statement: &Stmt, env: &mut Env) -> Flow {
        let at = place(statement);
        match statement {
            Stmt::Expr(expr) => match &**expr {
                Expr::Stmt(block) => self.block(block.statements(), env, at),
                Expr::FnCall(call, at) => self.called(call, *at, env),
                expr => Flow::giving(self.expr(expr, env), at),
            },
            Stmt::FnCall(call, at) => self.called(call, *at, env),
            Stmt::Block(block) => self.block(block.statements(), env, at),
            Stmt::Var(parts, ..) => {
                let type_ = self.expr(&parts.1, env);
                if self.assigned.contains(parts.0.name.as_str()) {
                    let begins = parts.1.start_position();
                    self.unfinished.retain(|(at, _)| *at != begins);
                }
                self.declare(&parts.0.name, parts.0.pos, type_, env);
                Flow::nothing(at)
            }
            Stmt::Assignment(parts) => {
                self.assign(&parts.1.lhs, parts.0.is_op_assignment(), env);
                self.expr(&parts.1.rhs, env);
                Flow::nothing(at)
            }
            Stmt::If(flow, at) => self.branch(flow, *at, env),
            Stmt::Switch(parts, at) => self.switch(&parts.0, &parts.1, *at, env),
            Stmt::While(flow, at) => self.repeat(flow, *at, env),
            Stmt::Do(flow, flags, at) => {
                let (body_ends, leaves) = self.looped(flow, env);
                self.condition(&flow.expr, env);
                let again =
                    always(&flow.expr).map(|holds| holds != flags.contains(ASTFlags::NEGATED));
                let ends = again == Some(true) || (body_ends && !leaves.continues);
                match leaves.breaks {
                    // What it breaks with is not followed.
                    true => Flow::giving(Type::ANY, *at),
                    false if ends => Flow::ending(),
                    false => Flow::nothing(*at),
                }
            }
            Stmt::For(parts, at) => {
                let over = self.expr(&parts.2.expr, env);
                self.iterable(over, parts.2.expr.start_position());
                let depth = env.variables.len();
                env.declare(&parts.0.name, Type::ANY, parts.0.pos, true);
                if let Some(counter) = &parts.1 {
                    env.declare(&counter.name, Type::of(Kinds::INT), counter.pos, true);
                }
                self.looped(&parts.2, env);
                env.variables.truncate(depth);
                Flow::nothing(*at)
            }
            Stmt::TryCatch(flow, at) => {
                let tried = self.block(flow.body.statements(), env, *at);
                let depth = env.variables.len();
                if let Expr::Variable(name, ..) = &flow.expr {
                    env.declare(&name.1, Type::ANY, *at, true);
                }
                let caught = self.block(flow.branch.statements(), env, *at);
                env.variables.truncate(depth);
                // It gives what was tried; `catch` gives nothing.
                tried.or(Flow {
                    ends: caught.ends,
                    ..Flow::nothing(*at)
                })
            }
            Stmt::Return(value, flags, at) => {
                let type_ = value
                    .as_ref()
                    .map_or(Type::UNIT, |value| self.expr(value, env));
                if !flags.contains(ASTFlags::BREAK) {
                    let at = value.as_ref().map_or(*at, |value| value.start_position());
                    env.returns.push((type_, at));
                }
                Flow::ending()
            }
            Stmt::BreakLoop(value, flags, _) => {
                if let Some(value) = value {
                    self.expr(value, env);
                }
                match flags.contains(ASTFlags::BREAK) {
                    true => env.leaves.breaks = true,
                    false => env.leaves.continues = true,
                }
                Flow::ending()
            }
            _ => Flow::nothing(at),
        }
    }

    /// A call that stands alone; some never come back.
    fn called(&mut self, call: &FnCallExpr, at: Position, env: &mut Env) -> Flow {
        Flow {
            values: vec![(self.call(call, at, env), at)],
            ends: !self.policy && self.functions.is_fail(call),
        }
    }

    fn declare(&mut self, name: &str, at: Position, type_: Type, env: &mut Env) {
        if let Some(outer) = env.declared(name) {
            let message = format!("`{name}` hides another `{name}`");
            let hint = match outer.line() {
                Some(line) => format!("give it another name than that of line {line}"),
                None => "give it another name than the parameter".to_owned(),
            };
            let finding = self.findings.warning("shadowed_variable", message, at);
            finding.hint(hint);
        }
        let type_ = if self.assigned.contains(name) {
            Type::ANY
        } else {
            type_
        };
        env.declare(name, type_, at, false);
    }

    /// What is written to is not thereby used, unless what it is counts too.
    fn assign(&mut self, to: &Expr, reads: bool, env: &mut Env) {
        match to {
            Expr::Variable(name, _, at) if !reads && name.2.is_empty() => {
                if self.lenient && env.declared(&name.1).is_none() {
                    self.undeclared(&name.1, *at, env);
                }
            }
            _ => _ = self.expr(to, env),
        }
    }

    fn branch(&mut self, flow: &FlowControl, at: Position, env: &mut Env) -> Flow {
        self.condition(&flow.expr, env);
        self.constant(&flow.expr);
        let guards = Guards::of(&flow.expr);
        let known = env.known.clone();
        env.known.extend(guards.if_true.iter().cloned());
        let then = self.block(flow.body.statements(), env, flow.body.end_position());
        env.known.clone_from(&known);
        env.known.extend(guards.if_false.iter().cloned());
        let otherwise = if flow.branch.is_empty() {
            Flow::nothing(at)
        } else {
            self.block(flow.branch.statements(), env, flow.branch.end_position())
        };
        env.known = known;
        // Whoever comes past has not gone the way that leaves.
        if then.ends {
            env.known.extend(guards.if_false);
        }
        if otherwise.ends {
            env.known.extend(guards.if_true);
        }
        then.or(otherwise)
    }

    fn switch(
        &mut self,
        on: &Expr,
        cases: &SwitchCasesCollection,
        at: Position,
        env: &mut Env,
    ) -> Flow {
        let type_ = self.expr(on, env);
        // A bool that is asked for both.
        let is_complete = type_.kinds == Kinds::BOOL
            && cases.cases.len() > 1
            && cases
                .expressions
                .iter()
                .all(|case| matches!(case.lhs, Expr::BoolConstant(true, _)));
        let mut all: Option<Flow> = None;
        for case in &cases.expressions {
            if !matches!(case.lhs, Expr::BoolConstant(..)) {
                self.condition(&case.lhs, env);
            }
            let one = match &case.rhs {
                Expr::Stmt(block) => self.block(block.statements(), env, block.position()),
                expr => Flow::giving(self.expr(expr, env), expr.start_position()),
            };
            all = Some(match all {
                Some(all) => all.or(one),
                None => one,
            });
        }
        match (all, cases.def_case) {
            (Some(all), Some(_)) => all,
            (Some(all), None) if is_complete => all,
            (Some(all), None) => all.or(Flow::nothing(at)),
            (None, _) => Flow::nothing(at),
        }
    }

    fn repeat(&mut self, flow: &FlowControl, at: Position, env: &mut Env) -> Flow {
        let endless = matches!(flow.expr, Expr::Unit(_) | Expr::BoolConstant(true, _));
        if !endless {
            self.condition(&flow.expr, env);
            self.constant(&flow.expr);
        }
        let known = env.known.clone();
        env.known.extend(Guards::of(&flow.expr).if_true);
        let (_, leaves) = self.looped(flow, env);
        env.known = known;
        match (endless, leaves.breaks) {
            (true, false) => Flow::ending(),
            // What it breaks with is not followed.
            (_, true) => Flow::giving(Type::ANY, at),
            (false, false) => Flow::nothing(at),
        }
    }

    /// The body of a loop: whether its end is never reached, and how it is left.
    fn looped(&mut self, flow: &FlowControl, env: &mut Env) -> (bool, Leaves) {
        let outer = std::mem::take(&mut env.leaves);
        let body = self.block(flow.body.statements(), env, flow.body.position());
        (body.ends, std::mem::replace(&mut env.leaves, outer))
    }

    /// A condition has to be a bool.
    pub(super) fn condition(&mut self, expr: &Expr, env: &mut Env) {
        let type_ = self.expr(expr, env);
        if type_.never(Kinds::BOOL) {
            let message = format!("a condition is a bool, not {}", type_.kinds);
            let hint = if type_.kinds.meets(Kinds::UNIT) {
                "compare it with `()`"
            } else {
                "compare it with something"
            };
            let at = expr.start_position();
            self.findings.error("condition", message, at).hint(hint);
        }
    }

    /// A condition of literals always goes the same way.
    fn constant(&mut self, expr: &Expr) {
        if let Some(holds) = always(expr) {
            let message = format!("this condition is always {holds}");
            let hint = if holds {
                "leave the `if` out"
            } else {
                "what it guards never runs"
            };
            let at = expr.start_position();
            self.findings
                .warning("constant_condition", message, at)
                .hint(hint);
        }
    }

    fn iterable(&mut self, over: Type, at: Position) {
        let takes = Kinds::ARRAY
            .or(Kinds::RANGE)
            .or(Kinds::TEXT)
            .or(Kinds::OTHER);
        if over.never(takes) {
            let message = format!("nothing to go over: this is {}", over.kinds);
            let hint = if over.kinds.meets(Kinds::MAP) {
                "go over its `keys()` or `values()`"
            } else {
                "go over an array or a range like `0..3`"
            };
            self.findings.error("type", message, at).hint(hint);
        }
    }
}

fn always(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::BoolConstant(holds, _) => Some(*holds),
        Expr::FnCall(call, _) if call.op_token.is_some() && call.args.len() == 2 => {
            let (left, right) = (literal(&call.args[0])?, literal(&call.args[1])?);
            match call.name.as_str() {
                "==" => Some(left == right),
                "!=" => Some(left != right),
                "<" => Some(left < right),
                "<=" => Some(left <= right),
                ">" => Some(left > right),
                ">=" => Some(left >= right),
                _ => None,
            }
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<f64> {
    let value = expr.get_literal_value(None)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "only compared with other literals"
    )]
    let whole = value.as_int().map(|n| n as f64);
    whole.or_else(|_| value.as_float()).ok()
}

/// Where a statement begins.
pub(super) fn place(statement: &Stmt) -> Position {
    match statement {
        Stmt::Assignment(parts) => parts.1.lhs.start_position(),
        Stmt::Expr(expr) => expr.start_position(),
        statement => statement.position(),
    }
}
