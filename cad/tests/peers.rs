//! Outside judges: CalculiX on displacements, admesh on the mesh, PrusaSlicer on the amount of plastic.

mod worn_bracket;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;

use cad::certificate::certify_mesh;
use cad::fem::calculix::deck;
use cad::fem::model::Model;
use cad::field::voxelise::voxelise;
use cad::slice::printer::Printer;
use cad::slice::settings::Settings;
use worn_bracket::design;

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

#[test]
#[ignore = "needs PrusaSlicer"]
fn prusaslicer_takes_as_much_filament() {
    let design = design();
    let folder = empty_folder("prusaslicer");
    let file = folder.join("part.stl");
    std::fs::write(&file, cad::formats::stl::write(&design.mesh)).unwrap();
    let settings = Settings {
        skirt_loops: 0,
        ..Settings::default()
    };
    let printer = Printer::named("generic_marlin").unwrap();
    for (density, pinned) in [(0.2, "20%"), (1.0, "100%")] {
        let settings = Settings {
            infill_density: density,
            ..settings.clone()
        };
        let ours = cad::slice::slice(&design.mesh, &printer, &settings, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        // The pattern `grid` cannot fill all: there both draw parallel lines.
        let pattern = if density < 1.0 { "grid" } else { "rectilinear" };
        let run = Command::new("prusa-slicer")
            .args(["--export-gcode", "--layer-height", "0.2"])
            .args(["--first-layer-height", "0.2", "--perimeters", "2"])
            .args(["--fill-density", pinned, "--fill-pattern", pattern])
            .args(["--top-solid-layers", "4", "--bottom-solid-layers", "4"])
            .args(["--extrusion-width", "0.4"])
            .args(["--first-layer-extrusion-width", "0.4"])
            .args(["--skirts", "0", "--output", "part.gcode", "part.stl"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        let gcode = std::fs::read_to_string(folder.join("part.gcode")).unwrap();
        let theirs_mm: f64 = gcode
            .lines()
            .find_map(|line| line.strip_prefix("; filament used [mm] = "))
            .expect("PrusaSlicer says how much it takes")
            .trim()
            .parse()
            .unwrap();
        let ratio = ours.estimate.filament_mm / theirs_mm;
        println!(
            "{pinned} infill: ours {:.1} mm, PrusaSlicer {theirs_mm:.1} mm, ratio {ratio:.4}",
            ours.estimate.filament_mm
        );
        assert!((ratio - 1.0).abs() <= 0.05, "{pinned}: {ratio}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
