//! The store against a model of it, on both databases.

use std::{collections::BTreeMap, sync::Arc};

use migrations::m20260101_000002_telemetry::Migration;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use sea_orm_migration::{MigrationTrait, SchemaManager};

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

/// A database that goes away with the value.
struct Place {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("telemetry.db");
        let place = Self {
            url: format!("sqlite://{}?mode=rwc", path.display()),
            _folder: Some(folder),
        };
        place.migrate().await;
        place
    }

    async fn postgres(name: &str) -> Self {
        let server = std::env::var("FOREWRIGHT_TEST_POSTGRES")
            .expect("FOREWRIGHT_TEST_POSTGRES names a server where tests may create databases");
        let admin = Database::connect(&server)
            .await
            .expect("the server answers");
        let process = std::process::id();
        let name = format!("telemetry_{name}_{process}");
        for sql in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name}"),
        ] {
            admin
                .execute_unprepared(&sql)
                .await
                .expect("a fresh database");
        }
        let base = server.rsplit_once('/').expect("a URL with a path").0;
        let place = Self {
            url: format!("{base}/{name}"),
            _folder: None,
        };
        place.migrate().await;
        place
    }

    async fn migrate(&self) {
        let db = self.connect().await;
        let manager = SchemaManager::new(&db);
        Migration.up(&manager).await.expect("the migration runs");
    }

    async fn connect(&self) -> DatabaseConnection {
        let mut options = ConnectOptions::new(&self.url);
        options.max_connections(1).sqlx_logging(false);
        let db = Database::connect(options)
            .await
            .expect("the database opens");
        if self.url.starts_with("sqlite") {
            let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";
            db.execute_unprepared(pragmas).await.expect("pragmas");
        }
        db
    }

    async fn open(&self, limits: HeadLimits) -> Telemetry {
        let (db, reader) = (self.connect().await, self.connect().await);
        let opened = Telemetry::open_with_reader(db, reader, limits).await;
        opened.expect("the store opens")
    }
}

fn small() -> HeadLimits {
    HeadLimits {
        max_samples_in_memory: 40,
        seal_points: 8,
        ..HeadLimits::default()
    }
}

fn sample(asset: &str, metric: &str, time_ms: i64, value: f64) -> Sample {
    Sample {
        asset: asset.into(),
        metric: metric.into(),
        time_ms,
        value,
    }
}

fn samples_of(model: &BTreeMap<i64, f64>, from_ms: i64, to_ms: i64) -> Samples {
    Samples {
        times_ms: model.range(from_ms..=to_ms).map(|point| *point.0).collect(),
        values: model.range(from_ms..=to_ms).map(|point| *point.1).collect(),
    }
}

fn buckets_of(points: &Samples, step_ms: i64) -> Vec<(i64, f64, f64, f64, u64)> {
    let mut groups: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (time, value) in points.times_ms.iter().zip(&points.values) {
        let start = time.div_euclid(step_ms) * step_ms;
        groups.entry(start).or_default().push(*value);
    }
    let bucket = |(time, values): (i64, Vec<f64>)| {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (time, min, max, mean, values.len() as u64)
    };
    groups.into_iter().map(bucket).collect()
}

/// One thing that happens to a store.
#[derive(Clone, Debug)]
enum Event {
    Append(usize, Vec<(usize, i64, f64)>),
    Flush(usize),
    /// The process ends without a word, and another opens the same database.
    Kill(usize),
}

const METRICS: [&str; 3] = ["vibration_mm_s", "bearing_temp_c", "rpm"];

fn events() -> impl Strategy<Value = Vec<Event>> {
    let point = (0..METRICS.len(), 0i64..300, -100.0..100.0f64);
    let event = prop_oneof![
        6 => (0usize..2, prop::collection::vec(point, 1..25)).prop_map(|(p, s)| Event::Append(p, s)),
        2 => (0usize..2).prop_map(Event::Flush),
        1 => (0usize..2).prop_map(Event::Kill),
    ];
    prop::collection::vec(event, 1..20)
}

