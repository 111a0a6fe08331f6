//! What is stored of plugins, on both databases.

use ::plugins::call::{KeyUse, KeyWrite, Outcome, Used};
use ::plugins::failure::{Code, Failure};
use ::plugins::lifecycle::{Blame, CrashPolicy, Event, State};
use ::plugins::log::Log;
use ::plugins::manifest::Manifest;
use ::plugins::world::World;

use super::plugin_calls::NewCall;
use super::plugin_differences::Difference;
use super::plugins::{NewVersion, plugin_version};
use super::{Page, StoreError, plugin_calls, plugin_differences, plugin_memory, plugins};
use crate::testing::{Fresh, on_both};

on_both!(
    of_two_versions_one_serves,
    an_examiner_that_is_gone_is_made_up_for_until_it_is_too_much,
    what_fails_in_a_row_is_set_aside_once,
    the_newest_calls_are_kept_and_of_both_sorts,
    what_is_remembered_is_kept_whole_or_not_at_all,
    the_largest_differences_come_first,
);

fn manifest(version: &str) -> String {
    format!(
        "name = \"wear\"\nversion = \"{version}\"\nworld = \"predictor\"\n\
         interface = \"forewright:plugin@1\"\n[predictor]\nstep-ms = 3_600_000\n"
    )
}

async fn uploaded(f: &Fresh, version: &str) -> plugin_version::Model {
    let text = manifest(version);
    let manifest: Manifest = text.parse().unwrap();
    let new = NewVersion {
        manifest: &manifest,
        text: &text,
        digest: &format!("sha256:{version}"),
        size_bytes: 10,
        signer: Some("acme"),
        by: "dora",
    };
    let tx = super::begin(&f.db.write).await.unwrap();
    let (row, is_new) = plugins::upload(&tx, f.now(), &new).await.unwrap();
    tx.commit().await.unwrap();
    assert!(is_new);
    row
}

/// Uploaded, compiled and checked.
async fn shadow(f: &Fresh, version: &str) -> plugin_version::Model {
    let row = uploaded(f, version).await;
    let tx = super::begin(&f.db.write).await.unwrap();
    let taken = plugins::take(&tx, f.now(), 1_000).await.unwrap().unwrap();
    plugins::compiled(&tx, &taken).await.unwrap();
    plugins::examined(&tx, f.now(), &taken, &Event::Passed, Some("{}"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    row
}

async fn moved(f: &Fresh, version: &str, event: Event) -> Result<State, StoreError> {
    let tx = super::begin(&f.db.write).await?;
    let row = plugins::move_by(&tx, f.now(), "olga", ("wear", version), &event).await?;
    tx.commit().await?;
    Ok(row.stands())
}

async fn of_two_versions_one_serves(f: Fresh) {
    shadow(&f, "1.0.0").await;
    shadow(&f, "1.1.0").await;
    assert_eq!(
        moved(&f, "1.0.0", Event::Promoted).await.unwrap(),
        State::Active
    );
    let canary = Event::Canaried { percent: 5 };
    assert_eq!(
        moved(&f, "1.1.0", canary).await.unwrap(),
        State::Canary { percent: 5 }
    );
    let standing = async || {
        let rows = plugins::serving(&f.db.read, World::Predictor)
            .await
            .unwrap();
        let told = rows
            .iter()
            .map(|row| format!("{} {}", row.version, row.state));
        told.collect::<Vec<_>>()
    };
    assert_eq!(standing().await, ["1.1.0 canary", "1.0.0 active"]);
    moved(&f, "1.1.0", Event::Promoted).await.unwrap();
    assert_eq!(standing().await, ["1.1.0 active", "1.0.0 shadow"]);
    let refused = moved(&f, "1.1.0", Event::CompilerTook).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Refused {
                code: "plugin_state",
                ..
            }
        ),
        "{refused}"
    );
    let none = plugins::serving(&f.db.read, World::Action).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(super::audit::first_broken(&f.db.read).await.unwrap(), None);
}

