//! The places of a script worth telling about while it runs: its statements, what they read, and where they branch.

use std::collections::HashMap;

use rhai::{ASTFlags, ASTNode, Array, Dynamic, Expr, Map, Position, Stmt, StmtBlock};
use serde::{Deserialize, Serialize};

use super::Script;

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceWhat {
    /// `if`.
    If,
    /// `switch`.
    Switch,
    /// `while`, `until` or `loop`.
    While,
    /// `for`.
    For,
    /// `let`.
    Let,
    /// `const`.
    Const,
    /// `=`, `+=` and the like.
    Assign,
    /// `return`.
    Return,
    /// `throw`.
    Throw,
    /// `break` and `continue`.
    Break,
    /// `try`.
    Try,
    /// A call that stands alone.
    Call,
    /// An expression; as the last of its block it is what the block gives.
    Value,
}

/// A statement of a script.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) what: TraceWhat,
    pub(crate) position: Position,
    pub(crate) reads: Vec<Read>,
    pub(crate) arms: Vec<Arm>,
    /// The arm taken when none of the others is entered: a missing `else`, a loop that has nothing to go over.
    pub(crate) fallthrough: Option<usize>,
}

impl Site {
    /// Line, from 1; 0 where it has none.
    pub(crate) fn line(&self) -> u32 {
        line_of(self.position).unwrap_or_default()
    }

    /// Column, from 1; 0 where it has none.
    pub(crate) fn column(&self) -> u32 {
        let column = self.position.position().and_then(|c| u32::try_from(c).ok());
        column.unwrap_or_default()
    }
}

fn line_of(position: Position) -> Option<u32> {
    position.line().and_then(|line| u32::try_from(line).ok())
}

/// One way on from a statement that branches.
#[derive(Debug, Clone)]
pub(crate) struct Arm {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The line it begins at, where it is written.
    pub(crate) line: Option<u32>,
    /// Whether taking it means that the condition held, or that a case fitted.
    pub(crate) holds: bool,
}

/// A variable, or a field of one, as the script writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) root: Root,
    pub(crate) path: Vec<Key>,
}

/// Where a read begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Root {
    Variable(String),
    Constant(String),
}

/// A step from a value to one in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Field(String),
    Index(i64),
}

impl Read {
    /// Has a look at the value read, from that of its root; `None` where there is none.
    pub(crate) fn look<T>(&self, root: &Dynamic, see: impl FnOnce(&Dynamic) -> T) -> Option<T> {
        look_along(root, &self.path, see)
    }
}

fn look_along<T>(value: &Dynamic, path: &[Key], see: impl FnOnce(&Dynamic) -> T) -> Option<T> {
    let Some((key, rest)) = path.split_first() else {
        return Some(see(value));
    };
    match key {
        Key::Field(name) => {
            let fields = value.read_lock::<Map>()?;
            look_along(fields.get(name.as_str())?, rest, see)
        }
        Key::Index(index) => {
            let items = value.read_lock::<Array>()?;
            let index = match usize::try_from(*index) {
                Ok(index) => index,
                Err(_) => items
                    .len()
                    .checked_add_signed(isize::try_from(*index).ok()?)?,
            };
            look_along(items.get(index)?, rest, see)
        }
    }
}

/// All sites of a script's functions, found by the nodes the engine comes by.
///
/// Nodes are known by their addresses, which stay what they are as long as the script's tree is alive.
#[derive(Debug)]
pub(crate) struct Sites {
    /// Keeps the tree alive whose addresses are kept.
    _script: Script,
    all: Vec<Site>,
    by_node: HashMap<usize, usize>,
    arms: HashMap<usize, (usize, usize)>,
}

impl Sites {
    /// Those of a script.
    pub(crate) fn of(script: &Script) -> Self {
        let mut sites = Self {
            _script: script.clone(),
            all: Vec::new(),
            by_node: HashMap::new(),
            arms: HashMap::new(),
        };
        let constants = script.ast().statements().len();
        let mut top = 0;
        script.ast().walk(&mut |path| {
            top += usize::from(path.len() == 1);
            // Constants come first; they run before every call and branch nowhere.
            if top > constants
                && let Some(ASTNode::Stmt(statement)) = path.last()
            {
                sites.add(statement);
            }
            true
        });
        sites
    }

    /// All of them, in no particular order.
    pub(crate) fn all(&self) -> &[Site] {
        &self.all
    }

    /// The site at a node.
    pub(crate) fn at(&self, node: ASTNode) -> Option<(usize, &Site)> {
        let site = *self.by_node.get(&address(node))?;
        Some((site, &self.all[site]))
    }

    /// The site of which a node begins an arm, and which arm.
    pub(crate) fn arm_at(&self, node: ASTNode) -> Option<(usize, usize)> {
        self.arms.get(&address(node)).copied()
    }

    fn add(&mut self, statement: &Stmt) {
        let Some((what, position, node)) = told(statement) else {
            return;
        };
        let mut reads = Vec::new();
        for expr in own_expressions(statement) {
            reads_of(expr, &mut reads);
        }
        let site = self.all.len();
        let (arms, fallthrough) = self.arms_of(site, statement);
        self.by_node.insert(node, site);
        self.all.push(Site {
            what,
            position,
            reads,
            arms,
            fallthrough,
        });
    }

