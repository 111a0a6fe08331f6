//! Guests of the tests, written as text.

use ::plugins::bundle;
use ::plugins::componentize::componentize;
use ::plugins::manifest::Manifest;

const PRELUDE: &str = include_str!("../../../plugins/tests/host/prelude.wat");

/// The probability of failing within each horizon is a hundredth of what the first metric was last, and `more` for each
/// horizon beyond the first; nobody's life is told. An asset without a metric is declined.
const BY_LAST_VALUE: &str = r#"
  (local $n i32) (local $out i32) (local $history i32) (local $outlook i32) (local $p f64) (local $at i32)
  (local $column i32) (local $values i32) (local $h i32)
  (local.set $out (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 28))))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $n) (local.get $count)))
      (local.set $history (i32.add (local.get $histories) (i32.mul (local.get $n) (i32.const 64))))
      (local.set $outlook (i32.add (local.get $out) (i32.mul (local.get $n) (i32.const 28))))
      (memory.fill (local.get $outlook) (i32.const 0) (i32.const 28))
      (local.set $column (i32.load (i32.add (local.get $history) (i32.const 56))))
      (if (i32.eqz (i32.load (i32.add (local.get $history) (i32.const 60))))
        (then
          (i32.store8 (local.get $outlook) (i32.const 1))
          (i32.store offset=4 (local.get $outlook) (i32.const 16))
          (i32.store offset=8 (local.get $outlook) (i32.const 7)))
        (else
          (local.set $p (f64.const 0))
          (local.set $values (i32.load offset=20 (local.get $column)))
          (if (local.get $values)
            (then
              (local.set $p (f64.div
                (f64.load (i32.add (i32.load offset=16 (local.get $column))
                  (i32.mul (i32.sub (local.get $values) (i32.const 1)) (i32.const 8))))
                (f64.const 100)))))
          (if (f64.ne (local.get $p) (local.get $p)) (then (local.set $p (f64.const 0))))
          (local.set $at (call $alloc (i32.const 0) (i32.const 0) (i32.const 8)
            (i32.mul (local.get $horizons_len) (i32.const 8))))
          (i32.store offset=4 (local.get $outlook) (local.get $at))
          (i32.store offset=8 (local.get $outlook) (local.get $horizons_len))
          (i32.store offset=12 (local.get $outlook) (i32.const 8))
          (i32.store offset=20 (local.get $outlook) (i32.const 8))
          (local.set $h (i32.const 0))
          (block $all
            (loop $each
              (br_if $all (i32.ge_u (local.get $h) (local.get $horizons_len)))
              (f64.store (i32.add (local.get $at) (i32.mul (local.get $h) (i32.const 8)))
                (f64.max (f64.const 0) (f64.min (f64.const 1)
                  (f64.add (local.get $p) (f64.mul (f64.convert_i32_u (local.get $h)) (f64.const MORE))))))
              (local.set $h (i32.add (local.get $h) (i32.const 1)))
              (br $each)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $next)))
  (call $ok (local.get $out) (local.get $count))"#;

/// A predictor's file. It is asked about histories by the hour.
pub(crate) fn predictor(name: &str, version: &str, run: &str) -> Vec<u8> {
    predictor_with(name, version, run, "")
}

/// The same with more of a manifest.
pub(crate) fn predictor_with(name: &str, version: &str, run: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
{PRELUDE}
  (data (i32.const 16) "no idea")
  (func (export "forewright:plugin/predict@1.0.0#predict")
    (param $histories i32) (param $count i32) (param $horizons i32) (param $horizons_len i32)
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    {run}))"#
    );
    let more = format!("[predictor]\nstep-ms = 3_600_000\nrows = 100\n{more}");
    packed(&text, (name, version), "predictor", &more)
}

/// Says what the first metric was last, and a little more for each further horizon.
pub(crate) fn by_last_value(more: f64) -> String {
    BY_LAST_VALUE.replace("MORE", &more.to_string())
}

