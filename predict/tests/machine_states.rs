//! Calibrated failure probabilities on AI4I 2020, under the pinned protocol.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use predict::backtest::ai4i;

/// From this package's folder, where cargo runs its tests.
const DATA: &str = "../../shared/data/ai4i2020/ai4i2020.csv";

#[test]
fn probabilities_meet_the_goal_of_protocol_a1() {
    if !Path::new(DATA).is_file() {
        println!("skipped: no file {DATA}");
        return;
    }
    let file = File::open(DATA).expect("readable");
    let machines = ai4i::parse(BufReader::new(file)).expect("published data is well formed");
    assert_eq!(machines.failed.len(), 10_000);
    assert_eq!(machines.failed.iter().sum::<f64>(), 339.0);
    let report = ai4i::run(&machines, 0);
    let judged = &report.reliability;
    println!(
        "AI4I brier {:.4}, skill {:.3}, calibration error {:.4}, top decile {:.2}",
        judged.brier,
        judged.skill.unwrap_or(0.0),
        judged.calibration_error,
        report.top_decile,
    );
    assert!(judged.brier <= 0.008, "{}", judged.brier);
    assert!((0.8..1.2).contains(&report.top_decile));
}
