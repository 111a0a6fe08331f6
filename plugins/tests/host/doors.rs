//! What a guest reaches through its capabilities, and what it does not; and that a call can be run again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::world::{
    COUNTED, Memory, TIMED, bound, context, everything, failure, guest, request, told,
};
use plugins::call::{KeyUse, KeyWrite, Outcome, Request};
use plugins::doors::{Doors, Kept, Nowhere};
use plugins::engine::{Pace, Plugin};
use plugins::failure::Code;
use plugins::grants::Grants;
use plugins::limits::Limits;
use plugins::recording::{Recorder, Recording, Replay, Told, replay};
use plugins::v1::verify;
use plugins::world::{Capability, World};

const STATE: &str = r#"
  (import "forewright:plugin/state@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "forewright:plugin/state@1.0.0" "remove" (func $remove (param i32 i32 i32)))
  (import "forewright:plugin/state@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))"#;
const SEND: &str = r#"(import "forewright:plugin/http@1.0.0" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 f64 i32)))"#;
const QUERY: &str = r#"(import "forewright:plugin/telemetry@1.0.0" "query" (func $query (param i32 i32 i32 i32 f64 f64 i32 i32)))"#;
const CREATE: &str = r#"
  (import "forewright:plugin/artifacts@1.0.0" "create" (func $create (param i32 i32 i32 i32 i32)))
  (import "forewright:plugin/artifacts@1.0.0" "[method]writer.append" (func $append (param i32 i32 i32 i32)))
  (import "forewright:plugin/artifacts@1.0.0" "[static]writer.finish" (func $finish (param i32 i32)))"#;
/// Answers 1 where the discriminant at `$at` says so, else 2 and the variant of `capability-error` behind it.
const VERDICT: &str = r#"
  (func $verdict (param $at i32) (param $behind i32) (result i32)
    (i32.store8 (i32.const 512) (i32.add (i32.const 49) (i32.load8_u (local.get $at))))
    (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (call $ok (i32.const 512) (i32.const 1)))))
    (i32.store8 (i32.const 513) (i32.add (i32.const 48) (i32.load8_u (local.get $behind))))
    (call $ok (i32.const 512) (i32.const 2)))"#;

fn call(plugin: &Plugin, doors: impl Doors + 'static) -> Outcome {
    plugin.call(&request("1"), &context(), Arc::new(doors))
}

fn of(imports: &str, body: &str, run: &str) -> Plugin {
    bound(
        &TIMED,
        imports,
        &format!("{VERDICT}{body}"),
        run,
        &everything(),
        &Limits::default(),
    )
}

/// Writes `k` twice, then answers what it reads: the last value.
fn writer(expected: &str) -> Plugin {
    let body = r#"(data (i32.const 64) "k12")"#;
    let run = format!(
        "(call $set (i32.const 64) (i32.const 1) (i32.const 65) (i32.const 1) {expected} (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then (return (call $verdict (i32.const 2048) (i32.const 2052)))))
         (call $set (i32.const 64) (i32.const 1) (i32.const 66) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 2048))
         (call $get (i32.const 64) (i32.const 1) (i32.const 2048))
         (call $ok (i32.load (i32.const 2052)) (i32.load (i32.const 2056)))"
    );
    of(STATE, body, &run)
}

/// What is kept under `k` before the call.
fn before(value: Option<&[u8]>, version: u32) -> Memory {
    let kept = Kept {
        value: value.map(<[u8]>::to_vec),
        version,
    };
    Memory {
        state: BTreeMap::from([("k".to_owned(), kept)]),
        ..Memory::default()
    }
}

fn used(seen: u32, write: Option<(u32, Option<&[u8]>)>) -> Vec<KeyUse> {
    let write = write.map(|(version, value)| KeyWrite {
        version,
        value: value.map(<[u8]>::to_vec),
    });
    vec![KeyUse {
        key: "k".into(),
        seen,
        write,
    }]
}

