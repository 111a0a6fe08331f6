//! The scripts that come with the server; they go through the same doors as anybody's.

/// A script that comes with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
    /// Its tests.
    pub tests: &'static str,
}

macro_rules! shipped {
    ($folder:literal, $name:literal) => {
        Shipped {
            name: $name,
            source: include_str!(concat!("../../", $folder, "/", $name, ".rhai")),
            tests: include_str!(concat!("../../", $folder, "/", $name, "_test.rhai")),
        }
    };
}

/// The workflows in `workflows/library`.
pub const WORKFLOWS: [Shipped; 3] = [
    shipped!("library", "relieve_asset"),
    shipped!("library", "replace_part"),
    shipped!("library", "train_model"),
];

/// The policies in `workflows/policies`.
pub const POLICIES: [Shipped; 1] = [shipped!("policies", "allocation")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        script::{Script, StepInput, policy_findings, run_tests, workflow_findings},
        steps::registry,
    };

    /// Its script and how much of it its tests ran, both lines and branches, per cent.
    fn passes(shipped: &Shipped) -> (Script, f64) {
        let script = Script::compile(shipped.name, shipped.source).expect(shipped.name);
        let tests =
            Script::compile(&format!("{}_test", shipped.name), shipped.tests).expect(shipped.name);
        let report = run_tests(&script, &tests, None).expect("tests run");
        let failed: Vec<String> = report
            .tests
            .iter()
            .filter_map(|t| t.failure.as_ref().map(|f| format!("{}: {f}", t.name)))
            .collect();
        assert!(report.passed(), "{failed:#?}");
        let coverage = &report.coverage;
        (
            script,
            coverage.lines_percent().min(coverage.branches_percent()),
        )
    }

    #[test]
    fn shipped_workflows_pass_their_checks_and_tests() {
        for shipped in &WORKFLOWS {
            let (script, covered) = passes(shipped);
            assert!(covered >= 75.0, "{}: {covered}", shipped.name);
            let steps = StepInput::all(&registry());
            assert_eq!(workflow_findings(&script, &steps), [], "{}", shipped.name);
        }
    }

    #[test]
    fn shipped_policies_pass_their_checks_and_tests() {
        for shipped in &POLICIES {
            let (script, covered) = passes(shipped);
            assert!(covered >= 100.0, "{}: {covered}", shipped.name);
            assert_eq!(policy_findings(&script), [], "{}", shipped.name);
        }
    }

    #[test]
    fn every_script_of_the_folders_is_shipped() {
        for (folder, shipped) in [("library", &WORKFLOWS[..]), ("policies", &POLICIES[..])] {
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .expect("folder")
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter_map(|name| name.strip_suffix(".rhai").map(ToOwned::to_owned))
                .filter(|name| !name.ends_with("_test"))
                .collect();
            found.sort();
            let names: Vec<&str> = shipped.iter().map(|s| s.name).collect();
            assert_eq!(found, names);
        }
    }

    #[test]
    fn a_failing_test_names_its_line_and_a_broken_script_its_own() {
        let script =
            Script::compile("p", "fn decide(facts) {\n\n  facts.nothing\n}").expect("compiles");
        let tests = "fn test_a() {\n  assert_eq(1, 2);\n}\nfn test_b() { decide(#{}); }\nfn test_c() { assert_eq(1, 1.0); }";
        let tests = Script::compile("p_test", tests).expect("compiles");
        let report = run_tests(&script, &tests, None).expect("tests run");
        let failures: Vec<Option<String>> = report
            .tests
            .iter()
            .map(|t| t.failure.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(failures[0].as_deref(), Some("p_test:2:3: 1 is not 2"));
        assert!(
            failures[1]
                .as_deref()
                .is_some_and(|f| f.starts_with("p:3:")),
            "{failures:?}"
        );
        assert_eq!(failures[2], None);
        assert!(!report.passed());
    }
}
