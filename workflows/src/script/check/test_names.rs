//! What a file of tests says by its names: which functions are tests, whose they are, and which steps they answer for.

use std::collections::BTreeSet;

use rhai::{ASTNode, Expr, FnCallExpr, Position, Stmt};

use super::{finding::Findings, functions::is_name, walk::constants_in};
use crate::script::{Script, nearest};

/// Looks the names of a file of tests over; `kinds` are the kinds of step a server knows.
pub(super) fn check(subject: &Script, tests: &Script, kinds: &[&str], findings: &mut Findings) {
    let used = names_used(tests);
    for function in tests.ast().iter_functions().filter(|f| is_name(f.name)) {
        let (name, takes) = (function.name, function.params.len());
        let at = place(tests, name);
        if subject.defines(name, takes) {
            let there = place(subject, name).line().unwrap_or_default();
            let message = format!(
                "`{name}` is a function of `{}`, line {there}, which this one would stand for in every test",
                subject.name()
            );
            let hint = "take this one out, or give it another name";
            findings.error("replaced_function", message, at).hint(hint);
        }
        match name.split_once('_').map(|(first, _)| first) {
            Some("test") => check_test(name, takes, at, findings),
            Some("case") => check_case(tests, name, takes, at, findings),
            Some("cases") => check_table(tests, name, takes, at, findings),
            _ if !used.contains(name) => check_slip(name, at, findings),
            _ => {}
        }
    }
    check_constants(subject, tests, findings);
    check_answers(subject, tests, kinds, findings);
}

/// In a test the constants of both are one, and `decide` and `run` keep the script's: what is called directly would be
/// given another value than they are.
fn check_constants(subject: &Script, tests: &Script, findings: &mut Findings) {
    let (of_subject, of_tests) = (subject.as_written(), tests.as_written());
    let of_subject: BTreeSet<&str> = constants_in(&of_subject)
        .map(|(name, _)| name.name.as_str())
        .collect();
    let taken = constants_in(&of_tests).map(|(name, _)| name);
    for name in taken.filter(|name| of_subject.contains(name.name.as_str())) {
        let message = format!(
            "`{}` is a constant of `{}`, which this one would stand for in some of what is tested",
            name.name,
            subject.name()
        );
        let hint = format!(
            "take this one out, for `global::{}` is there, or give it another name",
            name.name
        );
        findings
            .error("replaced_constant", message, name.pos)
            .hint(hint);
    }
}

fn check_test(name: &str, takes: usize, at: Position, findings: &mut Findings) {
    if takes > 0 {
        let message = format!("`{name}` takes something, and a test takes nothing: it never runs");
        let hint = "call it `case_…(row)` with a table `cases_…()`, or begin its name otherwise";
        findings.error("test_signature", message, at).hint(hint);
    }
}

fn check_case(tests: &Script, name: &str, takes: usize, at: Position, findings: &mut Findings) {
    let table = name.replacen("case_", "cases_", 1);
    if takes != 1 {
        let message = format!("`{name}` takes no row of a table: it never runs");
        let hint = format!("write `fn {name}(row)`, or `test_…` if there is no table");
        findings.error("test_signature", message, at).hint(hint);
    } else if !tests.defines(&table, 0) {
        let message = format!("`{name}` has no table: there is no `fn {table}()`");
        let hint = format!("write `fn {table}()`, which gives an array or a map of rows");
        findings.error("missing_table", message, at).hint(hint);
    }
}

fn check_table(tests: &Script, name: &str, takes: usize, at: Position, findings: &mut Findings) {
    let case = name.replacen("cases_", "case_", 1);
    if takes > 0 {
        let message = format!("`{name}` takes something, and a table takes nothing");
        let hint = format!("write `fn {name}()`");
        findings.error("test_signature", message, at).hint(hint);
    } else if !tests.ast().iter_functions().any(|f| f.name == case) {
        let message = format!("`{name}` is a table nothing takes the rows of: it never runs");
        let hint = format!("write `fn {case}(row)`");
        findings.error("missing_case", message, at).hint(hint);
    }
}