#[test]
fn what_is_remembered_is_seen_at_once_and_told_at_the_end() {
    let outcome = call(&writer("(i32.const 1) (i32.const 0)"), Memory::default());
    assert_eq!(told(&outcome), "2");
    assert_eq!(outcome.state, used(0, Some((2, Some(b"2")))));
    assert_eq!(outcome.used.capabilities, [Capability::State]);
}

#[test]
fn a_key_that_somebody_else_wrote_is_a_conflict() {
    let outcome = call(
        &writer("(i32.const 1) (i32.const 3)"),
        before(Some(b"old"), 4),
    );
    // `conflict` is the fifth variant, behind `err`.
    assert_eq!(told(&outcome), "24");
    assert_eq!(outcome.state, used(4, None), "it was read, and that counts");
    let outcome = call(
        &writer("(i32.const 1) (i32.const 4)"),
        before(Some(b"old"), 4),
    );
    assert_eq!(outcome.state, used(4, Some((6, Some(b"2")))));
}

#[test]
fn a_key_that_is_removed_makes_room_and_has_a_version_still() {
    let remove = "(call $remove (i32.const 64) (i32.const 1) (i32.const 2048))
        (call $get (i32.const 64) (i32.const 1) (i32.const 2048))
        (call $verdict (i32.const 2048) (i32.const 2052))";
    let plugin = of(STATE, r#"(data (i32.const 64) "k")"#, remove);
    let outcome = call(&plugin, before(Some(&[7; 1_000]), 4));
    assert_eq!(told(&outcome), "22", "not found");
    assert_eq!(outcome.state, used(4, Some((5, None))));
    let outcome = call(&plugin, before(None, 5));
    assert_eq!(
        outcome.state,
        used(5, None),
        "removing what is not there changes nothing"
    );
    // One that was removed is still known by its version.
    let outcome = call(&writer("(i32.const 1) (i32.const 5)"), before(None, 5));
    assert_eq!(outcome.state, used(5, Some((7, Some(b"2")))));
}

#[test]
fn a_call_that_fails_remembers_nothing() {
    let run = "(call $set (i32.const 64) (i32.const 1) (i32.const 65) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 2048))
        (call $err (i32.const 3) (i32.const 64) (i32.const 1))";
    let outcome = call(
        &of(STATE, r#"(data (i32.const 64) "k1")"#, run),
        Memory::default(),
    );
    assert_eq!(failure(&outcome).code, Code::Internal);
    assert!(outcome.state.is_empty());
}

#[test]
fn what_may_be_remembered_has_an_end() {
    // 1,023 bytes and the key fit into the granted KiB, 1,024 do not.
    for (length, expected) in [("1023", "1"), ("1024", "21")] {
        let run = format!(
            "(call $set (i32.const 64) (i32.const 1) (i32.const 4096) (i32.const {length}) (i32.const 0) (i32.const 0) (i32.const 2048))
             (call $verdict (i32.const 2048) (i32.const 2052))"
        );
        let outcome = call(
            &of(STATE, r#"(data (i32.const 64) "k")"#, &run),
            Memory::default(),
        );
        assert_eq!(told(&outcome), expected, "{length}");
    }
}

/// Sends to an address and answers the verdict.
fn sender(url: &str) -> Plugin {
    let body = format!(r#"(data (i32.const 64) "GET{url}")"#);
    let length = url.len();
    let run = format!(
        "(call $send (i32.const 64) (i32.const 3) (i32.const 67) (i32.const {length}) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 0) (i32.const 2048))
         (if (i32.eqz (i32.load8_u (i32.const 2048)))
            (then (return (call $ok (i32.load (i32.const 2064)) (i32.load (i32.const 2068))))))
         (call $verdict (i32.const 2048) (i32.const 2052))"
    );
    of(SEND, &body, &run)
}

#[test]
fn requests_go_where_they_are_granted_and_nowhere_else() {
    let doors = || Memory {
        response: b"{\"id\": 7}".to_vec(),
        ..Memory::default()
    };
    let outcome = call(&sender("https://a.example/tickets"), doors());
    assert_eq!(told(&outcome), "{\"id\": 7}");
    assert_eq!(
        outcome.used.names,
        [(Capability::Http, "https://a.example".to_owned())]
    );
    for (url, expected) in [
        ("https://b.example/", "20"),
        ("http://a.example/", "20"),
        ("https://a.example:444/", "20"),
        ("https://a.example.evil/", "20"),
        ("https://a.example@b.example/", "23"),
        ("file:///etc/passwd", "23"),
    ] {
        let memory = Arc::new(doors());
        let outcome = sender(url).call(&request("1"), &context(), memory.clone());
        assert_eq!(told(&outcome), expected, "{url}");
        assert!(memory.sent.lock().unwrap().is_empty(), "{url} was sent");
    }
    let long = Memory {
        response: vec![b'1'; 1_025],
        ..Memory::default()
    };
    assert_eq!(
        told(&call(&sender("https://a.example/"), long)),
        "21",
        "quota"
    );
}

#[test]
fn metrics_are_read_where_they_are_granted_and_never_from_the_future() {
    let plugin = |metric: &str| {
        let body = format!(r#"(data (i32.const 64) "fan{metric}")"#);
        let run = format!(
            "(call $query (i32.const 64) (i32.const 3) (i32.const 67) (i32.const {}) (f64.const 0) (f64.const 1e300) (i32.const 10) (i32.const 2048))
             (call $verdict (i32.const 2048) (i32.const 2052))",
            metric.len()
        );
        of(QUERY, &body, &run)
    };
    let recorder = Arc::new(Recorder::new(Arc::new(Memory::default()), 1 << 20));
    let outcome = plugin("vibration").call(&request("1"), &context(), recorder.clone());
    assert_eq!(told(&outcome), "1");
    let asked = recorder.take().unwrap();
    let [Told::Query(query, _)] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (query.metric.as_str(), query.end),
        ("vibration", context().now_ms)
    );
    assert_eq!(
        told(&call(&plugin("temperature"), Memory::default())),
        "20",
        "denied"
    );
}

/// Writes an artifact of `pieces` times `length` bytes and answers its digest.
fn maker(pieces: u32, length: u32) -> Plugin {
    let body = r#"(data (i32.const 64) "out.txttext/plain")"#;
    let run = format!(
        "(local $n i32) (local $writer i32)
         (drop (memory.grow (i32.const 32)))
         (call $create (i32.const 64) (i32.const 7) (i32.const 71) (i32.const 10) (i32.const 2048))
         (local.set $writer (i32.load (i32.const 2052)))
         (loop $l
            (call $append (local.get $writer) (i32.const 65536) (i32.const {length}) (i32.const 2048))
            (if (i32.load8_u (i32.const 2048)) (then (return (call $verdict (i32.const 2048) (i32.const 2052)))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const {pieces}))))
         (call $finish (local.get $writer) (i32.const 2048))
         (i32.store8 (i32.load (i32.const 2052)) (i32.const 34))
         (i32.store8 (i32.add (i32.load (i32.const 2052)) (i32.const 70)) (i32.const 34))
         (call $ok (i32.load (i32.const 2052)) (i32.const 71))"
    );
    of(CREATE, body, &run)
}

#[test]
fn artifacts_are_made_in_pieces_up_to_what_is_granted() {
    let memory = Arc::new(Memory::default());
    let outcome = maker(2, 500_000).call(&request("1"), &context(), memory.clone());
    let digest = plugins::bundle::digest(&vec![0; 1_000_000]);
    // The answer stands in quotes where the digest's first and last characters were.
    assert_eq!(told(&outcome)[1..70], digest[1..70]);
    assert_eq!(memory.artifacts.lock().unwrap()[&digest].len(), 1_000_000);
    assert_eq!(
        told(&call(&maker(3, 500_000), Memory::default())),
        "21",
        "a MiB is granted"
    );
    assert_eq!(
        told(&call(&maker(1, 1_500_000), Memory::default())),
        "23",
        "a MiB at once"
    );
}

/// Opens the mesh it is given, or another digest, and says as its own fault what it read from an offset on.
fn reader(digest: &str, offset: u32) -> Plugin {
    let imports = r#"
      (import "forewright:plugin/artifacts@1.0.0" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32 i32)))
      (import "forewright:plugin/artifacts@1.0.0" "[method]reader.read" (func $read (param i32 i32 i32 i32)))"#;
    let signature = "(param $digest i32) (param $digest_len i32) (param $media i32) (param $media_len i32) (param $size i32)
        (param $name i32) (param $name_len i32) (param i32 i32 f64)";
    let run = format!(
        "(call $open {digest} (local.get $media) (local.get $media_len) (local.get $size) (local.get $name)
            (local.get $name_len) (i32.const 2048))
         (if (i32.load8_u (i32.const 2048)) (then (return
            (call $err (i32.const 3) (i32.load (i32.const 2056)) (i32.load (i32.const 2060))))))
         (call $read (i32.load (i32.const 2052)) (i32.const {offset}) (i32.const 4) (i32.const 2064))
         (call $err (i32.const 3) (i32.load (i32.const 2068)) (i32.load (i32.const 2072)))"
    );
    let component = guest(World::Verifier, "verify#inspect", imports, signature, &run);
    let grants = Grants::all(&everything());
    TIMED
        .prepare(&component, World::Verifier, grants, &Limits::default())
        .unwrap()
}