/// Passes every check and traps where the first asset it is asked about has a name that begins with `b`.
pub(crate) fn traps_on_b() -> String {
    let guard = "(if (i32.gt_u (local.get $count) (i32.const 0)) (then \
                 (if (i32.gt_u (i32.load offset=4 (local.get $histories)) (i32.const 0)) (then \
                 (if (i32.eq (i32.load8_u (i32.load (local.get $histories))) (i32.const 98)) (then unreachable))))))";
    let plain = by_last_value(0.0);
    let locals = plain.find("(local.set $out").expect("locals come first");
    format!("{}{guard}{}", &plain[..locals], &plain[locals..])
}

/// From `since` until its last sample the first metric is unusual.
const ALWAYS_UNUSUAL: &str = r#"
  (local $times i32) (local $count i32) (local $last f64) (local $out i32)
  (if (i32.eqz (local.get $series_len)) (then (return (call $ok (i32.const 8) (i32.const 0)))))
  (local.set $times (i32.load offset=16 (local.get $series)))
  (local.set $count (i32.load offset=20 (local.get $series)))
  (if (i32.eqz (local.get $count)) (then (return (call $ok (i32.const 8) (i32.const 0)))))
  (local.set $last (f64.load (i32.add (local.get $times)
    (i32.mul (i32.sub (local.get $count) (i32.const 1)) (i32.const 8)))))
  (if (i32.eqz (f64.ge (local.get $last) (local.get $since))) (then (return (call $ok (i32.const 8) (i32.const 0)))))
  (local.set $out (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 40)))
  (f64.store (local.get $out) (local.get $since))
  (f64.store offset=8 (local.get $out) (local.get $last))
  (f64.store offset=16 (local.get $out) (f64.const 0.75))
  (i32.store offset=24 (local.get $out) (i32.const 32))
  (i32.store offset=28 (local.get $out) (i32.const 5))
  (i32.store offset=32 (local.get $out) (local.get $series))
  (i32.store offset=36 (local.get $out) (i32.const 1))
  (call $ok (local.get $out) (i32.const 1))"#;

/// A detector's file.
pub(crate) fn detector(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
{PRELUDE}
  (data (i32.const 32) "drift")
  (func (export "forewright:plugin/detect@1.0.0#detect")
    (param i32 i32 i32 i32 i32 i32) (param $series i32) (param $series_len i32) (param $since f64) (result i32)
    {ALWAYS_UNUSUAL}))"#
    );
    packed(&text, (name, "1.0.0"), "detector", "")
}

/// The file of an action that says that it is done, and has no answer to an empty object.
pub(crate) fn doer(name: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
{PRELUDE}
  (data (i32.const 16) "not now")
  (data (i32.const 32) "{{\"done\":true}}")
  (func (export "forewright:plugin/act@1.0.0#run")
    (param $in i32) (param $length i32) (param $key i32) (param $key_length i32) (result i32)
    (if (i32.le_u (local.get $length) (i32.const 2)) (then
      (return (call $err (i32.const 2) (i32.const 16) (i32.const 7)))))
    (call $ok (i32.const 32) (i32.const 13))))"#
    );
    packed(
        &text,
        (name, "1.0.0"),
        "action",
        "[action]\ninput = {}\noutput = {}\n",
    )
}

fn packed(text: &str, (name, version): (&str, &str), world: &str, more: &str) -> Vec<u8> {
    let module = wat::parse_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let manifest = format!(
        "name = \"{name}\"\nversion = \"{version}\"\nworld = \"{world}\"\n\
         interface = \"forewright:plugin@1\"\n{more}"
    );
    let asked: Manifest = manifest.parse().expect("a manifest");
    let component = componentize(&module, asked.world, &asked.capabilities.named());
    bundle::pack(&component.expect("a component"), &manifest)
}