    fn arms_of(&mut self, site: usize, statement: &Stmt) -> (Vec<Arm>, Option<usize>) {
        let mut arms = Vec::new();
        let mut silent = Vec::new();
        let mut arm = |name, holds, at: Position, entry: Option<usize>| {
            match entry {
                Some(node) => {
                    self.arms.insert(node, (site, arms.len()));
                }
                None => silent.push(arms.len()),
            }
            let line = line_of(at);
            arms.push(Arm { name, line, holds });
        };
        match statement {
            Stmt::If(flow, _) => {
                arm("then", true, flow.body.position(), entry(&flow.body));
                arm("else", false, flow.branch.position(), entry(&flow.branch));
            }
            Stmt::Switch(switch, _) => {
                let (_, cases) = &**switch;
                for (index, case) in cases.expressions.iter().enumerate() {
                    let fits = cases.def_case != Some(index);
                    let name = if fits { "case" } else { "default" };
                    arm(name, fits, case.rhs.start_position(), expr_entry(&case.rhs));
                }
                if cases.def_case.is_none() {
                    arm("default", false, Position::NONE, None);
                }
            }
            Stmt::While(flow, _) if !matches!(flow.expr, Expr::Unit(_)) => {
                arm("body", true, flow.body.position(), entry(&flow.body));
                arm("skipped", false, Position::NONE, None);
            }
            Stmt::For(parts, _) => {
                arm("body", true, parts.2.body.position(), entry(&parts.2.body));
                arm("skipped", false, Position::NONE, None);
            }
            _ => {}
        }
        // With two silent arms nobody can tell which was taken.
        let fallthrough = (silent.len() == 1).then(|| silent[0]);
        (arms, fallthrough)
    }
}

/// What a statement is told as, where, and by which node; `None` for what is only a bracket around others.
fn told(statement: &Stmt) -> Option<(TraceWhat, Position, usize)> {
    let what = match statement {
        Stmt::If(..) => TraceWhat::If,
        Stmt::Switch(..) => TraceWhat::Switch,
        Stmt::While(..) | Stmt::Do(..) => TraceWhat::While,
        Stmt::For(..) => TraceWhat::For,
        Stmt::Var(_, flags, _) if flags.contains(ASTFlags::CONSTANT) => TraceWhat::Const,
        Stmt::Var(..) => TraceWhat::Let,
        Stmt::Assignment(parts) => {
            let position = parts.1.lhs.start_position();
            return Some((TraceWhat::Assign, position, statement_address(statement)));
        }
        Stmt::Return(_, flags, _) if flags.contains(ASTFlags::BREAK) => TraceWhat::Throw,
        Stmt::Return(..) => TraceWhat::Return,
        Stmt::BreakLoop(..) => TraceWhat::Break,
        Stmt::TryCatch(..) => TraceWhat::Try,
        Stmt::FnCall(..) => TraceWhat::Call,
        Stmt::Expr(expr) if matches!(**expr, Expr::Stmt(_)) => return None,
        // The engine passes such a statement over and comes by its expression alone.
        Stmt::Expr(expr) => {
            let position = expr.start_position();
            return Some((TraceWhat::Value, position, expr_address(expr)));
        }
        _ => return None,
    };
    Some((what, statement.position(), statement_address(statement)))
}

/// The expressions a statement works out itself, without those of statements in it.
pub(crate) fn own_expressions(statement: &Stmt) -> Vec<&Expr> {
    match statement {
        Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..) => vec![&flow.expr],
        Stmt::For(parts, _) => vec![&parts.2.expr],
        Stmt::Switch(parts, _) => {
            let cases = parts.1.expressions.iter().map(|case| &case.lhs);
            std::iter::once(&parts.0).chain(cases).collect()
        }
        Stmt::Var(parts, ..) => vec![&parts.1],
        Stmt::Assignment(parts) if parts.0.is_op_assignment() => vec![&parts.1.lhs, &parts.1.rhs],
        Stmt::Assignment(parts) => vec![&parts.1.rhs],
        Stmt::FnCall(call, _) => call.args.iter().collect(),
        Stmt::Expr(expr) => vec![expr],
        Stmt::Return(Some(expr), ..) | Stmt::BreakLoop(Some(expr), ..) => vec![expr],
        _ => Vec::new(),
    }
}

/// What an expression reads, without what statements in it do.
fn reads_of(expr: &Expr, reads: &mut Vec<Read>) {
    match expr {
        Expr::Variable(..) | Expr::Dot(..) | Expr::Index(..) => chain_of(expr, reads),
        Expr::FnCall(call, _) | Expr::MethodCall(call, _) => {
            call.args.iter().for_each(|arg| reads_of(arg, reads));
        }
        Expr::And(parts, _) | Expr::Or(parts, _) | Expr::Coalesce(parts, _) => {
            parts.iter().for_each(|part| reads_of(part, reads));
        }
        Expr::InterpolatedString(parts, _) | Expr::Array(parts, _) => {
            parts.iter().for_each(|part| reads_of(part, reads));
        }
        Expr::Map(fields, _) => fields
            .0
            .iter()
            .for_each(|(_, field)| reads_of(field, reads)),
        _ => {}
    }
}