/// A function nobody calls whose name begins almost like that of a test.
fn check_slip(name: &str, at: Position, findings: &mut Findings) {
    const BEGINNINGS: [&str; 3] = ["test", "case", "cases"];
    let (first, rest) = name.split_once('_').unwrap_or((name, ""));
    let lower = first.to_lowercase();
    let grown = || {
        let begins = |word: &&&str| lower.starts_with(**word);
        BEGINNINGS.iter().rev().find(begins).copied()
    };
    let Some(word) = nearest(&lower, BEGINNINGS).or_else(grown) else {
        return;
    };
    let rest = match rest {
        "" => first.get(word.len()..).unwrap_or_default(),
        rest => rest,
    };
    let meant = format!("{word}_{}", rest.trim_start_matches('_'));
    let message = format!("nothing calls `{name}`, and its name does not make it a test");
    let finding = findings.warning("not_a_test", message, at);
    finding.meaning(Some(&meant));
}

/// An answer for a step that neither the script nor a server knows is never asked for.
fn check_answers(subject: &Script, tests: &Script, kinds: &[&str], findings: &mut Findings) {
    let asked = texts(subject);
    for (kind, at) in answered(tests) {
        if asked.contains(&kind) || kinds.contains(&kind.as_str()) {
            continue;
        }
        let known = kinds.iter().copied();
        let meant = nearest(&kind, known.chain(asked.iter().map(String::as_str)));
        let message = format!("there is no kind of step `{kind}`, so nothing asks for this");
        findings.error("unknown_kind", message, at).meaning(meant);
    }
}

/// The kinds of step that tests say the answer of.
fn answered(tests: &Script) -> Vec<(String, Position)> {
    let mut kinds = Vec::new();
    tests.as_written().walk(&mut |path| {
        let call: Option<&FnCallExpr> = match path.last() {
            Some(ASTNode::Stmt(Stmt::FnCall(call, _)) | ASTNode::Expr(Expr::FnCall(call, _))) => {
                Some(call)
            }
            _ => None,
        };
        if let Some(call) = call
            && call.name == "on_step"
            && let Some(Expr::StringConstant(kind, at)) = call.args.first()
        {
            kinds.push((kind.to_string(), *at));
        }
        true
    });
    kinds
}

fn texts(script: &Script) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    script.as_written().walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::StringConstant(text, _))) = path.last() {
            texts.insert(text.to_string());
        }
        true
    });
    texts
}

/// Every name that is called, and every text, as it may hand a function on.
fn names_used(script: &Script) -> BTreeSet<String> {
    let mut names = texts(script);
    script.as_written().walk(&mut |path| {
        match path.last() {
            Some(
                ASTNode::Stmt(Stmt::FnCall(call, _))
                | ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _)),
            ) => {
                names.insert(call.name.to_string());
            }
            Some(ASTNode::Expr(Expr::Variable(name, ..))) => {
                names.insert(name.1.to_string());
            }
            _ => {}
        }
        true
    });
    names
}

/// Where the name of a function is written.
pub(in crate::script) fn place(script: &Script, function: &str) -> Position {
    for (line, text) in (1_usize..).zip(script.source().lines()) {
        let Some((before, rest)) = text.split_once("fn ") else {
            continue;
        };
        let spaces = rest.len() - rest.trim_start().len();
        let name = rest.trim_start().strip_prefix(function);
        if name.is_some_and(|rest| rest.trim_start().starts_with('(')) {
            let column = before.chars().count() + "fn ".len() + spaces + 1;
            let line = u16::try_from(line).unwrap_or(u16::MAX);
            return Position::new(line, u16::try_from(column).unwrap_or(u16::MAX));
        }
    }
    Position::NONE
}