#[test]
fn a_call_reads_what_it_was_given_and_nothing_else() {
    let given = "(local.get $digest) (local.get $digest_len)";
    let said = |plugin: &Plugin, media_type: &str| {
        let (memory, expected) = Memory::with(b"0123456789", media_type);
        let request = Request::Verify(verify::Request {
            expected,
            observations: Vec::new(),
            tolerance: 0.2,
        });
        failure(&plugin.call(&request, &context(), Arc::new(memory))).message
    };
    assert_eq!(said(&reader(given, 0), "text/plain"), "0123");
    assert_eq!(said(&reader(given, 8), "text/plain"), "89");
    assert_eq!(said(&reader(given, 99), "text/plain"), "");
    let denied = said(&reader(given, 0), "model/stl");
    assert_eq!(denied, "`artifacts` is not granted for `model/stl`");
    let other = said(
        &reader("(local.get $digest) (i32.const 20)", 0),
        "text/plain",
    );
    assert!(
        other.contains("was neither given to this call nor made by it"),
        "{other}"
    );
}

/// Asks for telemetry, a key and a request, logs a line, and answers the body of the response.
const CURIOUS: &str = "(call $query (i32.const 64) (i32.const 3) (i32.const 67) (i32.const 9) (f64.const 0) (f64.const 9)
        (i32.const 10) (i32.const 2048))
    (call $log (i32.const 2) (i32.const 67) (i32.const 9) (i32.const 0) (i32.const 0))
    (call $set (i32.const 97) (i32.const 1) (i32.const 64) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 2048))
    (call $send (i32.const 76) (i32.const 3) (i32.const 79) (i32.const 18) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 0) (i32.const 2048))
    (call $ok (i32.load (i32.const 2064)) (i32.load (i32.const 2068)))";