/// `a`, `a.b`, `a["b"].c`, and what stands in its brackets and calls.
fn chain_of(expr: &Expr, reads: &mut Vec<Read>) {
    let mut links = Vec::new();
    links_of(expr, &mut links);
    let Some((Link::Expr(first), rest)) = links.split_first() else {
        return;
    };
    let mut read = root_of(first);
    if read.is_none() {
        reads_of(first, reads);
    }
    for link in rest {
        match (link.key(), &mut read) {
            (Some(key), Some(read)) => read.push(key),
            (Some(_), None) => {}
            (None, _) => {
                reads.extend(read.take());
                reads_of(link.expr(), reads);
            }
        }
    }
    reads.extend(read);
}

/// A link of a chain: what stands before the first dot, a property or a call after one, or what stands in brackets.
#[derive(Clone, Copy)]
pub(crate) enum Link<'a> {
    Expr(&'a Expr),
    Index(&'a Expr),
}

impl<'a> Link<'a> {
    pub(crate) const fn expr(self) -> &'a Expr {
        match self {
            Self::Expr(expr) | Self::Index(expr) => expr,
        }
    }

    /// The key it is, where it is literal.
    fn key(self) -> Option<Key> {
        match self {
            Self::Expr(Expr::Property(name, _)) => Some(Key::Field(name.2.to_string())),
            Self::Index(Expr::StringConstant(name, _)) => Some(Key::Field(name.to_string())),
            Self::Index(Expr::IntegerConstant(index, _)) => Some(Key::Index(*index)),
            _ => None,
        }
    }
}

/// The links of a chain in the order they are written.
pub(crate) fn links_of<'a>(expr: &'a Expr, links: &mut Vec<Link<'a>>) {
    let (mut rest, mut bracket) = (expr, false);
    loop {
        let link = |expr| {
            if bracket {
                Link::Index(expr)
            } else {
                Link::Expr(expr)
            }
        };
        // The engine hangs a chain's links to the right; `BREAK` says that the right side ends it.
        let (pair, flags, opens) = match rest {
            Expr::Dot(pair, flags, _) => (pair, flags, false),
            Expr::Index(pair, flags, _) => (pair, flags, true),
            last => {
                links.push(link(last));
                return;
            }
        };
        match &pair.lhs {
            inner @ (Expr::Dot(..) | Expr::Index(..)) if !bracket => links_of(inner, links),
            left => links.push(link(left)),
        }
        if flags.contains(ASTFlags::BREAK) {
            let last = &pair.rhs;
            links.push(if opens {
                Link::Index(last)
            } else {
                Link::Expr(last)
            });
            return;
        }
        (rest, bracket) = (&pair.rhs, opens);
    }
}

/// A variable, or a field of one, as the script writes it; `None` for what is more than that.
pub(crate) fn path_of(expr: &Expr) -> Option<String> {
    let mut links = Vec::new();
    links_of(expr, &mut links);
    let (first, rest) = links.split_first()?;
    let mut read = root_of(first.expr())?;
    for link in rest {
        read.push(link.key()?);
    }
    Some(read.text)
}

fn root_of(expr: &Expr) -> Option<Read> {
    let Expr::Variable(name, ..) = expr else {
        return None;
    };
    let (text, root) = if name.2.is_empty() {
        (name.1.to_string(), Root::Variable(name.1.to_string()))
    } else {
        let text = format!("{}::{}", name.2, name.1);
        (text, Root::Constant(name.1.to_string()))
    };
    Some(Read {
        text,
        root,
        path: Vec::new(),
    })
}

impl Read {
    fn push(&mut self, key: Key) {
        match &key {
            Key::Field(name) if is_word(name) => {
                self.text.push('.');
                self.text.push_str(name);
            }
            Key::Field(name) => self.text.push_str(&format!("[{name:?}]")),
            Key::Index(index) => self.text.push_str(&format!("[{index}]")),
        }
        self.path.push(key);
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The node the engine comes by first in a block; `None` where it comes by none.
fn entry(block: &StmtBlock) -> Option<usize> {
    match block.statements().first()? {
        Stmt::Expr(expr) => expr_entry(expr),
        statement => Some(statement_address(statement)),
    }
}

fn expr_entry(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Stmt(block) => entry(block),
        expr => Some(expr_address(expr)),
    }
}

fn address(node: ASTNode) -> usize {
    match node {
        ASTNode::Stmt(statement) => statement_address(statement),
        ASTNode::Expr(expr) => expr_address(expr),
        _ => 0,
    }
}

fn statement_address(statement: &Stmt) -> usize {
    std::ptr::from_ref(statement).addr()
}

fn expr_address(expr: &Expr) -> usize {
    std::ptr::from_ref(expr).addr()
}
