//! What of the facts a script is given: those its text names, or all of them where it might look at others.

use rhai::{Dynamic, Map};

use super::Facts;
use super::facts::FACTS;
use crate::script::Script;

/// The facts a script is given.
///
/// Most policies read a few of them, and turning the rest into values would take longer than the decision. The map is
/// made once with its names and copied, which is several times quicker than to build it anew.
pub(super) struct Given {
    empty: Map,
    read: Vec<fn(&Facts) -> Dynamic>,
}

impl Given {
    /// What `fn decide(…)` of a script may look at.
    pub(super) fn to(script: &Script) -> Self {
        let functions = script.ast().iter_functions();
        let mut parameters = functions
            .filter(|f| f.name == "decide" && f.params.len() == 1)
            .flat_map(|f| f.params);
        let named = parameters
            .next()
            .and_then(|parameter| fields_named(script.source(), parameter));
        let is_given = |name: &str| named.as_ref().is_none_or(|named| named.contains(&name));
        let given = FACTS.iter().filter(|(name, _)| is_given(name));
        Self {
            empty: given
                .clone()
                .map(|(name, _)| ((*name).into(), Dynamic::UNIT))
                .collect(),
            // In the order of the map's names.
            read: given.map(|(_, read)| *read).collect(),
        }
    }

    /// The facts as the script sees them.
    pub(super) fn facts(&self, facts: &Facts) -> Dynamic {
        let mut map = self.empty.clone();
        for (value, read) in map.values_mut().zip(&self.read) {
            *value = read(facts);
        }
        map.into()
    }
}

/// Every field a text asks a variable for; nothing where it may do something else with it.
///
/// It goes by the text, not the tree, so that there is no kind of expression it could overlook: wherever the variable's
/// name stands a field has to follow, but once, where it is declared. A name in a comment or a string counts as well.
fn fields_named<'a>(source: &'a str, variable: &str) -> Option<Vec<&'a str>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut fields = Vec::new();
    let mut bare = 0;
    for (at, _) in source.match_indices(variable) {
        let rest = &source[at + variable.len()..];
        if source[..at].ends_with(is_word) || rest.starts_with(is_word) {
            continue;
        }
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('?').unwrap_or(rest);
        let field = rest.strip_prefix('.').map(str::trim_start);
        let field =
            field.map(|rest| rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len())));
        match field {
            Some((field, behind)) if !field.is_empty() && !behind.trim_start().starts_with('(') => {
                fields.push(field);
            }
            _ => bare += 1,
        }
    }
    (bare == 1).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::policy::{Decider, fact_names};
    use crate::script::Limits;

    fn given(source: &str) -> Vec<String> {
        let script = Script::compile("p", source).expect("compiles");
        let given = Given::to(&script);
        assert_eq!(given.empty.len(), given.read.len());
        given.empty.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_script_is_given_what_it_names() {
        for (body, named) in [
            ("facts.kind", &["kind"][..]),
            ("facts?.kind ?? facts\n  . part", &["kind", "part"]),
            ("`${facts.kind} ${facts.fps[\"7d\"]}`", &["fps", "kind"]),
            (
                "let n = 3; [1].map(|x| x + facts.dependents + n)",
                &["dependents"],
            ),
            ("let y = loop { break facts.kind; }; y", &["kind"]),
            ("facts.state = \"x\"; facts.state", &["state"]),
            ("facts.unheard_of", &[]),
            ("my_facts(1).kind", &[]),
        ] {
            let source =
                format!("fn decide(facts) {{ {body} }} fn my_facts(n) {{ #{{ kind: n }} }}");
            assert_eq!(given(&source), named, "{body}");
        }
        assert_eq!(given("fn decide(f) { f.kind }"), ["kind"]);
    }

    #[test]
    fn a_script_that_may_look_at_anything_is_given_everything() {
        for body in [
            "facts",
            "let f = facts; f.kind",
            "facts[\"kind\"]",
            "facts.keys()",
            "facts.len ()",
            "\"kind\" in facts",
            "helper(facts)",
            "facts /* then */ .kind",
            "let found = loop { break facts; }; found.kind",
            "switch facts { _ => 1 }",
            "`${facts}`",
            "// other facts\n facts.kind",
        ] {
            let source = format!("fn decide(facts) {{ {body} }} fn helper(f) {{ f.state }}");
            assert_eq!(given(&source), fact_names(), "{body}");
        }
        let source = "fn decide(facts) { facts.kind } fn helper(facts) { facts.state }";
        assert_eq!(given(source), fact_names());
    }

    #[test]
    fn what_is_not_given_is_not_missed() {
        let named = "fn decide(facts) { #{ action: \"monitor\", reason: `${facts.kind} ${facts.anomaly == ()} ${facts.fps[\"7d\"]}` } }";
        let all = format!("{named} fn other(facts) {{ }}");
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps.insert("7d".into(), 0.25);
        let [few, many] = [named, &all].map(|source| {
            let script = Script::compile("p", source).expect("compiles");
            Decider::new(&script, &Limits::decision()).decide(&facts)
        });
        assert_eq!(few, many);
        assert_eq!(
            few.expect("decided").decision.reason(),
            "fan_tray true 0.25"
        );
    }
}
