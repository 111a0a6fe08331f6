//! Calls: does the function exist, with so many arguments, of such types; and what does it give?

use std::collections::{BTreeMap, BTreeSet};

use rhai::{Engine, Position};

use super::{
    finding::Findings,
    steps,
    types::{Kinds, Type, of_parameter, of_result},
};
use crate::script::{Limits, Script, limited_engine, nearest, register_for_checks};

/// Names the language itself calls.
pub(super) const BUILT_IN: [&str; 12] = [
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

/// A native function.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) takes: Vec<Kinds>,
    pub(super) gives: Type,
}

/// Every function a script can call, but for its own bodies.
pub(super) struct Functions {
    native: BTreeMap<String, Vec<Signature>>,
    own: BTreeSet<(String, usize)>,
}

impl Functions {
    /// Those of the packages, of the script itself, and of a workflow if it is one.
    pub(super) fn of(script: &Script, workflow: bool) -> Self {
        let engine = limited_engine(&Limits::batch());
        Self::on(&engine, [script], steps::functions(workflow))
    }

    /// Those of the packages and of tests, and both those of the tests and those of what they test.
    pub(super) fn of_tests(subject: &Script, tests: &Script) -> Self {
        let mut engine = limited_engine(&Limits::test());
        register_for_checks(&mut engine);
        Self::on(&engine, [subject, tests], Vec::new())
    }

    fn on<const N: usize>(
        engine: &Engine,
        scripts: [&Script; N],
        more: Vec<(String, Signature)>,
    ) -> Self {
        let mut native: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
        let all = engine.collect_fn_metadata(
            None,
            |f| {
                let takes = f.metadata.param_types.iter().map(|id| of_parameter(*id));
                let signature = Signature {
                    takes: takes.collect(),
                    gives: of_result(&f.metadata.return_type),
                };
                Some((f.metadata.name.to_string(), signature))
            },
            true,
        );
        for (name, signature) in all.into_iter().chain(more) {
            native.entry(name).or_default().push(signature);
        }
        let own = scripts.iter().flat_map(|s| s.ast().iter_functions());
        Self {
            native,
            own: own.map(|f| (f.name.to_owned(), f.params.len())).collect(),
        }
    }

    pub(super) fn is_own(&self, name: &str, arguments: usize) -> bool {
        self.own.contains(&(name.to_owned(), arguments))
    }

    /// Whether a native function of this name takes so many arguments, the first of them of such a kind.
    pub(super) fn takes(&self, name: &str, count: usize, first: Kinds) -> bool {
        let signatures = self.native.get(name).into_iter().flatten();
        let mut fitting = signatures.filter(|s| s.takes.len() == count);
        fitting.any(|s| s.takes.first().is_some_and(|takes| takes.meets(first)))
    }

    /// Whether there is any function of this name.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.native.contains_key(name) || self.own.iter().any(|(own, _)| own == name)
    }

    /// Names of the script's own functions.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &str> {
        let written = self.own.iter().map(|(name, _)| name.as_str());
        written.filter(|name| is_name(name))
    }

    /// Whether a value of such a type has a property of this name that is no field of a map.
    pub(super) fn has_property(&self, of: Type, name: &str) -> bool {
        let getters = self.native.get(&format!("get${name}"));
        getters.is_some_and(|all| {
            all.iter()
                .any(|g| g.takes.first().is_some_and(|k| k.meets(of.kinds)))
        })
    }

    /// Looks a call up that is none of a function of the script; `arguments` has what it is called on in front.
    pub(super) fn call(
        &self,
        name: &str,
        arguments: &[Type],
        position: Position,
        findings: &mut Findings,
    ) -> Type {
        // Of the script that is tested nothing is known but its functions' names and parameters.
        if self.is_own(name, arguments.len()) {
            return Type::ANY;
        }
        let Some(signatures) = self.native.get(name) else {
            self.unknown(name, arguments.len(), position, findings);
            return Type::ANY;
        };
        let mut fitting = signatures
            .iter()
            .filter(|s| s.takes.len() == arguments.len())
            .peekable();
        if fitting.peek().is_none() {
            self.wrong_count(name, arguments.len(), position, findings);
            return Type::ANY;
        }
        let signatures: Vec<&Signature> = fitting.collect();
        let taken: Vec<&&Signature> = signatures.iter().filter(|s| s.takes(arguments)).collect();
        if taken.is_empty() {
            wrong_types(name, arguments, &signatures, position, findings);
            return Type::ANY;
        }
        taken.iter().fold(Type::NONE, |type_, s| type_.or(s.gives))
    }

    fn unknown(&self, name: &str, given: usize, position: Position, findings: &mut Findings) {
        if self.own.iter().any(|(own, _)| own == name) {
            self.wrong_count(name, given, position, findings);
            return;
        }
        let names = self
            .native
            .keys()
            .map(String::as_str)
            .chain(self.own_names());
        // It is dear, and what is one too many has no hint.
        let meant = (!findings.is_full()).then(|| nearest(name, names.filter(|n| is_name(n))));
        let meant = meant.flatten();
        let message = format!("there is no function `{name}`");
        findings
            .error("unknown_function", message, position)
            .meaning(meant);
    }

    fn wrong_count(&self, name: &str, given: usize, position: Position, findings: &mut Findings) {
        let native = self
            .native
            .get(name)
            .into_iter()
            .flatten()
            .map(|s| s.takes.len());
        let own = self
            .own
            .iter()
            .filter(|(own, _)| own == name)
            .map(|(_, count)| *count);
        let counts: BTreeSet<usize> = native.chain(own).collect();
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let takes = counts.join(" or ");
        let message = format!("`{name}` takes {takes} arguments, not {given}");
        let hint = format!("give it {takes}");
        findings
            .error("wrong_arguments", message, position)
            .hint(hint);
    }
}

impl Signature {
    fn takes(&self, arguments: &[Type]) -> bool {
        let pairs = self.takes.iter().zip(arguments);
        pairs.into_iter().all(|(takes, given)| !given.never(*takes))
    }
}

fn wrong_types(
    name: &str,
    arguments: &[Type],
    signatures: &[&Signature],
    position: Position,
    findings: &mut Findings,
) {
    // The first argument that no signature takes is what is wrong; else it is how they go together.
    let wrong = (0..arguments.len()).find_map(|at| {
        let takes = signatures
            .iter()
            .fold(Kinds::NONE, |all, s| all.or(s.takes[at]));
        arguments[at]
            .never(takes)
            .then_some((at, takes.without(Kinds::OTHER)))
    });
    let (message, hint) = match wrong {
        Some((0, takes)) => (
            format!("`{name}` is for {takes}, not for {}", arguments[0].kinds),
            format!("call it on {takes}"),
        ),
        Some((at, takes)) => (
            format!(
                "argument {} of `{name}` is {takes}, not {}",
                at + 1,
                arguments[at].kinds
            ),
            format!("give it {takes}"),
        ),
        None => {
            let given: Vec<String> = arguments.iter().map(|a| a.kinds.to_string()).collect();
            let message = format!("`{name}` does not go with {}", given.join(" and "));
            (message, "see the definitions for what it takes".to_owned())
        }
    };
    findings.error("type", message, position).hint(hint);
}

/// Whether a function's name is one a person writes, and no operator.
pub(super) fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == '_')
}