async fn an_examiner_that_is_gone_is_made_up_for_until_it_is_too_much(f: Fresh) {
    let row = uploaded(&f, "1.0.0").await;
    let db = &f.db.write;
    let mut late = None;
    for _ in 0..5 {
        let taken = plugins::take(db, f.now(), 1_000)
            .await
            .unwrap()
            .expect("one waits");
        assert!(
            plugins::take(db, f.now(), 1_000).await.unwrap().is_none(),
            "it is in hand"
        );
        if let Some(late) = &late {
            let stale = plugins::hold(db, 0, late).await.unwrap_err();
            assert!(matches!(stale, StoreError::Stale { .. }), "{stale}");
        }
        plugins::hold(db, f.now() + 2_000, &taken).await.unwrap();
        late = Some(taken);
        f.advance(2_001);
    }
    assert!(plugins::take(db, f.now(), 1_000).await.unwrap().is_none());
    let row = plugins::by_id(db, &row.id).await.unwrap();
    assert!(
        matches!(row.stands(), State::Quarantined { reason } if reason.starts_with("plugin.examination: "))
    );
    // An operator may have it tried again; what is put back was no examination.
    moved(&f, "1.0.0", Event::Demoted).await.unwrap();
    for _ in 0..6 {
        let taken = plugins::take(db, f.now(), 1_000)
            .await
            .unwrap()
            .expect("one waits");
        let until = f.now() + 1_000;
        plugins::put_back(db, until, &taken).await.unwrap();
        assert!(!plugins::any_to_examine(db, f.now()).await.unwrap());
        f.advance(1_001);
    }
}

async fn what_fails_in_a_row_is_set_aside_once(f: Fresh) {
    let row = shadow(&f, "1.0.0").await;
    let policy = CrashPolicy {
        quarantine_after: 2,
        tries: 1,
    };
    let count = async |blame| {
        let tx = super::begin(&f.db.write).await.unwrap();
        let set_aside = plugins::count(&tx, f.now(), &row.id, blame, policy)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        set_aside
    };
    let mut set_aside = Vec::new();
    for blame in [
        Blame::Plugin,
        Blame::None,
        Blame::Plugin,
        Blame::Plugin,
        Blame::Plugin,
    ] {
        set_aside.push(count(blame).await);
    }
    assert_eq!(set_aside, [false, false, false, true, false]);
    let health = plugins::by_id(&f.db.read, &row.id).await.unwrap().health();
    assert_eq!((health.calls, health.failures), (5, 4));
}

fn outcome(code: Option<Code>) -> Outcome {
    let failure = |code| Failure {
        code,
        message: "no".to_owned(),
        function: "predict".to_owned(),
        frames: Vec::new(),
        log: Vec::new(),
        limit: None,
        hint: None,
        after_ms: None,
    };
    Outcome {
        result: match code {
            Some(code) => Err(Box::new(failure(code))),
            None => Ok(::plugins::call::Answer::Predict(Vec::new())),
        },
        log: Log::default(),
        state: Vec::new(),
        used: Used::default(),
    }
}

async fn the_newest_calls_are_kept_and_of_both_sorts(f: Fresh) {
    let row = shadow(&f, "1.0.0").await;
    let db = &f.db.write;
    let mut ids = Vec::new();
    for n in 0..6 {
        f.advance(1);
        let outcome = outcome((n % 2 == 1).then_some(Code::Trap));
        let new = NewCall {
            version_id: &row.id,
            purpose: "score a",
            outcome: &outcome,
            recording: (n == 4).then_some(&[0, 255, 7][..]),
        };
        ids.push(plugin_calls::insert(db, f.now(), &new, 2).await.unwrap());
    }
    let page = |after| Page { after, limit: 3 };
    let all = plugin_calls::list(db, &row.id, false, page(None))
        .await
        .unwrap();
    let listed: Vec<_> = all.iter().map(|call| call.id.clone()).collect();
    assert_eq!(listed, [ids[5].clone(), ids[4].clone(), ids[3].clone()]);
    let rest = plugin_calls::list(db, &row.id, false, page(Some(&ids[3])))
        .await
        .unwrap();
    assert_eq!(rest.len(), 1, "the oldest two are gone");
    let failed = plugin_calls::list(db, &row.id, true, page(None))
        .await
        .unwrap();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].failure().unwrap().unwrap().code, Code::Trap);
    assert_eq!(all[1].recording_bytes, Some(3));
    let recording = plugin_calls::recording(db, &ids[4]).await.unwrap();
    assert_eq!(recording.as_deref(), Some(&[0, 255, 7][..]));
    assert_eq!(plugin_calls::recording(db, &ids[5]).await.unwrap(), None);
    let gone = plugin_calls::get(db, &ids[0]).await.unwrap_err();
    assert!(matches!(gone, StoreError::Unknown { .. }), "{gone}");
}

