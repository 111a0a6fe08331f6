//! The Rhai engine with every limit set, and scripts compiled by it.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU32, Ordering},
};

use rhai::{
    AST, Dynamic, Engine, EvalAltResult, Module, OptimizationLevel, Position, Shared,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage,
        BasicMapPackage, BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage,
        Package,
    },
};

use super::{Panicked, ScriptError, StopFlag, memory, on_big_stack, test::Watching, value};

/// How often, in operations, a running script looks at the stop flag.
const STOP_MASK: u64 = 0xff;

/// What a script may use at most.
///
/// Sizes are held against every value a function or an operator makes; what is piled up by putting values into maps
/// and arrays by index is held against `cells` from time to time. Time is bounded by `stop` alone, for one operation
/// may copy a large value.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Operations of one evaluation: a statement, an expression or a call each.
    pub operations: u64,
    /// Depth of function calls.
    pub call_levels: usize,
    /// Nesting of expressions outside functions.
    pub expression_depth: usize,
    /// Nesting of expressions in functions.
    pub function_expression_depth: usize,
    /// Bytes of one string.
    pub string_bytes: usize,
    /// Items of one array, nested ones included.
    pub array_items: usize,
    /// Entries of one map, nested ones included.
    pub map_entries: usize,
    /// Values, and 16-byte pieces of text, that the function at work holds altogether.
    pub cells: usize,
    /// Variables alive at once.
    pub variables: usize,
    /// Functions of one script.
    pub functions: usize,
    /// Bytes of the text of one script.
    pub source_bytes: usize,
    /// Entries of one journal.
    pub journal_entries: usize,
    /// Raised from outside to stop a script that has had its time; there is no clock in here.
    pub stop: Option<StopFlag>,
    /// Called now and then by a script that `stop` can stop; it may wait, so that others get on.
    pub pause: Option<Pause>,
}

/// What a script calls now and then, on the thread it runs on.
#[derive(Clone)]
pub struct Pause(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pause")
    }
}

impl Limits {
    /// For one decision.
    #[must_use]
    pub fn decision() -> Self {
        Self {
            operations: 200_000,
            call_levels: 32,
            expression_depth: 48,
            function_expression_depth: 24,
            string_bytes: 64 << 10,
            array_items: 10_000,
            map_entries: 1_000,
            cells: 1_000_000,
            variables: 256,
            functions: 128,
            source_bytes: 256 << 10,
            journal_entries: 10_000,
            stop: None,
            pause: None,
        }
    }

    /// For decisions in bulk.
    #[must_use]
    pub fn batch() -> Self {
        Self {
            operations: 5_000_000,
            ..Self::decision()
        }
    }

    /// For one replay of a workflow: room for what steps answer, verdicts and schedules among it.
    #[must_use]
    pub fn workflow() -> Self {
        Self {
            string_bytes: 1 << 20,
            map_entries: 10_000,
            ..Self::batch()
        }
    }

    /// For the code of a test itself, which makes up what a workflow is told; what it tests has limits of its own.
    #[must_use]
    pub fn test() -> Self {
        Self::workflow()
    }

    /// The same, stopped when `stop` is raised.
    #[must_use]
    pub fn stopped_by(self, stop: StopFlag) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }

    /// The same, pausing where `pause` waits.
    #[must_use]
    pub fn pausing(self, pause: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            pause: Some(Pause(Arc::new(pause))),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::workflow()
    }
}

/// A compiled script, cheap to clone and to share between threads.
#[derive(Clone)]
pub struct Script {
    name: Arc<str>,
    source: Arc<str>,
    digest: Arc<str>,
    ast: Arc<AST>,
    watching: Option<Watching>,
    /// Whether variables nobody declares are let through, so that a check can tell of all of them.
    lenient: bool,
}

impl Script {
    /// Compiles a script under the limits of [`Limits::batch`].
    ///
    /// # Errors
    ///
    /// A syntax error, an unknown variable or a script too large, with its line and column.
    pub fn compile(name: &str, source: &str) -> Result<Self, ScriptError> {
        Self::read(name, source, false)
    }

    /// The same with unknown variables in it; only to be looked at.
    pub(super) fn compile_leniently(name: &str, source: &str) -> Result<Self, ScriptError> {
        Self::read(name, source, true)
    }

