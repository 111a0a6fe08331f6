//! Slicing from the outside: parts in, G-code out, and what the checks say of it.

use std::f64::consts::TAU;
use std::ops::ControlFlow;

use cad::mesh::Mesh;
use cad::slice::printer::Printer;
use cad::slice::settings::{Pattern, Settings};
use cad::slice::{
    Defect, Deposit, DepositError, DepositOptions, ScannerPose, SliceError, Sliced, check, deposit,
    deposit_with_defect, slice,
};
use cad::units::Mm;
use proptest::prelude::*;

fn quiet(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn printer() -> Printer {
    Printer::named("generic_marlin").expect("shipped")
}

fn solid() -> Settings {
    Settings {
        infill_density: 1.0,
        skirt_loops: 0,
        ..Settings::default()
    }
}

/// Cuts a closed profile out of a prism along `axis`: `outer` and `inner` have equally many points.
fn ring(outer: &[[f64; 2]], inner: &[[f64; 2]], low: f64, high: f64, axis: usize) -> Mesh {
    let n = outer.len();
    let at = |p: [f64; 2], h: f64| match axis {
        0 => [h, p[0], p[1]],
        1 => [p[1], h, p[0]],
        _ => [p[0], p[1], h],
    };
    let mut vertices = Vec::new();
    for (contour, h) in [(outer, low), (inner, low), (outer, high), (inner, high)] {
        vertices.extend(contour.iter().map(|&p| at(p, h)));
    }
    let mut triangles = Vec::new();
    for i in 0..n {
        let j = (i + 1) % n;
        let v = |ring: usize, k: usize| (ring * n + k) as u32;
        let mut quad = |a, b, c, d| triangles.extend([[a, b, c], [a, c, d]]);
        quad(v(0, i), v(0, j), v(2, j), v(2, i));
        quad(v(1, j), v(1, i), v(3, i), v(3, j));
        quad(v(2, i), v(2, j), v(3, j), v(3, i));
        quad(v(0, j), v(0, i), v(1, i), v(1, j));
    }
    Mesh {
        vertices,
        triangles,
    }
}

/// A prism over a convex, counter-clockwise profile.
fn prism(profile: &[[f64; 2]], low: f64, high: f64) -> Mesh {
    let n = profile.len() as u32;
    let mut vertices: Vec<[f64; 3]> = profile.iter().map(|p| [p[0], p[1], low]).collect();
    vertices.extend(profile.iter().map(|p| [p[0], p[1], high]));
    let mut triangles = Vec::new();
    for i in 0..n {
        let j = (i + 1) % n;
        triangles.extend([[i, j, n + j], [i, n + j, n + i]]);
        if i > 0 && i + 1 < n {
            triangles.extend([[0, i + 1, i], [n, n + i, n + i + 1]]);
        }
    }
    Mesh {
        vertices,
        triangles,
    }
}

fn circle(x: f64, y: f64, r: f64, n: usize) -> Vec<[f64; 2]> {
    (0..n)
        .map(|i| TAU * i as f64 / n as f64)
        .map(|a| [x + r * a.cos(), y + r * a.sin()])
        .collect()
}

/// A rectangle with as many points as the circle inside it, one on each ray.
fn frame(x: [f64; 2], y: [f64; 2], centre: [f64; 2], n: usize) -> Vec<[f64; 2]> {
    // The corners must be among the points: snap the nearest ray to each.
    let mut points: Vec<[f64; 2]> = circle(0.0, 0.0, 1.0, n)
        .into_iter()
        .map(|d| {
            let far = |d: f64, low: f64, high: f64| {
                if d > 1e-12 {
                    high / d
                } else if d < -1e-12 {
                    low / d
                } else {
                    f64::INFINITY
                }
            };
            let t = far(d[0], x[0] - centre[0], x[1] - centre[0]).min(far(
                d[1],
                y[0] - centre[1],
                y[1] - centre[1],
            ));
            [centre[0] + t * d[0], centre[1] + t * d[1]]
        })
        .collect();
    for corner in [[x[0], y[0]], [x[1], y[0]], [x[0], y[1]], [x[1], y[1]]] {
        let off = |p: &[f64; 2]| (p[0] - corner[0]).hypot(p[1] - corner[1]);
        if let Some(nearest) = points.iter_mut().min_by(|a, b| off(a).total_cmp(&off(b))) {
            *nearest = corner;
        }
    }
    points
}

fn join(parts: &[Mesh]) -> Mesh {
    let mut all = Mesh::default();
    for part in parts {
        let base = all.vertices.len() as u32;
        all.vertices.extend(&part.vertices);
        all.triangles
            .extend(part.triangles.iter().map(|t| t.map(|v| v + base)));
    }
    all
}

fn block(min: [f64; 3], max: [f64; 3]) -> Mesh {
    let profile = [
        [min[0], min[1]],
        [max[0], min[1]],
        [max[0], max[1]],
        [min[0], max[1]],
    ];
    prism(&profile, min[2], max[2])
}

/// The reference bracket: plate 60x40x8, wall 8x40x40, boss r 12 with a bore r 5, two bores r 3
/// through the wall. Its parts overlap, as parts of an assembly do; cutting unites them.
fn bracket(n: usize) -> Mesh {
    let bore = |y: f64| {
        let (low, high) = if y < 20.0 { (0.0, 20.0) } else { (20.0, 40.0) };
        let outer = frame([low, high], [20.0, 36.0], [y, 28.0], n);
        ring(&outer, &circle(y, 28.0, 3.0, n), 0.0, 8.0, 0)
    };
    join(&[
        ring(
            &frame([30.0, 60.0], [0.0, 40.0], [45.0, 20.0], n),
            &circle(45.0, 20.0, 5.0, n),
            0.0,
            8.0,
            2,
        ),
        ring(
            &circle(45.0, 20.0, 12.0, n),
            &circle(45.0, 20.0, 5.0, n),
            0.0,
            16.0,
            2,
        ),
        block([0.0, 0.0, 0.0], [30.0, 40.0, 8.0]),
        block([0.0, 0.0, 0.0], [8.0, 40.0, 20.0]),
        block([0.0, 0.0, 36.0], [8.0, 40.0, 40.0]),
        bore(10.0),
        bore(30.0),
    ])
}

/// Volume of the bracket with bores of 64 sides.
const BRACKET_MM3: f64 = 31_347.03;

fn sliced(mesh: &Mesh, settings: &Settings) -> Sliced {
    slice(mesh, &printer(), settings, &mut quiet).expect("slices")
}

fn clean(sliced: &Sliced) -> check::LintReport {
    check::lint(&sliced.gcode, &printer())
        .unwrap_or_else(|v| panic!("{} … {} in all", v[0], v.len()))
}

#[test]
fn the_bracket_at_full_infill_has_its_volume() {
    let sliced = sliced(&bracket(64), &solid());
    let report = clean(&sliced);
    assert_eq!((report.layers, sliced.estimate.layers), (200, 200));
    let off = report.volume_mm3 / BRACKET_MM3 - 1.0;
    assert!(off.abs() < 0.01, "{off}");
    assert!((report.volume_mm3 - sliced.estimate.volume_mm3).abs() < 1e-3 * report.volume_mm3);
    assert!((report.filament_mm / sliced.estimate.filament_mm - 1.0).abs() < 1e-4);
    for axis in 0..3 {
        assert!(
            report.min[axis] >= sliced.placed[axis]
                && report.max[axis] <= sliced.placed[axis] + 60.0
        );
    }
}

#[test]
fn the_bracket_with_sparse_infill_takes_what_other_slicers_take() {
    // PrusaSlicer with the same settings: 13 804 mm³, 1 h 44 min on its own speeds.
    let sliced = sliced(
        &bracket(64),
        &Settings {
            skirt_loops: 0,
            ..Settings::default()
        },
    );
    let off = clean(&sliced).volume_mm3 / 13_804.0 - 1.0;
    assert!(off.abs() < 0.05, "{off} {:?}", sliced.estimate);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let mesh = bracket(24);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("pool");
        pool.install(|| sliced(&mesh, &Settings::default()).gcode)
    };
    let one = on(1);
    assert!(one == on(3) && one == on(2));
    assert!(one.contains("; printer: generic_marlin") && one.contains("\"infill_density\":0.2"));
}

