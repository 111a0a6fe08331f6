//! The failure model on NASA's turbofan data, under the pinned protocol.

use std::ops::ControlFlow;
use std::path::Path;

use predict::backtest::cmapss;

/// From this package's folder, where cargo runs its tests.
const DATA: &str = "../../shared/data/cmapss";

fn data() -> Option<cmapss::Turbofans> {
    if !Path::new(DATA).is_dir() {
        println!("skipped: no folder {DATA}");
        return None;
    }
    Some(cmapss::load(Path::new(DATA)).expect("published data is well formed"))
}

#[test]
fn remaining_life_meets_the_goal_of_protocol_c1() {
    let Some(data) = data() else { return };
    assert_eq!((data.train.len(), data.test.len()), (100, 100));
    let rows: usize = data.train.iter().map(|unit| unit.rows.len()).sum();
    assert_eq!(rows, 20_631);
    let report = cmapss::run(&data, 0, &mut |_| ControlFlow::Continue(())).expect("trains");
    println!(
        "FD001 rmse {:.2} capped, {:.2} raw; PHM {:.0} capped, {:.0} raw; by folds rmse {:.2}",
        report.rmse_capped,
        report.rmse_raw,
        report.phm_capped,
        report.phm_raw,
        report.evaluation.rmse_capped,
    );
    for horizon in &report.evaluation.horizons {
        let judged = &horizon.reliability;
        println!(
            "{}: brier {:.4}, skill {:?}",
            horizon.name, judged.brier, judged.skill
        );
    }
    assert!(report.rmse_capped <= 13.0, "{}", report.rmse_capped);
}