fn curious(runtime: &plugins::engine::Runtime) -> Plugin {
    let log =
        r#"(import "forewright:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
    let imports = format!("{QUERY}{SEND}{STATE}{log}");
    let data = r#"(data (i32.const 64) "fanvibrationGEThttps://a.example/k")"#;
    bound(
        runtime,
        &imports,
        data,
        CURIOUS,
        &everything(),
        &Limits::default(),
    )
}

fn recorded(plugin: &Plugin, pace: Pace, most_bytes: usize) -> Recording {
    let memory = Memory {
        response: b"{\"id\": 7}".to_vec(),
        ..Memory::default()
    };
    let recorder = Arc::new(Recorder::new(Arc::new(memory), most_bytes));
    let outcome = plugin.call(&request("1"), &context(), recorder.clone());
    Recording {
        plugin: "sha256:…".to_owned(),
        contract: plugins::contract::VERSION.to_owned(),
        pace,
        request: request("1"),
        context: context(),
        limits: Limits::default(),
        grants: Grants::all(&everything()),
        told: recorder.take().unwrap_or_default(),
        outcome,
    }
}

#[test]
fn a_recorded_call_runs_again_bit_for_bit() {
    let recording = recorded(&curious(&TIMED), Pace::Timed, 1 << 20);
    assert_eq!(told(&recording.outcome), "{\"id\": 7}");
    assert_eq!(
        recording.told.len(),
        4,
        "query, key, size, request: {:?}",
        recording.told
    );
    assert_eq!(recording.outcome.log.lines().count(), 1);
    let kept = Recording::from_bytes(&recording.to_bytes()).unwrap();
    assert_eq!(
        kept.to_bytes(),
        recording.to_bytes(),
        "a NaN is no equal of itself, its bits are"
    );
    assert!(Recording::from_bytes(&recording.to_bytes()[..50]).is_err());

    // Nothing is asked of the world again, on either engine.
    for runtime in [&TIMED, &COUNTED] {
        let Replay {
            outcome,
            same,
            diverged,
        } = replay(&curious(runtime), &kept, Arc::new(Nowhere));
        assert_eq!((same, diverged), (true, None), "{outcome:?}");
        assert_eq!(outcome.state, recording.outcome.state);
    }
}