/// Two processes append, flush and die in any order; both always see what a plain map would hold.
async fn agrees_with_a_map(place: &Place, events: &[Event], asset: &str) {
    let mut stores = [place.open(small()).await, place.open(small()).await];
    let mut model: BTreeMap<&str, BTreeMap<i64, f64>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Append(process, points) => {
                let batch = points
                    .iter()
                    .map(|&(metric, time, value)| sample(asset, METRICS[metric], time, value))
                    .collect();
                let report = stores[*process]
                    .append(NOW_MS, batch)
                    .await
                    .expect("appends");
                assert_eq!((report.accepted, report.rejected.len()), (points.len(), 0));
                for &(metric, time, value) in points {
                    model
                        .entry(METRICS[metric])
                        .or_default()
                        .insert(time, value);
                }
            }
            Event::Flush(process) => stores[*process].flush().await.expect("flushes"),
            Event::Kill(process) => stores[*process] = place.open(small()).await,
        }
        for store in &stores {
            same_as_model(store, asset, &model).await;
        }
    }
}

async fn same_as_model(store: &Telemetry, asset: &str, model: &BTreeMap<&str, BTreeMap<i64, f64>>) {
    let many = store.raw_many(asset, 40, 220).await.expect("answers");
    let infos = store.series(Some(asset)).await.expect("answers");
    assert_eq!(infos.len(), model.len());
    let last = store.last_ms(asset).await.expect("answers");
    assert_eq!(last, infos.iter().map(|info| info.last_ms).max());
    for (metric, points) in model {
        let info = infos
            .iter()
            .find(|info| *info.metric == **metric)
            .expect("is listed");
        let ends = (points.keys().next().copied(), points.keys().last().copied());
        assert_eq!((Some(info.first_ms), Some(info.last_ms)), ends);
        assert_eq!(info.count, points.len() as u64);
        let part = samples_of(points, 40, 220);
        assert_eq!(many.get(*metric).cloned().unwrap_or_default(), part);
        assert_eq!(
            store.raw(asset, metric, 40, 220).await.expect("answers"),
            part
        );
        let query = RangeQuery {
            asset: asset.to_owned(),
            metric: (*metric).to_owned(),
            from_ms: 7,
            to_ms: 290,
            step_ms: Some(60),
        };
        let found = store.query(query).await.expect("answers");
        let wanted = buckets_of(&samples_of(points, 7, 290), 60);
        assert_eq!(found.len(), wanted.len());
        for (bucket, (time, min, max, mean, count)) in found.iter().zip(wanted) {
            assert_eq!((bucket.time_ms, bucket.count), (time, count));
            assert_eq!((bucket.min, bucket.max), (min, max));
            assert!(
                (bucket.mean - mean).abs() <= 1e-9,
                "{} is not {mean}",
                bucket.mean
            );
        }
    }
}

