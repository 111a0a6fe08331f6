//! The part the tests from outside look at: a bracket redesigned for a bearing that wears.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use cad::brief::Brief;
use cad::design::{Design, redesign};
use cad::fem::load::{FailureMode, LoadInputs, load_cases};

const BRIEF: &str = r#"
printer = "prusa_mk4"
required_fos = 2.0
[part]
family = "fan_tray_bracket"
[material]
name = "petg"
e_mpa = 2000.0
nu = 0.38
density_g_cm3 = 1.27
yield_mpa = 45.0
[[load]]
name = "shock down"
at = "boss"
force_n = [0.0, 0.0, -120.0]
[[load]]
name = "imbalance"
at = "boss"
force_n = [20.0, 30.0, -12.0]
point_mm = [45.0, 20.0, 30.0]
"#;

/// The design, made once per test process.
pub(crate) fn design() -> &'static Design {
    static DESIGN: OnceLock<Design> = OnceLock::new();
    DESIGN.get_or_init(make)
}

fn make() -> Design {
    let mut brief = Brief::from_toml(BRIEF).unwrap();
    let worn = LoadInputs {
        vibration_ratio: 4.0,
        ..LoadInputs::default()
    };
    let cases = load_cases(FailureMode::ImbalanceFromBearingWear, &worn, "boss").unwrap();
    brief.loads.extend(cases);
    redesign(&brief, 1, &mut |_| ControlFlow::Continue(())).unwrap()
}