    fn read(name: &str, source: &str, lenient: bool) -> Result<Self, ScriptError> {
        let ast = compile_ast(name, source, OptimizationLevel::Simple, lenient)?;
        Ok(Self {
            ast: Arc::new(ast),
            name: name.into(),
            digest: value::sha256(source.as_bytes()).into(),
            source: source.into(),
            watching: None,
            lenient,
        })
    }

    /// Its name, as errors show it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its revision: the digest of its text.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether it defines a function of this name with this many parameters.
    #[must_use]
    pub fn defines(&self, function: &str, parameters: usize) -> bool {
        self.ast
            .iter_functions()
            .any(|f| f.name == function && f.params.len() == parameters)
    }

    /// The same script, looked on at while it runs on an engine of [`engine_for`].
    pub(super) fn watched(&self, watching: Watching) -> Self {
        Self {
            watching: Some(watching),
            ..self.clone()
        }
    }

    /// Its tree with everything that is written, also what the engine leaves out because it never runs.
    pub(crate) fn unoptimised(&self) -> Result<AST, ScriptError> {
        compile_ast(
            &self.name,
            &self.source,
            OptimizationLevel::None,
            self.lenient,
        )
    }

    /// Whether variables nobody declares were let through.
    pub(super) fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// The same, or what runs where that cannot be had.
    pub(super) fn as_written(&self) -> AST {
        self.unoptimised().unwrap_or_else(|_| self.ast().clone())
    }

    pub(crate) fn ast(&self) -> &AST {
        &self.ast
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Script({} {})", self.name, self.digest)
    }
}

/// What the script at work on an engine has used so far, beside what the engine counts itself.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    uses: AtomicU32,
}

impl Meter {
    /// Begins anew, so that a script on a used engine meets its limits where it would on a new one.
    pub(crate) fn reset(&self) {
        self.uses.store(0, Ordering::Relaxed);
    }

    /// Counts a use of a variable; gives how many there were before it. One script at a time is at work.
    pub(super) fn use_one(&self) -> u32 {
        let uses = self.uses.load(Ordering::Relaxed);
        self.uses.store(uses.wrapping_add(1), Ordering::Relaxed);
        uses
    }
}

/// An engine with packages that only compute (no clock, no sleep, no files, no `eval`) and these limits.
pub(crate) fn limited_engine(limits: &Limits) -> Engine {
    metered_engine(limits).0
}

/// The same for one script, which may be watched.
pub(crate) fn engine_for(script: &Script, limits: &Limits) -> Engine {
    let mut engine = limited_engine(limits);
    if let Some(watching) = &script.watching {
        watching.watch(&mut engine);
    }
    engine
}

/// The same with what has to be reset before another script is run on it; for one script at a time.
pub(crate) fn metered_engine(limits: &Limits) -> (Engine, Arc<Meter>) {
    let meter = Arc::new(Meter::default());
    let mut engine = Engine::new_raw();
    for package in PACKAGES.iter() {
        engine.register_global_module(package.clone());
    }
    engine
        .set_max_operations(limits.operations)
        .set_max_call_levels(limits.call_levels)
        .set_max_expr_depths(limits.expression_depth, limits.function_expression_depth)
        .set_max_string_size(limits.string_bytes)
        .set_max_array_size(limits.array_items)
        .set_max_map_size(limits.map_entries)
        .set_max_variables(limits.variables)
        .set_max_functions(limits.functions)
        .set_max_modules(0)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .disable_symbol("eval")
        .disable_symbol("import")
        .disable_symbol("export");
    memory::bound(&mut engine, limits.cells, meter.clone());
    if let Some(stop) = limits.stop.clone() {
        let pause = limits.pause.clone();
        engine.on_progress(move |operations| {
            if let Some(Pause(pause)) = pause.as_ref().filter(|_| operations & STOP_MASK == 0) {
                pause();
            }
            is_stopped(&stop, operations)
        });
    }
    (engine, meter)
}

/// What an engine is told after so many operations: to go on, or to stop.
pub(super) fn is_stopped(stop: &StopFlag, operations: u64) -> Option<Dynamic> {
    (operations & STOP_MASK == 0 && stop.raised().is_some()).then(|| "stop".into())
}

/// The error at the bottom of a chain of calls: where and why it really happened.
pub(crate) fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => innermost(inner),
        other => other,
    }
}

