//! Outside judges: CalculiX on displacements, admesh on the mesh.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;

use cad::brief::Brief;
use cad::certificate::certify_mesh;
use cad::design::{Design, redesign};
use cad::fem::calculix::deck;
use cad::fem::load::{FailureMode, LoadInputs, load_cases};
use cad::fem::model::Model;
use cad::field::voxelise::voxelise;

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

fn design() -> Design {
    let mut brief = Brief::from_toml(BRIEF).unwrap();
    let worn = LoadInputs {
        vibration_ratio: 4.0,
        ..LoadInputs::default()
    };
    let cases = load_cases(FailureMode::ImbalanceFromBearingWear, &worn, "boss").unwrap();
    brief.loads.extend(cases);
    redesign(&brief, 1, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn empty_folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cad-peers-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
#[ignore = "needs CalculiX"]
fn calculix_finds_the_same_displacements() {
    let design = design();
    let brief = &design.brief;
    let certificate =
        certify_mesh(&design.mesh, brief, &mut |_| ControlFlow::Continue(())).unwrap();
    let voxels = voxelise(
        &design.mesh,
        brief.counts(),
        [0.0; 3],
        brief.optimise.voxel_mm,
    );
    let model = Model::new(brief, &voxels).unwrap();
    let folder = empty_folder("ccx");
    for (case, result) in certificate.load_cases.iter().enumerate() {
        std::fs::write(
            folder.join("part.inp"),
            deck(&model, case, brief.material.e_mpa),
        )
        .unwrap();
        let run = Command::new("ccx")
            .args(["-i", "part"])
            .current_dir(&folder)
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stdout)
        );
        let listing = std::fs::read_to_string(folder.join("part.dat")).unwrap();
        let greatest = listing
            .lines()
            .filter_map(|line| {
                let numbers: Vec<f64> = line
                    .split_whitespace()
                    .map_while(|w| w.parse().ok())
                    .collect();
                (numbers.len() == 4).then(|| numbers[1..].iter().map(|x| x * x).sum::<f64>().sqrt())
            })
            .fold(0.0, f64::max);
        let ratio = result.max_displacement_mm / greatest;
        println!(
            "{}: ours {} CalculiX {greatest}",
            result.name, result.max_displacement_mm
        );
        assert!((ratio - 1.0).abs() < 1e-4, "{}: {ratio}", result.name);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "needs admesh"]
fn admesh_has_nothing_to_fix() {
    let design = design();
    let folder = empty_folder("admesh");
    let file = folder.join("part.stl");
    std::fs::write(&file, cad::formats::stl::write(&design.mesh)).unwrap();
    let run = Command::new("admesh").arg(&file).output().unwrap();
    let report = String::from_utf8_lossy(&run.stdout).into_owned();
    println!("{report}");
    for line in [
        "Edges fixed",
        "Facets removed",
        "Facets added",
        "Facets reversed",
        "Backwards edges",
        "Normals fixed",
        "Degenerate facets",
    ] {
        let at = report
            .find(line)
            .unwrap_or_else(|| panic!("no `{line}` in {report}"));
        let count = report[at..]
            .split(':')
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap();
        assert_eq!(count, "0", "{line}: {report}");
    }
    let at = report.find("Total disconnected facets").unwrap();
    let original = report[at..]
        .split(':')
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    assert_eq!(original, "0", "{report}");
    std::fs::remove_dir_all(folder).unwrap();
}