fn check_against_map(place: &Place, runtime: &tokio::runtime::Runtime, cases: u32) {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    for case in 0..cases {
        let events = events().new_tree(&mut runner).expect("a case").current();
        let asset = format!("fan-{case}");
        runtime.block_on(agrees_with_a_map(place, &events, &asset));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn two_processes_agree_with_a_map_on_sqlite() {
    let runtime = runtime();
    let place = runtime.block_on(Place::sqlite());
    check_against_map(&place, &runtime, 24);
}

#[test]
#[ignore = "needs Postgres"]
fn two_processes_agree_with_a_map_on_postgres() {
    let runtime = runtime();
    let place = runtime.block_on(Place::postgres("map"));
    check_against_map(&place, &runtime, 24);
}

async fn racing_processes_lose_nothing(place: &Place) {
    let stores = [place.open(small()).await, place.open(small()).await];
    let writers: Vec<_> = (0i64..4)
        .map(|writer| {
            let store = stores[usize::try_from(writer % 2).expect("small")].clone();
            tokio::spawn(async move {
                for round in 0..15i64 {
                    let metric = METRICS[usize::try_from(round % 3).expect("small")];
                    let asset = format!("fan-{}", round % 2);
                    let time = round * 10 + writer;
                    let batch = vec![sample(&asset, metric, time, 1.0)];
                    store.append(NOW_MS, batch).await.expect("appends");
                    if round % 5 == writer {
                        store.flush().await.expect("flushes");
                    }
                    store.raw_many(&asset, 0, 1000).await.expect("answers");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    for store in &stores {
        let infos = store.series(None).await.expect("answers");
        assert_eq!(infos.len(), 6);
        assert_eq!(infos.iter().map(|info| info.count).sum::<u64>(), 60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_processes_lose_nothing_on_sqlite() {
    racing_processes_lose_nothing(&Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postgres"]
async fn racing_processes_lose_nothing_on_postgres() {
    racing_processes_lose_nothing(&Place::postgres("race").await).await;
}

#[tokio::test]
async fn a_batch_keeps_what_is_good_and_names_what_is_not() {
    let store = Place::sqlite().await;
    let store = store.open(HeadLimits::default()).await;
    let ahead = HeadLimits::default().max_ahead_ms;
    let stale = f64::from_bits(STALE_MARKER_BITS);
    let batch = vec![
        sample("fan-1", "rpm", 1000, 1.0),
        sample("fan-1", "rpm", 2000, f64::NAN),
        sample("fan-1", "rpm", 2000, f64::NEG_INFINITY),
        sample("fan-1", "rpm", 2000, stale),
        sample("", "rpm", 2000, 1.0),
        sample("fan-1", " ", 2000, 1.0),
        sample("fan-1", "rp\nm", 2000, 1.0),
        sample("fan-1", &"m".repeat(MAX_NAME_BYTES + 1), 2000, 1.0),
        sample("fan-1", "rpm", -1, 1.0),
        sample("fan-1", "rpm", NOW_MS + ahead + 1, 1.0),
        sample("fan-1", "rpm", NOW_MS + ahead, 2.0),
        sample("fan-1", "rpm", 1000, 3.0),
    ];
    let report = store.append(NOW_MS, batch).await.expect("appends");
    assert_eq!(report.accepted, 3);
    let faults: Vec<(usize, &str)> = report
        .rejected
        .iter()
        .map(|item| (item.index, &*item.field))
        .collect();
    let wanted = [
        (1, "value"),
        (2, "value"),
        (4, "asset"),
        (5, "metric"),
        (6, "metric"),
        (7, "metric"),
        (8, "time"),
        (9, "time"),
    ];
    assert_eq!(faults, wanted);
    let kept = store
        .raw("fan-1", "rpm", 0, i64::MAX)
        .await
        .expect("answers");
    assert_eq!(kept.times_ms, [1000, NOW_MS + ahead]);
    assert_eq!(kept.values, [3.0, 2.0]);
}

#[tokio::test]
async fn one_series_too_many_is_rejected_by_name() {
    let place = Place::sqlite().await;
    let limits = HeadLimits {
        max_series: 2,
        ..HeadLimits::default()
    };
    let store = place.open(limits).await;
    let batch = ["a", "b", "c"].map(|metric| sample("fan-1", metric, 1000, 1.0));
    let report = store.append(NOW_MS, batch.to_vec()).await.expect("appends");
    assert_eq!(report.accepted, 2);
    assert_eq!(report.rejected.len(), 1);
    assert_eq!(report.rejected[0].index, 2);
    assert!(report.rejected[0].reason.contains("`fan-1/c`"));
    let again = vec![sample("fan-1", "b", 2000, 1.0)];
    assert_eq!(
        store.append(NOW_MS, again).await.expect("appends").accepted,
        1
    );
}

#[tokio::test]
async fn an_oversized_batch_and_an_impossible_range_are_refused() {
    let place = Place::sqlite().await;
    let limits = HeadLimits {
        max_batch_samples: 2,
        ..HeadLimits::default()
    };
    let store = place.open(limits).await;
    let batch = vec![sample("fan-1", "rpm", 1000, 1.0); 3];
    let refused = store.append(NOW_MS, batch).await;
    assert!(matches!(
        refused,
        Err(TelemetryError::OversizedBatch { count: 3, limit: 2 })
    ));
    let query = |from_ms, to_ms, step_ms| RangeQuery {
        asset: "fan-1".to_owned(),
        metric: "rpm".to_owned(),
        from_ms,
        to_ms,
        step_ms,
    };
    let refused = store.query(query(5, 4, None)).await;
    assert!(matches!(refused, Err(TelemetryError::EmptyRange { .. })));
    let refused = store.query(query(0, 4, Some(0))).await;
    assert!(matches!(refused, Err(TelemetryError::InvalidStep { .. })));
    let refused = store.query(query(0, i64::MAX, Some(1))).await;
    assert!(matches!(refused, Err(TelemetryError::TooManyPoints { .. })));
    let nothing = store.query(query(0, 4, None)).await.expect("answers");
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn memory_stays_within_its_limit_and_blocks_fill_up() {
    let place = Place::sqlite().await;
    let store = place.open(small()).await;
    for round in 0..50i64 {
        let batch = (0..7)
            .map(|i| sample("fan-1", "rpm", round * 7 + i, 0.5))
            .collect();
        store.append(NOW_MS, batch).await.expect("appends");
        assert!(store.held_in_memory() <= small().max_samples_in_memory);
    }
    store.flush().await.expect("flushes");
    let db = place.connect().await;
    let sql = sea_orm::Statement::from_string(
        db.get_database_backend(),
        "SELECT COUNT(*), (SELECT COUNT(*) FROM sample_wal) FROM block",
    );
    let row = db
        .query_one_raw(sql)
        .await
        .expect("answers")
        .expect("one row");
    let blocks: i64 = row.try_get_by_index(0).expect("a number");
    assert!(
        blocks <= 350 / 8 + 1,
        "{blocks} blocks for 350 points of 8 each"
    );
    assert_eq!(row.try_get_by_index::<i64>(1).expect("a number"), 0);
}

#[tokio::test]
async fn pruning_forgets_whole_blocks_only() {
    let place = Place::sqlite().await;
    let store = place.open(small()).await;
    let batch = (0..32)
        .map(|time| sample("fan-1", "rpm", time, 0.5))
        .collect();
    store.append(NOW_MS, batch).await.expect("appends");
    store.flush().await.expect("flushes");
    assert_eq!(store.prune(10).await.expect("prunes"), 8);
    let info = &store.series(None).await.expect("answers")[0];
    assert_eq!((info.first_ms, info.last_ms, info.count), (8, 31, 24));
}

/// A client that hangs up cancels its request anywhere in the middle.
async fn a_cancelled_append_is_whole_or_absent(place: &Place) {
    let stores = [place.open(small()).await, place.open(small()).await];
    for round in 0..60i64 {
        let store = stores[0].clone();
        let asset = format!("fan-{}", round % 20);
        let batch = (0..7)
            .map(|i| sample(&asset, "rpm", round * 7 + i, 1.0))
            .collect();
        let append = tokio::spawn(async move { store.append(NOW_MS, batch).await });
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        append.abort();
        let _ = append.await;
    }
    let last = vec![sample("fan-last", "rpm", 1, 1.0)];
    stores[0].append(NOW_MS, last).await.expect("appends");
    let infos = stores[0].series(None).await.expect("answers");
    assert_eq!(infos, stores[1].series(None).await.expect("answers"));
    for info in infos.iter().filter(|info| &*info.asset != "fan-last") {
        assert_eq!(info.count % 7, 0, "{info:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_append_is_whole_or_absent_on_sqlite() {
    a_cancelled_append_is_whole_or_absent(&Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Postgres"]
async fn a_cancelled_append_is_whole_or_absent_on_postgres() {
    a_cancelled_append_is_whole_or_absent(&Place::postgres("cancel").await).await;
}

/// A process that appends until it is killed, and says which batches were acknowledged.
#[tokio::test]
#[ignore = "is the process that `what_was_acknowledged_survives_a_kill` kills"]
async fn appends_until_killed() {
    let Ok(url) = std::env::var("FOREWRIGHT_TEST_KILLED") else {
        return;
    };
    let place = Place { url, _folder: None };
    let store = place.open(small()).await;
    for batch in 0i64.. {
        let samples = (0..7)
            .map(|i| sample("fan-1", "rpm", batch * 7 + i, 1.0))
            .collect();
        store.append(NOW_MS, samples).await.expect("appends");
        println!("acknowledged {batch}");
    }
}

async fn what_was_acknowledged_survives_a_kill(place: &Place) {
    use std::io::BufRead as _;
    for kill_after in [3, 20, 61] {
        let mut child = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "telemetry::tests::appends_until_killed"])
            .args(["--ignored", "--nocapture"])
            .env("FOREWRIGHT_TEST_KILLED", &place.url)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let output = std::io::BufReader::new(child.stdout.take().expect("is piped"));
        let acknowledged = |line: String| line.strip_prefix("acknowledged ")?.parse::<i64>().ok();
        let mut lines = output
            .lines()
            .map_while(Result::ok)
            .filter_map(acknowledged);
        let last = lines
            .by_ref()
            .take(kill_after)
            .last()
            .expect("acknowledges");
        child.kill().expect("is killed");
        let last = lines.last().unwrap_or(last);
        child.wait().expect("has ended");
        let store = place.open(small()).await;
        let kept = store
            .raw("fan-1", "rpm", 0, i64::MAX)
            .await
            .expect("answers");
        let wanted: Vec<i64> = (0..(last + 1) * 7).collect();
        assert!(
            kept.times_ms.starts_with(&wanted),
            "{} of {}",
            kept.times_ms.len(),
            wanted.len()
        );
        assert_eq!(
            kept.times_ms.len() % 7,
            0,
            "a batch is stored whole or not at all"
        );
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_on_sqlite() {
    what_was_acknowledged_survives_a_kill(&Place::sqlite().await).await;
}

#[tokio::test]
#[ignore = "needs Postgres"]
async fn what_was_acknowledged_survives_a_kill_on_postgres() {
    what_was_acknowledged_survives_a_kill(&Place::postgres("kill").await).await;
}

/// Run with `--release --ignored --nocapture`; the goal is 10 s on one core.
#[tokio::test]
#[ignore = "measures, best in release"]
async fn eight_hundred_thousand_samples_arrive_in_ten_seconds() {
    let place = Place::sqlite().await;
    let store = place.open(HeadLimits::default()).await;
    let mut requests = Vec::new();
    for asset in 0..200 {
        let name: Arc<str> = format!("engine-{asset}").into();
        let batch: Vec<Sample> = (0..24)
            .flat_map(|metric| {
                let (name, metric): (Arc<str>, Arc<str>) =
                    (Arc::clone(&name), format!("sensor_{metric}").into());
                (0..170i64).map(move |cycle| Sample {
                    asset: Arc::clone(&name),
                    metric: Arc::clone(&metric),
                    time_ms: cycle * 3_600_000,
                    value: ((cycle * 37 + asset) % 1000) as f64 / 100.0,
                })
            })
            .collect();
        requests.push(crate::ingest::remote_write::encode(&batch));
    }
    let pairs: Vec<Vec<u8>> = requests;
    let started = std::time::Instant::now();
    let mut accepted = 0;
    for body in &pairs {
        let parsed = crate::ingest::remote_write::decode(body).expect("decodes");
        accepted += store
            .append(NOW_MS, parsed.samples)
            .await
            .expect("appends")
            .accepted;
    }
    let appended = started.elapsed();
    store.flush().await.expect("flushes");
    let sealed = started.elapsed();
    let read = std::time::Instant::now();
    let many = store
        .raw_many("engine-7", 0, NOW_MS)
        .await
        .expect("answers");
    println!(
        "{accepted} samples appended in {appended:?}, sealed by {sealed:?}; {} series read in {:?}",
        many.len(),
        read.elapsed()
    );
    assert_eq!(accepted, 200 * 24 * 170);
    assert!(sealed.as_secs() < 10 || cfg!(debug_assertions));
}
