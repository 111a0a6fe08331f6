//! The failure model on fan trays of the wear model: from histories to a score with reasons.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use predict::failure::{BytesError, Evaluation, FailureModel, ScoreError, TrainError, Training};
use predict::history::UnitHistory;
use predict::wear;
use proptest::prelude::*;

const LOAD: [f64; 24] = [
    0.3, 0.3, 0.25, 0.25, 0.3, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.75, 0.8, 0.8, 0.75, 0.7, 0.6,
    0.6, 0.5, 0.5, 0.4, 0.4, 0.3,
];

fn training() -> Training {
    Training {
        window: 48,
        cap: 720.0,
        seed: 3,
        ..Training::default()
    }
}

fn train(units: &[UnitHistory], training: &Training) -> (FailureModel, Evaluation) {
    FailureModel::train(units, training, &mut |_| ControlFlow::Continue(())).expect("trains")
}

fn trained() -> &'static (FailureModel, Evaluation) {
    static TRAINED: OnceLock<(FailureModel, Evaluation)> = OnceLock::new();
    TRAINED.get_or_init(|| train(&wear::fleet(1, 24, &LOAD), &training()))
}

#[test]
fn the_failing_fan_stands_out_for_the_right_reason() {
    let (model, _) = trained();
    let fans = wear::current(5, 12, &LOAD);
    let scores: Vec<_> = fans
        .iter()
        .map(|fan| model.score(fan).expect("same metrics"))
        .collect();
    let week = |i: usize| scores[i].by_horizon["7d"];
    for (fan, score) in fans.iter().zip(&scores) {
        println!(
            "{} after {} h: {:?}",
            fan.unit,
            fan.rows.len(),
            score.by_horizon
        );
        let by = &score.by_horizon;
        assert!(by["1d"] <= by["7d"] && by["7d"] <= by["30d"]);
        let life = score.remaining_life_hours.expect("the model tells it");
        assert!(life.p05 <= life.p50 && life.p50 <= life.p95);
    }
    println!(
        "{:?} {:?}",
        scores[0].remaining_life_hours, scores[0].reasons
    );
    assert!(week(0) > 0.6, "{}", week(0));
    assert!((1..fans.len()).all(|i| week(i) < week(0)));
    assert_eq!(scores[0].reasons[0].metric, "vibration_mm_s");
    assert!(scores[0].reasons[0].contribution > 0.0);
    assert!(Some(scores[0].reasons[0].value) > scores[0].reasons[0].typical);
}

#[test]
fn probabilities_hold_on_fans_never_seen() {
    let (model, evaluation) = trained();
    println!(
        "rmse {:.0} h capped, life coverage {:.2}, {} cut-offs",
        evaluation.rmse_capped, evaluation.life_coverage, evaluation.n
    );
    for horizon in &evaluation.horizons {
        let judged = &horizon.reliability;
        println!(
            "{}: brier {:.4}, skill {:?}",
            horizon.name, judged.brier, judged.skill
        );
        assert!(judged.skill.expect("both outcomes occur") > 0.3);
        assert!(judged.calibration_error < 0.05);
    }
    // Fans of another seed, at points of their life the model has not seen either.
    let (mut promised, mut happened, mut n) = (0.0, 0.0, 0.0);
    for fan in wear::fleet(99, 40, &LOAD) {
        for at in (100..fan.rows.len()).step_by(97) {
            promised += model.score(&fan.cut(at)).expect("same metrics").by_horizon["7d"];
            happened += f64::from(fan.rows.len() - at <= 168);
            n += 1.0;
        }
    }
    println!("7d on new fans: promised {promised:.1}, happened {happened} of {n}");
    // Forty correlated lives: the ratio's standard error is about a tenth.
    assert!((0.75..1.3).contains(&(promised / happened)));
}

#[test]
fn equal_input_gives_equal_bytes_for_any_number_of_threads() {
    let fleet = wear::fleet(2, 6, &LOAD);
    let quick = Training {
        window: 24,
        ..training()
    };
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads start")
            .install(|| train(&fleet, &quick).0.to_bytes())
    };
    let one = bytes(1);
    assert_eq!(one, bytes(3));
    assert_ne!(
        one,
        train(
            &fleet,
            &Training {
                seed: 4,
                ..quick.clone()
            }
        )
        .0
        .to_bytes()
    );
}

#[test]
fn bytes_come_back_as_the_same_model() {
    let (model, _) = trained();
    let bytes = model.to_bytes();
    println!("{} bytes", bytes.len());
    let back = FailureModel::from_bytes(&bytes).expect("own bytes");
    assert_eq!(&back, model);
    assert_eq!(back.to_bytes(), bytes);
    let fan = &wear::current(5, 1, &LOAD)[0];
    assert_eq!(back.score(fan), model.score(fan));
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = trained().0.to_bytes();
    assert!(matches!(
        FailureModel::from_bytes(b"hello"),
        Err(BytesError::NotAModel)
    ));
    let mut newer = bytes.clone();
    newer[4] = 9;
    assert!(matches!(
        FailureModel::from_bytes(&newer),
        Err(BytesError::Version { found: 9 })
    ));
    for place in (8..bytes.len()).step_by(bytes.len() / 50) {
        let mut bad = bytes.clone();
        bad[place] ^= 1;
        assert!(matches!(
            FailureModel::from_bytes(&bad),
            Err(BytesError::Checksum)
        ));
        assert!(FailureModel::from_bytes(&bytes[..place]).is_err());
    }
}

