//! Expressions: what they give, and what in them cannot be.

use rhai::{ASTFlags, Expr, FnCallExpr, Position};

use super::{
    body::Env,
    decision,
    functions::{BUILT_IN, Functions},
    guards::Guards,
    operators::{self, Operand},
    steps,
    types::{Kinds, Type, of_constant},
    walk::Walker,
};
use crate::script::{
    nearest,
    sites::{Link, links_of, path_of},
};

impl Functions {
    /// Whether a call ends the run.
    pub(super) fn is_fail(&self, call: &FnCallExpr) -> bool {
        matches!(call.name.as_str(), "fail" | "continue_as_new")
            && !self.is_own(&call.name, call.args.len())
    }
}

impl Walker<'_> {
    /// What an expression gives.
    pub(super) fn expr(&mut self, expr: &Expr, env: &mut Env) -> Type {
        match expr {
            Expr::DynamicConstant(value, _) => of_constant(value),
            Expr::BoolConstant(..) => Type::BOOL,
            Expr::IntegerConstant(..) => Type::of(Kinds::INT),
            Expr::FloatConstant(..) => Type::of(Kinds::FLOAT),
            Expr::CharConstant(..) => Type::of(Kinds::CHAR),
            Expr::StringConstant(..) => Type::TEXT,
            Expr::Unit(_) => Type::UNIT,
            Expr::InterpolatedString(parts, _) => {
                parts.iter().for_each(|part| _ = self.expr(part, env));
                Type::TEXT
            }
            Expr::Array(items, _) => {
                items.iter().for_each(|item| _ = self.expr(item, env));
                Type::of(Kinds::ARRAY)
            }
            Expr::Map(parts, at) => {
                let mut fields = Vec::with_capacity(parts.0.len());
                self.within_maps += 1;
                for (name, value) in &parts.0 {
                    let type_ = self.expr(value, env);
                    fields.push(decision::Field {
                        name: &name.name,
                        at: name.pos,
                        value,
                        type_,
                    });
                }
                self.within_maps -= 1;
                // What is inside of a decision is an event, which is as the workflow likes it.
                if self.policy && self.within_maps == 0 {
                    let missing = decision::check(&fields, &mut self.findings);
                    self.unfinished
                        .extend(missing.into_iter().map(|found| (*at, found)));
                }
                Type::of(Kinds::MAP)
            }
            Expr::Variable(..) | Expr::Dot(..) | Expr::Index(..) => self.chain(expr, env),
            Expr::FnCall(call, at) | Expr::MethodCall(call, at) => self.call(call, *at, env),
            Expr::And(parts, _) => self.logic(parts, true, env),
            Expr::Or(parts, _) => self.logic(parts, false, env),
            Expr::Coalesce(parts, _) => {
                let types: Vec<Type> = parts.iter().map(|part| self.expr(part, env)).collect();
                let (last, first) = types.split_last().unwrap_or((&Type::ANY, &[]));
                let known = first.iter().map(|type_| type_.without(Kinds::UNIT));
                known.fold(*last, Type::or)
            }
            Expr::Stmt(block) => self
                .block(block.statements(), env, block.position())
                .type_(),
            _ => Type::ANY,
        }
    }

    fn logic(&mut self, parts: &[Expr], and: bool, env: &mut Env) -> Type {
        let known = env.known.clone();
        for part in parts {
            self.condition(part, env);
            let guards = Guards::of(part);
            env.known
                .extend(if and { guards.if_true } else { guards.if_false });
        }
        env.known = known;
        Type::BOOL
    }

    fn operand(&mut self, expr: &Expr, env: &mut Env) -> Operand {
        Operand {
            type_: self.expr(expr, env),
            path: path_of(expr),
        }
    }

    /// A call of an operator or of a function by its name.
    pub(super) fn call(&mut self, call: &FnCallExpr, at: Position, env: &mut Env) -> Type {
        if call.op_token.is_some() {
            let operands: Vec<Operand> =
                call.args.iter().map(|arg| self.operand(arg, env)).collect();
            return match operands.as_slice() {
                [one] => operators::unary(&call.name, one, at, &mut self.findings),
                [left, right] => operators::binary(&call.name, left, right, at, &mut self.findings),
                _ => Type::ANY,
            };
        }
        let given: Vec<Type> = call.args.iter().map(|arg| self.expr(arg, env)).collect();
        if !call.namespace.is_empty() {
            return Type::ANY;
        }
        match self.own_call(call, &given) {
            Some(type_) => type_,
            None if BUILT_IN.contains(&call.name.as_str()) => built_in(&call.name),
            None => {
                if !self.policy {
                    steps::check(call, self.steps, &mut self.findings);
                }
                self.functions
                    .call(&call.name, &given, at, &mut self.findings)
            }
        }
    }

    /// A call of a function of the script, which learns what it is given.
    fn own_call(&mut self, call: &FnCallExpr, given: &[Type]) -> Option<Type> {
        let summary = self
            .summaries
            .get_mut(&(call.name.to_string(), given.len()))?;
        for (takes, given) in summary.takes.iter_mut().zip(given) {
            *takes = takes.or(*given);
        }
        Some(summary.gives)
    }

    /// A variable and what is asked of it.
    fn chain(&mut self, expr: &Expr, env: &mut Env) -> Type {
        let mut links = Vec::new();
        links_of(expr, &mut links);
        let Some((first, rest)) = links.split_first() else {
            return Type::ANY;
        };
        let mut here = Here {
            type_: match first.expr() {
                Expr::Variable(name, _, at) => {
                    self.variable(&name.1, &name.2.to_string(), *at, env)
                }
                other => self.expr(other, env),
            },
            path: path_of(first.expr()),
            safe: has_elvis(expr),
        };
        here.narrow(env);
        let mut breaks_off = false;
        for link in rest {
            breaks_off |= here.safe && here.type_.may_be_unit();
            here = self.follow(&here, *link, env);
            here.narrow(env);
        }
        if breaks_off && !here.type_.is_any() {
            here.type_ = here.type_.or(Type::UNIT);
            here.narrow(env);
        }
        here.type_
    }

    fn variable(&mut self, name: &str, namespace: &str, at: Position, env: &mut Env) -> Type {
        if namespace.is_empty() {
            let known = env.read(name);
            if known.is_none() && self.lenient && name != "this" {
                self.undeclared(name, at, env);
            }
            return known.unwrap_or(Type::ANY);
        }
        if let Some(type_) = self.constants.get(name) {
            return *type_;
        }
        let message = format!("there is no constant `{name}`");
        let meant = nearest(name, self.constants.keys().map(String::as_str));
        let finding = self.findings.error("unknown_variable", message, at);
        finding
            .hint(format!("write `const {name} = …;` outside functions"))
            .meaning(meant);
        Type::ANY
    }

    /// Tells of a name nobody declares, and what it is where it is that of a constant.
    pub(super) fn undeclared(&mut self, name: &str, at: Position, env: &Env) {
        let message = format!("there is no variable `{name}`");
        let finding = self.findings.error("unknown_variable", message, at);
        if self.constants.contains_key(name) {
            let global = format!("global::{name}");
            let hint = format!("a function sees the constant as `{global}`");
            finding.meaning(Some(&global)).hint(hint);
            return;
        }
        finding.meaning(nearest(name, env.names()));
    }

    fn follow(&mut self, here: &Here, link: Link, env: &mut Env) -> Here {
        let (type_, key) = match link {
            Link::Expr(Expr::Property(name, at)) => (
                self.property(here, &name.2, *at),
                Some(format!(".{}", name.2)),
            ),
            Link::Expr(Expr::MethodCall(call, at) | Expr::FnCall(call, at)) => {
                (self.method(here, call, *at, env), None)
            }
            Link::Index(index) => self.index(here, index, env),
            Link::Expr(other) => {
                self.expr(other, env);
                (Type::ANY, None)
            }
        };
        let path = here
            .path
            .as_ref()
            .zip(key)
            .map(|(path, key)| format!("{path}{key}"));
        Here {
            type_,
            path,
            safe: here.safe,
        }
    }

    fn property(&mut self, here: &Here, name: &str, at: Position) -> Type {
        let of = self.not_unit(here, at);
        if of.is_any() {
            return Type::ANY;
        }
        if of.kinds.meets(Kinds::MAP) {
            return self.field(of, name, at);
        }
        if !self.functions.has_property(of, name) {
            let message = format!("{} has no property `{name}`", of.kinds);
            let finding = self.findings.error("type", message, at);
            finding.hint("only maps have fields; functions are called with `()`");
        }
        Type::ANY
    }

    fn field(&mut self, of: Type, name: &str, at: Position) -> Type {
        let Some(shape) = of.shape else {
            return Type::ANY;
        };
        match shape.field(name) {
            Ok(type_) => type_,
            Err(message) => {
                let meant = nearest(name, shape.names());
                let finding = self.findings.error("unknown_field", message, at);
                let names: Vec<&str> = shape.names().collect();
                finding
                    .hint(format!("there are {}", names.join(", ")))
                    .meaning(meant);
                Type::ANY
            }
        }
    }

    fn index(&mut self, here: &Here, index: &Expr, env: &mut Env) -> (Type, Option<String>) {
        let by = self.expr(index, env);
        let at = index.start_position();
        let of = self.not_unit(here, at);
        if of.is_any() {
            return (Type::ANY, None);
        }
        let indexed = Kinds::MAP
            .or(Kinds::ARRAY)
            .or(Kinds::TEXT)
            .or(Kinds::INT)
            .or(Kinds::OTHER);
        if of.never(indexed) {
            let message = format!("{} cannot be indexed", of.kinds);
            self.findings
                .error("type", message, at)
                .hint("only maps, arrays and strings can");
            return (Type::ANY, None);
        }
        let takes = if of.kinds == Kinds::MAP {
            Kinds::TEXT
        } else {
            Kinds::INT.or(Kinds::RANGE)
        };
        if (of.kinds == Kinds::MAP || of.kinds == Kinds::ARRAY) && by.never(takes) {
            let message = format!("{} is indexed by {takes}, not by {}", of.kinds, by.kinds);
            self.findings
                .error("type", message, at)
                .hint(format!("give it {takes}"));
            return (Type::ANY, None);
        }
        match index {
            Expr::StringConstant(name, at) if of.kinds.meets(Kinds::MAP) => {
                let type_ = self.field(of, name, *at);
                let key = path_key(name);
                (type_, Some(key))
            }
            Expr::IntegerConstant(number, _) => (Type::ANY, Some(format!("[{number}]"))),
            _ => (Type::ANY, None),
        }
    }

    fn method(&mut self, here: &Here, call: &FnCallExpr, at: Position, env: &mut Env) -> Type {
        let mut given = vec![if here.safe {
            here.type_.without(Kinds::UNIT)
        } else {
            here.type_
        }];
        for arg in &call.args {
            given.push(self.expr(arg, env));
        }
        if BUILT_IN.contains(&call.name.as_str()) || !call.namespace.is_empty() {
            return built_in(&call.name);
        }
        if self.functions.is_own(&call.name, call.args.len()) && !self.knows(call) {
            return Type::ANY;
        }
        // A function of the script called on a value gets it as `this`, any other as its first argument.
        if let Some(type_) = self.own_call(call, &given[1..]) {
            return type_;
        }
        if let Some(type_) = self.own_call(call, &given) {
            return type_;
        }
        if self.is_call_of_field(here, call) {
            return Type::ANY;
        }
        let first = given[0];
        if first.may_be_unit()
            && first.kinds != Kinds::UNIT
            && !self.functions.takes(&call.name, given.len(), Kinds::UNIT)
        {
            given[0] = self.not_unit(here, at);
        }
        self.functions
            .call(&call.name, &given, at, &mut self.findings)
    }

    /// Whether the body of a function is at hand, as that of a script that is tested is not.
    fn knows(&self, call: &FnCallExpr) -> bool {
        let key = (call.name.to_string(), call.args.len());
        self.summaries.contains_key(&key)
    }

    /// A map that is not known may hold a closure under the name that is called.
    fn is_call_of_field(&self, here: &Here, call: &FnCallExpr) -> bool {
        here.type_.shape.is_none()
            && here.type_.kinds.meets(Kinds::MAP)
            && !here.type_.is_any()
            && !self.functions.is_known(&call.name)
    }

    /// The type something has where it is known; it is told if nobody asked.
    fn not_unit(&mut self, here: &Here, at: Position) -> Type {
        let type_ = here.type_;
        if here.safe || !type_.may_be_unit() {
            return type_.without(if type_.is_any() {
                Kinds::NONE
            } else {
                Kinds::UNIT
            });
        }
        let shown = here.path.as_deref().unwrap_or("this");
        if type_.kinds == Kinds::UNIT {
            let message = format!("`{shown}` is `()` here, which has nothing in it");
            let hint = "give it a value first";
            self.findings.error("type", message, at).hint(hint);
            return Type::ANY;
        }
        let message = format!("`{shown}` may be `()`, and then this fails");
        let hint = format!("ask `{shown} != ()` first");
        self.findings
            .warning("maybe_unknown", message, at)
            .hint(hint);
        type_.without(Kinds::UNIT)
    }
}

