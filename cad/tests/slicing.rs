//! Slicing from the outside: parts in, G-code out, and what the checks say of it.

use std::f64::consts::TAU;
use std::ops::ControlFlow;

use cad::mesh::Mesh;
use cad::slice::printer::Printer;
use cad::slice::settings::{Pattern, Settings};
use cad::slice::{SliceError, Sliced, check, slice};
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
    assert!(off.abs() < 0.12, "{off} {:?}", sliced.estimate);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

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
    fn arbitrary_text_never_panics_the_linter(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = check::lint(&String::from_utf8_lossy(&bytes), &printer());
    }

    #[test]
    fn almost_gcode_never_panics_the_linter(
        text in "(([GMT][0-9]{1,3}|;TYPE:A|;)( ?[XYZEFSP][-+.0-9]{0,8}){0,5}\n){0,30}",
    ) {
        let _ = check::lint(&text, &printer());
    }
}