async fn what_is_remembered_is_kept_whole_or_not_at_all(f: Fresh) {
    let write = |key: &str, seen, version, value: Option<&[u8]>| KeyUse {
        key: key.to_owned(),
        seen,
        write: Some(KeyWrite {
            version,
            value: value.map(<[u8]>::to_vec),
        }),
    };
    let read = |key: &str, seen| KeyUse {
        key: key.to_owned(),
        seen,
        write: None,
    };
    let keep = async |keys: &[KeyUse]| {
        let tx = super::begin(&f.db.write).await.unwrap();
        let kept = plugin_memory::keep(&tx, "wear", keys).await.unwrap();
        match kept {
            true => tx.commit().await.unwrap(),
            false => tx.rollback().await.unwrap(),
        }
        kept
    };
    let db = &f.db.read;
    let value = async |key| {
        let kept = plugin_memory::get(db, "wear", key).await.unwrap();
        kept.map(|kept| (kept.value, kept.version))
    };
    assert!(keep(&[write("ö", 0, 1, Some(b"one")), read("b", 0)]).await);
    assert_eq!(value("ö").await, Some((Some(b"one".to_vec()), 1)));
    assert_eq!(
        plugin_memory::bytes(db, "wear").await.unwrap(),
        5,
        "a key's bytes, not its letters"
    );
    assert_eq!(plugin_memory::bytes(db, "other").await.unwrap(), 0);
    // Somebody else was faster: nothing of it is kept.
    assert!(
        !keep(&[
            write("b", 0, 1, Some(b"x")),
            write("ö", 0, 1, Some(b"late"))
        ])
        .await
    );
    assert!(!keep(&[write("b", 0, 1, Some(b"x")), read("ö", 0)]).await);
    assert_eq!(value("b").await, None);
    // What is removed is remembered as such, so that its versions go on.
    assert!(keep(&[write("ö", 1, 2, None)]).await);
    assert_eq!(value("ö").await, Some((None, 2)));
    assert_eq!(plugin_memory::bytes(db, "wear").await.unwrap(), 0);
    assert!(!keep(&[write("ö", 0, 1, Some(b"anew"))]).await);
    assert!(keep(&[write("ö", 2, 3, Some(b"anew"))]).await);
}

async fn the_largest_differences_come_first(f: Fresh) {
    let row = shadow(&f, "1.0.0").await;
    let db = &f.db.write;
    let difference = |asset: &str, own: f64, theirs: Option<f64>| Difference {
        asset: asset.to_owned(),
        at: 7,
        other: "sha256:0".to_owned(),
        own: [("7d".to_owned(), own)].into(),
        theirs: theirs
            .map(|theirs| ("7d".to_owned(), theirs))
            .into_iter()
            .collect(),
    };
    let none = plugin_differences::summary(db, &row.id).await.unwrap();
    assert_eq!((none.assets, none.mean, none.largest), (0, None, None));
    for (asset, own, theirs) in [("a", 0.5, 0.1), ("b", 0.2, 0.1), ("a", 0.3, 0.1)] {
        let difference = difference(asset, own, Some(theirs));
        plugin_differences::put(db, &row.id, &difference)
            .await
            .unwrap();
    }
    let summary = plugin_differences::summary(db, &row.id).await.unwrap();
    assert_eq!(summary.assets, 2, "the latest of each asset counts");
    assert!(
        (summary.largest.unwrap() - 0.2).abs() < 1e-9
            && (summary.mean.unwrap() - 0.15).abs() < 1e-9
    );
    plugin_differences::put(db, &row.id, &difference("c", 0.0, None))
        .await
        .unwrap();
    let largest = plugin_differences::largest(db, &row.id, 2).await.unwrap();
    let assets: Vec<_> = largest.iter().map(|one| one.asset.as_str()).collect();
    assert_eq!(assets, ["c", "a"], "one that said nothing differs most");
}