/// How far along a chain one has come.
struct Here {
    type_: Type,
    path: Option<String>,
    /// Whether the chain stops by itself at `()`.
    safe: bool,
}

impl Here {
    fn narrow(&mut self, env: &Env) {
        let known = self
            .path
            .as_ref()
            .is_some_and(|path| env.known.contains(path));
        if known && !self.type_.is_any() && self.type_.kinds != Kinds::UNIT {
            self.type_ = self.type_.without(Kinds::UNIT);
        }
    }
}

/// A key as [`path_of`] writes it.
fn path_key(name: &str) -> String {
    let word = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if word {
        format!(".{name}")
    } else {
        format!("[{name:?}]")
    }
}

fn has_elvis(expr: &Expr) -> bool {
    match expr {
        Expr::Dot(pair, flags, _) | Expr::Index(pair, flags, _) => {
            flags.contains(ASTFlags::NEGATED) || has_elvis(&pair.lhs) || has_elvis(&pair.rhs)
        }
        _ => false,
    }
}

fn built_in(name: &str) -> Type {
    match name {
        "type_of" | "debug" => Type::TEXT,
        "is_shared" | "is_def_fn" | "is_def_var" => Type::BOOL,
        "print" => Type::UNIT,
        "Fn" | "curry" => Type::of(Kinds::FN),
        _ => Type::ANY,
    }
}