/// Building the function tables takes longer than most scripts, so they are built once and shared.
static PACKAGES: LazyLock<[Shared<Module>; 9]> = LazyLock::new(|| {
    [
        ArithmeticPackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        BasicStringPackage::new().as_shared_module(),
        BasicIteratorPackage::new().as_shared_module(),
        BasicFnPackage::new().as_shared_module(),
        BasicMathPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicMapPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
    ]
});

fn compile_ast(
    name: &str,
    source: &str,
    level: OptimizationLevel,
    lenient: bool,
) -> Result<AST, ScriptError> {
    let limits = Limits::batch();
    if source.len() > limits.source_bytes {
        return Err(too_long(name, source.len(), limits.source_bytes));
    }
    on_big_stack(|| {
        let mut engine = limited_engine(&limits);
        engine
            .set_optimization_level(level)
            .set_strict_variables(!lenient)
            .compile(source)
            .map_err(|e| ScriptError::from_parse(name, source, &e))
    })
    .unwrap_or_else(|panic: Panicked| Err(ScriptError::internal(name, &panic.to_string())))
    .map(|mut ast| {
        ast.set_source(name);
        ast
    })
}

fn too_long(name: &str, bytes: usize, limit: usize) -> ScriptError {
    let message = format!("the script has {bytes} bytes, more than the {limit} one may have");
    ScriptError::at(name, "limit.source", message, Position::NONE)
}

#[cfg(test)]
mod tests {
    use rhai::Scope;

    use super::*;
    use crate::script::StopReason;

    fn run(source: &str, limits: &Limits) -> Result<Dynamic, ScriptError> {
        let script = Script::compile("t", source)?;
        on_big_stack(|| {
            limited_engine(limits)
                .call_fn::<Dynamic>(&mut Scope::new(), script.ast(), "run", ())
                .map_err(|e| ScriptError::from_eval(&script, &e))
        })
        .expect("no panic")
    }

    fn code(source: &str) -> String {
        run(source, &Limits::decision())
            .expect_err("a limit was expected")
            .code
    }

    #[test]
    fn every_limit_stops_the_script_that_breaks_it() {
        // Copying large values costs one operation each, so the sizes are kept small to keep the test short.
        let limits = Limits {
            array_items: 500,
            cells: 10_000,
            ..Limits::decision()
        };
        for (limit, body) in [
            ("limit.operations", "loop { }"),
            ("limit.depth", "deep(0)"),
            ("limit.size", "let s = \"x\"; loop { s += s; }"),
            ("limit.size", "let a = [1]; loop { a += a; }"),
            ("limit.size", "let a = [1]; loop { a.push(1); }"),
            ("limit.size", "let a = []; loop { a = [a]; }"),
            (
                "limit.size",
                "let a = []; a.pad(400, 1); let m = #{}; let i = 0; loop { m[`${i}`] = a; i += 1; }",
            ),
            (
                "limit.size",
                "let m = #{}; let i = 0; loop { m.set(`${i}`, i); i += 1; }",
            ),
        ] {
            let source = format!("fn deep(n) {{ deep(n + 1) }} fn run() {{ {body} }}");
            let error = run(&source, &limits).expect_err("a limit was expected");
            assert_eq!(error.code, limit, "{body}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_the_limit_it_breaks() {
        let megabyte = format!("fn run() {{ {} }}", "let x = 1; ".repeat(95_000));
        let long_text = format!("fn run() {{ \"{}\" }}", "x".repeat(1 << 20));
        let braces = format!(
            "fn run() {{ {}{} }}",
            "{ ".repeat(5_000),
            "} ".repeat(5_000)
        );
        let arrays = format!("fn run() {{ {}{} }}", "[".repeat(5_000), "]".repeat(5_000));
        let calls = format!(
            "fn run() {{ {}1{} }}",
            "abs(".repeat(5_000),
            ")".repeat(5_000)
        );
        let sum = format!("fn run() {{ 1{} }}", " + 1".repeat(100_000));
        for (limit, source) in [
            ("limit.operations", "fn run() { loop { } }"),
            (
                "limit.operations",
                "fn run() { let n = 0; while true { n += 1; } }",
            ),
            (
                "limit.operations",
                "fn run() { let n = 0; for i in 0..1_000_000_000 { n += i; } }",
            ),
            ("limit.depth", "fn run() { run() }"),
            (
                "limit.depth",
                "fn run() { even(1) } fn even(n) { odd(n + 1) } fn odd(n) { even(n + 1) }",
            ),
            ("limit.size", "fn run() { let s = \"x\"; loop { s += s; } }"),
            (
                "limit.size",
                "fn run() { let s = \"x\"; loop { s = `${s}${s}`; } }",
            ),
            ("limit.size", "fn run() { \"\".pad(1_000_000, \"x\") }"),
            (
                "limit.size",
                "fn run() { let a = []; a.pad(1_000_000, 0); a }",
            ),
            (
                "limit.size",
                "fn run() { let m = #{}; for i in 0..100_000 { m.set(`${i}`, i); } m.keys() }",
            ),
            ("limit.source", &megabyte),
            ("limit.source", &long_text),
            ("limit.depth", &braces),
            ("limit.depth", &arrays),
            ("limit.depth", &calls),
            ("limit.source", &sum),
        ] {
            let found = run(source, &Limits::decision()).map_err(|error| error.code);
            let begin = &source[..source.len().min(80)];
            assert_eq!(found.expect_err(begin), limit, "{begin}");
        }
    }

    #[test]
    fn what_a_script_piles_up_is_bounded_as_a_whole() {
        for value in ["[1, 2].map(|x| a)", "a", "s + `${i}`"] {
            let source = format!(
                "fn run() {{
                    let a = []; a.pad(4_000, 1);
                    let s = \"x\"; while s.len() < 60_000 {{ s += s; }}
                    let m = #{{}}; let i = 0;
                    loop {{ m[`${{i}}`] = {value}; i += 1; }}
                }}"
            );
            let source = source.replace("s += s", "s += s.sub_string(0, 60_000 - s.len())");
            let error = run(&source, &Limits::decision()).expect_err("a limit was expected");
            assert_eq!(error.code, "limit.size", "{value}: {error}");
        }
    }