#[test]
fn a_call_that_parts_from_its_recording_is_stopped_there() {
    let plugin = curious(&COUNTED);
    let recording = recorded(&plugin, Pace::Counted, 1 << 20);
    let again = replay(&plugin, &recording, Arc::new(Nowhere));
    assert!(again.same);
    assert_eq!(again.outcome.used.fuel, recording.outcome.used.fuel);

    let mut bent = recording.clone();
    bent.told.remove(0);
    let again = replay(&plugin, &bent, Arc::new(Nowhere));
    let failed = failure(&again.outcome);
    assert_eq!((failed.code, again.same), (Code::Diverged, false));
    assert!(
        failed.message.contains("call 0 to the host"),
        "{}",
        failed.message
    );
    assert_eq!(again.diverged.unwrap().at, 0);

    let mut longer = recording.clone();
    longer.told.push(Told::StateBytes(Ok(1)));
    let again = replay(&plugin, &longer, Arc::new(Nowhere));
    assert_eq!(told(&again.outcome), "{\"id\": 7}");
    assert_eq!(
        (again.same, again.diverged.unwrap().now.as_str()),
        (false, "nothing"),
        "it asked for less"
    );

    // Within narrower grants it asks for less, and answers otherwise.
    let narrow = Recording {
        grants: Grants::default(),
        ..recording
    };
    assert!(!replay(&plugin, &narrow, Arc::new(Nowhere)).same);
}

#[test]
fn a_recording_has_an_end() {
    let full = recorded(&curious(&TIMED), Pace::Timed, 300);
    assert_eq!(failure(&full.outcome).code, Code::RecordingFull);
    assert_eq!(full.told, [], "a part of what was told is worth nothing");

    // A call that matters more goes on without.
    let memory = Arc::new(Memory {
        response: b"{\"id\": 7}".to_vec(),
        ..Memory::default()
    });
    let recorder = Arc::new(Recorder::while_it_fits(memory, 300));
    let outcome = curious(&TIMED).call(&request("1"), &context(), recorder.clone());
    assert_eq!(told(&outcome), "{\"id\": 7}");
    assert_eq!(recorder.take(), None);
}

#[test]
fn artifacts_are_read_and_made_again() {
    let plugin = maker(2, 1_000);
    let recorder = Arc::new(Recorder::new(Arc::new(Memory::default()), 1 << 20));
    let outcome = plugin.call(&request("1"), &context(), recorder.clone());
    let recording = Recording {
        outcome,
        told: recorder.take().unwrap(),
        ..recorded(&plugin, Pace::Timed, 0)
    };
    let memory = Arc::new(Memory::default());
    assert!(replay(&plugin, &recording, memory.clone()).same);
    assert_eq!(memory.artifacts.lock().unwrap().len(), 1);
    assert!(
        !replay(&maker(1, 2_000), &recording, Arc::new(Memory::default())).same,
        "in other pieces"
    );
}