#[test]
fn every_shipped_printer_gets_clean_code_for_every_material() {
    let mesh = bracket(16);
    for name in Printer::names() {
        let printer = Printer::named(name).expect("shipped");
        for material in printer.materials.keys() {
            let settings = Settings {
                material: material.clone(),
                layer_height: Mm(0.3),
                first_layer_height: Mm(0.25),
                width: Mm(0.5),
                infill_pattern: Pattern::Lines,
                ..Settings::default()
            };
            let sliced = slice(&mesh, &printer, &settings, &mut quiet).expect("slices");
            if let Err(violations) = check::lint(&sliced.gcode, &printer) {
                panic!("{name} {material}: {}", violations[0]);
            }
        }
    }
}

#[test]
fn a_part_that_does_not_fit_is_refused_by_axis() {
    let refuse = |size: [f64; 3]| {
        slice(
            &block([0.0; 3], size),
            &printer(),
            &Settings::default(),
            &mut quiet,
        )
        .expect_err("too large")
    };
    let error = refuse([215.0, 10.0, 10.0]);
    assert!(
        matches!(error, SliceError::TooLarge { axis: 'x', .. }),
        "{error}"
    );
    assert!(error.to_string().contains("with its skirt"), "{error}");
    assert!(matches!(
        refuse([10.0, 10.0, 251.0]),
        SliceError::TooLarge { axis: 'z', .. }
    ));
    assert!(matches!(refuse([10.0, 10.0, 0.05]), SliceError::NoFoot));
}