    #[test]
    fn limits_of_the_text_are_kept_when_it_is_compiled() {
        let nested = format!("fn run() {{ {}1{} }}", "(".repeat(200), ")".repeat(200));
        assert_eq!(code(&nested), "limit.depth");
        let many: String = (0..200).map(|i| format!("fn f{i}() {{ }}\n")).collect();
        assert_eq!(code(&many), "limit.functions");
        let variables: String = (0..300).map(|i| format!("let v{i} = {i}; ")).collect();
        assert_eq!(
            code(&format!("fn run() {{ {variables} }}")),
            "limit.variables"
        );
    }

    #[test]
    fn nothing_reaches_the_world() {
        for source in [
            "fn run() { eval(\"1\") }",
            "fn run() { sleep(1) }",
            "fn run() { timestamp() }",
            "import \"x\" as y; fn run() { 1 }",
            "fn run() { undefined_name }",
            "fn run() { let m = #{ a: 1 }; m.b }",
        ] {
            assert!(run(source, &Limits::decision()).is_err(), "{source}");
        }
    }

    #[test]
    fn a_raised_flag_stops_the_script() {
        let stop = StopFlag::default();
        stop.raise(StopReason::GivenUp);
        let limits = Limits::batch().stopped_by(stop);
        let error = run("fn run() { loop { } }", &limits).expect_err("stopped");
        assert_eq!(error.code, "limit.deadline");
    }

    #[test]
    fn an_error_has_line_column_and_the_nearest_name() {
        let error = run(
            "fn run() {\n  let m = \"a\";\n  m.trimm()\n}",
            &Limits::decision(),
        )
        .expect_err("unknown function");
        assert_eq!((error.line, error.column), (Some(3), Some(5)));
        assert_eq!(error.nearest.as_deref(), Some("trim"));
        let error = Script::compile("p", "fn run() {\n  let x = ;\n}").expect_err("syntax");
        assert_eq!((error.code.as_str(), error.line), ("parse", Some(2)));
    }

    #[test]
    fn constants_of_the_script_are_seen_in_its_functions() {
        let value = run(
            "const LIMIT = 0.25; fn run() { global::LIMIT * 2.0 }",
            &Limits::decision(),
        );
        assert_eq!(value.ok().and_then(|v| v.as_float().ok()), Some(0.5));
    }

    #[test]
    fn the_revision_is_the_digest_of_the_text() {
        let one = Script::compile("a", "fn run() { 1 }").expect("compiles");
        let other = Script::compile("b", "fn run() { 1 }").expect("compiles");
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.digest().len(), "sha256:".len() + 64);
        assert!(one.defines("run", 0) && !one.defines("run", 1));
    }
}