#[test]
fn running_units_teach_without_being_taken_for_failed_ones() {
    // Half of the fleet is only followed for the first half of its life.
    let mut fleet = wear::fleet(1, 24, &LOAD);
    for fan in fleet.iter_mut().step_by(2) {
        *fan = fan.cut(fan.rows.len() / 2);
    }
    let (model, evaluation) = train(&fleet, &training());
    assert_eq!((evaluation.units, evaluation.failed_units), (24, 12));
    let healthy = wear::fleet(77, 8, &LOAD);
    for fan in &healthy {
        let early = model
            .score(&fan.cut(fan.rows.len() / 3))
            .expect("same metrics");
        assert!(early.by_horizon["1d"] < 0.05, "{:?}", early.by_horizon);
    }
}

#[test]
fn unusable_histories_are_refused_by_name() {
    let fleet = wear::fleet(2, 5, &LOAD);
    let go = |units: &[UnitHistory], training: &Training| {
        let result = FailureModel::train(units, training, &mut |_| ControlFlow::Continue(()));
        result.map(|_| ()).expect_err("unusable").to_string()
    };
    assert!(go(&fleet[..3], &training()).contains("3 units of which 3 failed are too few"));
    assert!(
        go(
            &fleet,
            &Training {
                window: 0,
                ..training()
            }
        )
        .contains("`window` is zero rows")
    );
    assert!(
        go(
            &fleet,
            &Training {
                cap: f64::NAN,
                ..training()
            }
        )
        .contains("`cap`")
    );
    assert!(
        go(
            &fleet,
            &Training {
                horizons: vec![],
                ..training()
            }
        )
        .contains("`horizons`")
    );
    let mut other_step = fleet.clone();
    other_step[2].step_ms = 1;
    assert!(go(&other_step, &training()).contains("worn-fan-003"));
    let mut still = fleet.clone();
    still
        .iter_mut()
        .flat_map(|fan| &mut fan.rows)
        .for_each(|row| row.fill(1.0));
    assert_eq!(
        go(&still, &training()),
        "no metric of the histories ever changes"
    );
    let stopped = FailureModel::train(&fleet, &training(), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(TrainError::Stopped)));
}

#[test]
fn a_unit_that_nobody_measures_is_left_out_whatever_its_place() {
    let fleet = wear::fleet(1, 12, &LOAD);
    let (alone, _) = train(&fleet, &training());
    let idle = wear::current(5, 1, &LOAD).remove(0);
    let blind = idle.select(&wear::METRICS[1..]).expect("own metrics");
    let with_blind: Vec<UnitHistory> = std::iter::once(blind).chain(fleet).collect();
    let (model, evaluation) = train(&with_blind, &training());
    assert_eq!(model, alone);
    assert_eq!((evaluation.units, evaluation.left_out_units), (12, 1));
}

#[test]
fn units_the_model_cannot_read_are_refused_and_gaps_are_not() {
    let (model, _) = trained();
    let fan = wear::current(5, 1, &LOAD).remove(0);
    let partial = fan.select(&wear::METRICS[1..]).expect("own metrics");
    let error = model.score(&partial).expect_err("no vibration").to_string();
    assert_eq!(error, "unit `fan-001` has no metric `vibration_mm_s`");
    let slow = UnitHistory {
        step_ms: 60_000,
        ..fan.clone()
    };
    assert!(matches!(
        model.score(&slow),
        Err(ScoreError::Step { found: 60_000, .. })
    ));
    assert!(model.score(&fan.cut(0)).is_err());
    let mut blind = fan.clone();
    blind.rows.iter_mut().for_each(|row| row.fill(f64::NAN));
    assert!(model.score(&blind).expect("gaps are allowed").by_horizon["7d"].is_finite());
    assert!(
        model
            .score(&fan.cut(1))
            .expect("one row will do")
            .by_horizon["7d"]
            .is_finite()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn any_content_under_a_good_checksum_is_a_usable_model_or_an_error(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = trained().0.to_bytes();
        for (place, byte) in edits {
            let place = 16 + place.index(bytes.len() - 16);
            // Digits stay digits, so that most edits survive the parser.
            if bytes[place].is_ascii_digit() {
                bytes[place] = b'0' + byte % 10;
            }
        }
        let sum = bytes[16..].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        if let Ok(model) = FailureModel::from_bytes(&bytes) {
            let fan = &wear::current(5, 1, &LOAD)[0];
            if let Ok(fps) = model.score(fan) {
                prop_assert!(fps.by_horizon.values().all(|p| (0.0..=1.0).contains(p)));
            }
        }
    }
}