#[test]
fn slicing_can_be_stopped() {
    let mut calls = 0;
    let mut stop = |_| {
        calls += 1;
        if calls > 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let result = slice(&bracket(16), &printer(), &Settings::default(), &mut stop);
    assert!(matches!(result, Err(SliceError::Cancelled)));
}

/// Signed distance from the bracket's surface, exact near it.
fn from_bracket(p: [f64; 3]) -> f64 {
    let block = |size: [f64; 3]| {
        let d = [0, 1, 2].map(|i| (p[i] - size[i] / 2.0).abs() - size[i] / 2.0);
        let out = d
            .map(|v| v.max(0.0))
            .iter()
            .map(|v| v * v)
            .sum::<f64>()
            .sqrt();
        out + d[0].max(d[1]).max(d[2]).min(0.0)
    };
    let boss = ((p[0] - 45.0).hypot(p[1] - 20.0) - 12.0)
        .max(p[2] - 16.0)
        .max(-p[2]);
    let bore = (p[0] - 45.0).hypot(p[1] - 20.0) - 5.0;
    let bolt = |y: f64| (p[1] - y).hypot(p[2] - 28.0) - 3.0;
    let solid = block([60.0, 40.0, 8.0])
        .min(block([8.0, 40.0, 40.0]))
        .min(boss);
    solid.max(-bore).max(-bolt(10.0)).max(-bolt(30.0))
}

/// A scan, put back from the scanner's frame into that of the mesh.
fn unposed(points: &[[f64; 3]], pose: &ScannerPose, placed: [f64; 3]) -> Vec<[f64; 3]> {
    points
        .iter()
        .map(|p| {
            let d: [f64; 3] = [0, 1, 2].map(|i| p[i] - pose.centre[i] - pose.shift[i]);
            [0, 1, 2].map(|j| {
                let back: f64 = (0..3).map(|i| pose.rotation[i][j] * d[i]).sum();
                back + pose.centre[j] - placed[j]
            })
        })
        .collect()
}

fn laid(sliced: &Sliced) -> Deposit {
    deposit(&sliced.gcode, &DepositOptions::default(), &mut quiet).expect("deposits")
}

#[test]
fn the_deposited_bracket_is_the_bracket() {
    let mesh = bracket(64);
    for settings in [solid(), Settings::default()] {
        let sliced = sliced(&mesh, &settings);
        let deposit = laid(&sliced);
        let full = settings.infill_density == 1.0;
        let iou = deposit.iou_with(&sliced.place(&mesh));
        let off = deposit.volume_mm3() / deposit.extruded_mm3() - 1.0;
        println!(
            "iou {iou:.4}, model against nozzle {off:.4}, cells {:?}",
            deposit.cells()
        );
        if full {
            assert!(iou >= 0.97, "{iou}");
            assert!((deposit.volume_mm3() / BRACKET_MM3 - 1.0).abs() < 0.015);
        }
        assert!(off.abs() < 0.05, "{off}");
        let scan = deposit.surface_points(5, 0.8, 0.0);
        let points = unposed(&scan.points, &deposit.scanner_pose(5), sliced.placed);
        let normals = scan.normals.as_ref().expect("normals");
        assert_eq!(normals.len(), points.len());
        let mut off: Vec<f64> = points.iter().map(|&p| from_bracket(p)).collect();
        off.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| off[((off.len() - 1) as f64 * share) as usize];
        println!(
            "{} points: {:.3} {:.3} {:.3} {:.3} {:.3} {:.3} {:.3}",
            off.len(),
            at(0.0),
            at(0.001),
            at(0.01),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
        assert!(off.len() > 9_000, "{}", off.len());
        assert!(at(0.01) > -0.1 && at(0.99) < 0.1);
        assert!(at(0.0) > -0.25 && at(1.0) < 0.25);
        assert!(at(0.5).abs() < 0.02);
    }
}

/// A ball on the bed, by latitude and longitude.
fn ball(r: f64, n: usize) -> Mesh {
    let point = |i: usize, j: usize| {
        let (a, b) = (
            TAU / 2.0 * i as f64 / n as f64,
            TAU * j as f64 / (2 * n) as f64,
        );
        [
            r * a.sin() * b.cos(),
            r * a.sin() * b.sin(),
            r - r * a.cos(),
        ]
    };
    let mut mesh = Mesh {
        vertices: vec![point(0, 0)],
        triangles: Vec::new(),
    };
    for i in 1..n {
        mesh.vertices.extend((0..2 * n).map(|j| point(i, j)));
    }
    mesh.vertices.push([0.0, 0.0, 2.0 * r]);
    let last = mesh.vertices.len() as u32 - 1;
    let at = |i: usize, j: usize| match i {
        0 => 0,
        _ if i == n => last,
        _ => (1 + (i - 1) * 2 * n + j % (2 * n)) as u32,
    };
    for i in 0..n {
        for j in 0..2 * n {
            if i > 0 {
                mesh.triangles.push([at(i, j), at(i, j + 1), at(i + 1, j)]);
            }
            if i + 1 < n {
                mesh.triangles
                    .push([at(i, j + 1), at(i + 1, j + 1), at(i + 1, j)]);
            }
        }
    }
    mesh
}

#[test]
fn a_ball_is_stairs_of_half_a_layer_and_its_normals_point_outwards() {
    let r = 12.0;
    let mesh = ball(r, 90);
    assert!(mesh.check().is_closed() && mesh.volume_mm3() > 0.0);
    let sliced = sliced(&mesh, &solid());
    let volume = clean(&sliced).volume_mm3;
    assert!((volume / mesh.volume_mm3() - 1.0).abs() < 0.01, "{volume}");
    let deposit = laid(&sliced);
    assert!(deposit.iou_with(&sliced.place(&mesh)) > 0.97);
    let pose = deposit.scanner_pose(3);
    let scan = deposit.surface_points(3, 0.6, 0.0);
    let points = unposed(&scan.points, &pose, sliced.placed);
    let (mut sum, mut far, mut tilted) = (0.0, 0, 0);
    for (p, n) in points.iter().zip(scan.normals.as_ref().expect("normals")) {
        let out: [f64; 3] = [p[0], p[1], p[2] - r];
        let distance = cad::mesh::length(out);
        sum += distance - r;
        far += usize::from((distance - r).abs() > 0.15);
        let outward = pose.turn(out.map(|v| v / distance));
        tilted += usize::from(cad::mesh::dot(outward, *n) < 0.9);
    }
    let n = points.len();
    println!(
        "{n} points, mean {:.4}, {far} far, {tilted} tilted",
        sum / n as f64
    );
    assert!(n > 3000 && (sum / n as f64).abs() < 0.03);
    assert!(far * 100 < n && tilted * 50 < n, "{far} {tilted} of {n}");
}

#[test]
fn thin_ribs_are_printed_and_measure_up() {
    for thickness in [0.5, 0.9, 1.3, 1.7, 2.3] {
        let mesh = block([0.0; 3], [30.0, thickness, 6.0]);
        let sliced = sliced(&mesh, &solid());
        let off = clean(&sliced).volume_mm3 / mesh.volume_mm3() - 1.0;
        let iou = laid(&sliced).iou_with(&sliced.place(&mesh));
        println!("rib {thickness}: volume off {off:.3}, iou {iou:.3}");
        assert!(
            off.abs() < 0.05 && iou > 0.85,
            "rib {thickness}: {off} {iou}"
        );
    }
}

#[test]
fn a_scan_is_noisy_turned_and_repeatable() {
    let sliced = sliced(&block([0.0; 3], [20.0, 16.0, 10.0]), &Settings::default());
    let deposit = laid(&sliced);
    let scan = deposit.surface_points(11, 0.5, 0.03);
    assert_eq!(scan, laid(&sliced).surface_points(11, 0.5, 0.03));
    assert_ne!(scan, deposit.surface_points(12, 0.5, 0.03));
    assert_eq!(scan.sigma_mm, 0.03);
    let pose = deposit.scanner_pose(11);
    assert!(cad::mesh::length(pose.shift) >= 1.0 && cad::mesh::length(pose.shift) <= 4.0);
    // Noise on the broad side faces, beyond corners and edges.
    let mut squares = Vec::new();
    for p in unposed(&scan.points, &pose, sliced.placed) {
        if p[0] < 5.0 && p[1] > 2.0 && p[1] < 14.0 && p[2] > 1.0 && p[2] < 9.0 {
            squares.push(p[0] * p[0]);
        }
    }
    let sigma = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    assert!(
        squares.len() > 200 && (sigma - 0.03).abs() < 0.005,
        "{} {sigma}",
        squares.len()
    );
}

#[test]
fn each_defect_shows_in_the_scan_and_nothing_else_does() {
    let mesh = bracket(64);
    let sliced = sliced(&mesh, &Settings::default());
    let options = DepositOptions::default();
    for seed in 0..2 {
        for defect in [Defect::None, Defect::Bump, Defect::Hole, Defect::Shift] {
            let deposit = deposit_with_defect(&sliced.gcode, &options, defect, seed, &mut quiet)
                .expect("deposits");
            let scan = deposit.surface_points(seed, 0.8, 0.0);
            let points = unposed(&scan.points, &deposit.scanner_pose(seed), sliced.placed);
            let count = |wanted: &dyn Fn(f64) -> bool| {
                points.iter().filter(|&&p| wanted(from_bracket(p))).count()
            };
            let (outside, inside) = (count(&|d| d > 0.5), count(&|d| d < -0.5));
            println!(
                "{seed} {defect:?}: {} points, {outside} outside, {inside} inside",
                points.len()
            );
            match defect {
                Defect::None => assert_eq!((outside, inside), (0, 0)),
                Defect::Bump => assert!(outside > 20 && inside == 0),
                Defect::Hole => assert!(outside == 0 && inside > 20),
                Defect::Shift => assert!(outside > 100 && inside > 100),
            }
        }
    }
}

#[test]
fn a_skirt_and_cold_moves_are_not_part_of_the_part() {
    let mesh = block([0.0; 3], [12.0, 12.0, 4.0]);
    let with = laid(&sliced(
        &mesh,
        &Settings {
            skirt_loops: 3,
            ..Settings::default()
        },
    ));
    let without = laid(&sliced(
        &mesh,
        &Settings {
            skirt_loops: 0,
            ..Settings::default()
        },
    ));
    assert!((with.volume_mm3() - without.volume_mm3()).abs() < 0.01 * without.volume_mm3());
    assert!(with.extruded_mm3() > without.extruded_mm3() + 10.0);
    let cold = sliced(&mesh, &solid())
        .gcode
        .replace("M109 S210", "M109 S150");
    let refused = deposit(
        &cold.replace("M104 S210", "M104 S150"),
        &DepositOptions::default(),
        &mut quiet,
    );
    assert_eq!(refused, Err(DepositError::Nothing));
}

#[test]
fn a_deposit_is_bounded_in_memory_and_options_in_range() {
    let sliced = sliced(&block([0.0; 3], [150.0, 150.0, 20.0]), &Settings::default());
    let options = |voxel_mm| DepositOptions {
        voxel_mm,
        ..DepositOptions::default()
    };
    let error = deposit(&sliced.gcode, &options(0.04), &mut quiet).expect_err("too much");
    assert!(
        matches!(error, DepositError::TooMuchMemory { limit_mib: 768, .. }),
        "{error}"
    );
    let error = deposit(&sliced.gcode, &options(f64::NAN), &mut quiet).expect_err("no number");
    assert!(error.to_string().contains("`voxel_mm` is NaN"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simple_solids_slice_clean_and_keep_their_volume(
        sides in 3usize..48, r in 6.0..25.0f64, squash in 0.5..1.0f64, turn in 0.0..6.3f64,
        layers in 3usize..40, h in 0.1..0.3f64, walls in 1usize..4,
    ) {
        let profile: Vec<[f64; 2]> = circle(0.0, 0.0, 1.0, sides).into_iter().map(|p| {
            let (sin, cos) = turn.sin_cos();
            let (x, y) = (r * p[0], r * squash * p[1]);
            [cos * x - sin * y, sin * x + cos * y]
        }).collect();
        let mesh = prism(&profile, -3.0, -3.0 + h * layers as f64);
        let settings = Settings {
            layer_height: Mm(h), first_layer_height: Mm(h), walls, ..solid()
        };
        let sliced = sliced(&mesh, &settings);
        let report = clean(&sliced);
        let off = report.volume_mm3 / mesh.volume_mm3() - 1.0;
        prop_assert!(off.abs() < 0.01, "{off}");
    }

    #[test]
    fn rings_slice_clean_and_keep_their_volume(
        sides in 8usize..60, r in 8.0..25.0f64, wall in 2.0..6.0f64, layers in 3usize..20,
        h in 0.1..0.3f64,
    ) {
        let (outer, inner) = (circle(0.0, 0.0, r, sides), circle(0.3, 0.2, r - wall, sides));
        let mesh = ring(&outer, &inner, 0.0, h * layers as f64, 2);
        let settings = Settings { layer_height: Mm(h), first_layer_height: Mm(h), ..solid() };
        let sliced = sliced(&mesh, &settings);
        let off = clean(&sliced).volume_mm3 / mesh.volume_mm3() - 1.0;
        prop_assert!(off.abs() < 0.01, "{off}");
    }

    #[test]
    fn arbitrary_text_never_panics_the_linter(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = check::lint(&String::from_utf8_lossy(&bytes), &printer());
    }

    #[test]
    fn almost_gcode_never_panics_the_linter(
        text in "(([GMT][0-9]{1,3}|;TYPE:A|;)( ?[XYZEFSP][-+.0-9]{0,8}){0,5}\n){0,30}",
    ) {
        let _ = check::lint(&text, &printer());
    }

    #[test]
    fn almost_gcode_never_panics_the_machine(
        text in "M83\nM109 S200\n(G[01]( ?[XYZEF][-+.0-9]{0,4}){0,5}\n){0,30}",
    ) {
        let _ = deposit(&text, &DepositOptions { voxel_mm: 0.5, filament_d: 1.75 }, &mut quiet);
    }
}
