//! Inspections of synthetic scans: analytic solids, known defects and changes that must not matter.

use std::f64::consts::TAU;
use std::ops::ControlFlow;

use super::*;
use crate::mesh::{cross, tests::cuboid};

/// `SplitMix64` with the distributions the tests need.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    fn direction(&mut self) -> [f64; 3] {
        unit([self.normal(), self.normal(), self.normal()])
    }
}

/// The boundary of a set of unit cells.
fn cells(size: [i32; 3], inside: impl Fn([i32; 3]) -> bool) -> Mesh {
    let mut mesh = Mesh::default();
    let filled = |c: [i32; 3]| (0..3).all(|k| (0..size[k]).contains(&c[k])) && inside(c);
    let mut index = std::collections::HashMap::new();
    for x in 0..size[0] {
        for y in 0..size[1] {
            for z in 0..size[2] {
                let c = [x, y, z];
                if !filled(c) {
                    continue;
                }
                for axis in 0..3 {
                    for positive in [false, true] {
                        let mut beyond = c;
                        beyond[axis] += if positive { 1 } else { -1 };
                        if filled(beyond) {
                            continue;
                        }
                        let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
                        let mut quad = [(0, 0), (1, 0), (1, 1), (0, 1)].map(|(a, b)| {
                            let mut p = c;
                            p[axis] += i32::from(positive);
                            p[u] += a;
                            p[v] += b;
                            *index.entry(p).or_insert_with(|| {
                                mesh.vertices.push(p.map(f64::from));
                                mesh.vertices.len() as u32 - 1
                            })
                        });
                        if !positive {
                            quad.reverse();
                        }
                        mesh.triangles.push([quad[0], quad[1], quad[2]]);
                        mesh.triangles.push([quad[0], quad[2], quad[3]]);
                    }
                }
            }
        }
    }
    mesh
}

/// An L-bracket of 60 × 40 × 30 mm with walls of 5 mm and a boss off the middle, so that it has no symmetry.
pub(crate) fn bracket() -> Mesh {
    cells([60, 40, 30], |[x, y, z]| {
        z < 5 || x < 5 || ((35..47).contains(&x) && (8..18).contains(&y) && z < 13)
    })
}

fn sphere(radius: f64, levels: u32) -> Mesh {
    let g = 0.5 * (1.0 + 5.0_f64.sqrt());
    let mut vertices: Vec<[f64; 3]> = [
        [-1.0, g, 0.0],
        [1.0, g, 0.0],
        [-1.0, -g, 0.0],
        [1.0, -g, 0.0],
        [0.0, -1.0, g],
        [0.0, 1.0, g],
        [0.0, -1.0, -g],
        [0.0, 1.0, -g],
        [g, 0.0, -1.0],
        [g, 0.0, 1.0],
        [-g, 0.0, -1.0],
        [-g, 0.0, 1.0],
    ]
    .map(unit)
    .to_vec();
    let mut triangles: Vec<[u32; 3]> = vec![
        [0, 11, 5],
        [0, 5, 1],
        [0, 1, 7],
        [0, 7, 10],
        [0, 10, 11],
        [1, 5, 9],
        [5, 11, 4],
        [11, 10, 2],
        [10, 7, 6],
        [7, 1, 8],
        [3, 9, 4],
        [3, 4, 2],
        [3, 2, 6],
        [3, 6, 8],
        [3, 8, 9],
        [4, 9, 5],
        [2, 4, 11],
        [6, 2, 10],
        [8, 6, 7],
        [9, 8, 1],
    ];
    for _ in 0..levels {
        let mut middles = std::collections::HashMap::new();
        let mut next = Vec::new();
        for [a, b, c] in triangles {
            let [ab, bc, ca] = [(a, b), (b, c), (c, a)].map(|(i, j)| {
                *middles.entry((i.min(j), i.max(j))).or_insert_with(|| {
                    vertices.push(unit(add(vertices[i as usize], vertices[j as usize])));
                    vertices.len() as u32 - 1
                })
            });
            next.extend([[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]);
        }
        triangles = next;
    }
    Mesh {
        vertices: vertices.iter().map(|v| v.map(|x| x * radius)).collect(),
        triangles,
    }
}

/// Random points on a mesh with their normals, by area.
fn sample(mesh: &Mesh, count: usize, rng: &mut Rng) -> Vec<([f64; 3], [f64; 3])> {
    let mut sums = Vec::with_capacity(mesh.triangles.len());
    let mut total = 0.0;
    for t in 0..mesh.triangles.len() {
        let [a, b, c] = mesh.corners(t);
        total += length(cross(sub(b, a), sub(c, a)));
        sums.push(total);
    }
    (0..count)
        .map(|_| {
            let at = rng.uniform() * total;
            let t = sums.partition_point(|&s| s <= at).min(sums.len() - 1);
            let [a, b, c] = mesh.corners(t);
            let (mut u, mut v) = (rng.uniform(), rng.uniform());
            if u + v > 1.0 {
                (u, v) = (1.0 - u, 1.0 - v);
            }
            let p = [0, 1, 2].map(|k| a[k] + u * (b[k] - a[k]) + v * (c[k] - a[k]));
            (p, mesh.normal(t))
        })
        .collect()
}

/// What is wrong with a synthetic part.
#[derive(Clone, Copy)]
enum Fault {
    None,
    /// A raised square on the plate: edge length and height.
    Bump(f64, f64),
    /// A ball of this radius missing from the plate.
    Hole(f64),
    /// Everything above the height moved along x.
    Shift(f64, f64),
    Scale(f64),
}

/// A scan of a bracket: noise, the texture of layers, a fault and a pose.
struct Scanned {
    scan: Scan,
    /// The motion that was applied to the part.
    pose: Rigid,
}

fn scan_of(
    mesh: &Mesh,
    count: usize,
    sigma: f64,
    texture: f64,
    fault: Fault,
    seed: u64,
) -> Scanned {
    let mut rng = Rng(seed);
    let axis = rng.direction();
    let mut pose = Rigid::about(
        [20.0, 15.0, 10.0],
        scaled3(axis, 8.0_f64.to_radians()),
        scaled3(rng.direction(), 4.0),
    );
    if seed.is_multiple_of(3) {
        pose = Rigid::about([0.0; 3], [TAU / 4.0, 0.0, 0.0], [100.0, -40.0, 7.0]).after(&pose);
    }
    let phase = rng.uniform();
    let (mut points, mut normals) = (Vec::new(), Vec::new());
    for (mut p, n) in sample(mesh, count, &mut rng) {
        let layers = texture * 2.0 * ((p[2] / 0.2 + phase).fract() - 0.5);
        let slow = 0.3 * texture * (p[0] / 7.0 + p[1] / 11.0).sin();
        let off = rng.normal() * sigma + if n[2].abs() < 0.5 { layers } else { 0.0 } + slow;
        match fault {
            Fault::Bump(width, height) => {
                let over = (p[0] - 20.0).abs() < 0.5 * width && (p[1] - 28.0).abs() < 0.5 * width;
                if over && n[2] > 0.5 && p[2] < 6.0 {
                    p[2] += height;
                }
            }
            Fault::Hole(radius) => {
                let rho = (p[0] - 20.0).hypot(p[1] - 28.0);
                if rho < radius && n[2] > 0.5 && p[2] < 6.0 {
                    p[2] -= (radius * radius - rho * rho).sqrt();
                }
            }
            Fault::Shift(height, step) if p[2] > height => p[0] += step,
            Fault::Scale(factor) => p = p.map(|x| x * factor),
            Fault::None | Fault::Shift(..) => {}
        }
        let p = [0, 1, 2].map(|k| p[k] + n[k] * off);
        points.push(pose.apply(p));
        normals.push(pose.turn(n));
    }
    let scan = Scan {
        points,
        normals: seed.is_multiple_of(2).then_some(normals),
        sigma_mm: sigma,
    };
    Scanned { scan, pose }
}

fn scaled3(v: [f64; 3], s: f64) -> [f64; 3] {
    v.map(|x| x * s)
}

fn judge(scan: &Scan, mesh: &Mesh) -> Verdict {
    inspect(scan, mesh, &VerificationPlan::default(), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

fn codes(verdict: &Verdict) -> Vec<ReasonCode> {
    verdict.reasons.iter().map(|r| r.code).collect()
}

/// Largest displacement of the corners of the bounding box by the error of the pose.
fn pose_error(verdict: &Verdict, mesh: &Mesh, truth: &Rigid) -> f64 {
    let found = Rigid {
        rotation: verdict.pose.rotation,
        translation: verdict.pose.translation,
    };
    let bounds = mesh.bounds().unwrap();
    (0..8)
        .map(|i| {
            let c = [0, 1, 2].map(|k| {
                if i >> k & 1 == 1 {
                    bounds.max[k]
                } else {
                    bounds.min[k]
                }
            });
            length(sub(found.apply(truth.apply(c)), c))
        })
        .fold(0.0, f64::max)
}

#[test]
fn a_sphere_a_tenth_too_large_measures_a_tenth() {
    let mesh = sphere(20.0, 6);
    let mut rng = Rng(1);
    let points = (0..20_000).map(|_| {
        let d = rng.direction();
        scaled3(d, 20.1 + 0.05 * rng.normal())
    });
    let scan = Scan {
        points: points.collect(),
        normals: None,
        sigma_mm: 0.05,
    };
    let verdict = judge(&scan, &mesh);
    assert!(
        (verdict.deviation.mean - 0.1).abs() < 0.002,
        "{:?}",
        verdict.deviation
    );
    assert!((verdict.scale - 1.005).abs() < 2e-4, "{}", verdict.scale);
    assert_eq!(
        verdict.disposition,
        Disposition::Accept,
        "{:?}",
        verdict.reasons
    );
}

#[test]
fn good_parts_are_accepted_every_time() {
    let mesh = bracket();
    for seed in 0..50 {
        let scanned = scan_of(&mesh, 20_000, 0.05, 0.1, Fault::None, seed);
        let verdict = judge(&scanned.scan, &mesh);
        assert_eq!(
            verdict.disposition,
            Disposition::Accept,
            "seed {seed}: {}",
            verdict.summary()
        );
    }
}

#[test]
fn defects_are_rejected_for_their_reason() {
    let mesh = bracket();
    let cases = [
        (Fault::Bump(6.0, 1.0), ReasonCode::Oversize),
        (Fault::Hole(3.0), ReasonCode::MissingFeature),
        (Fault::Shift(12.0, 1.0), ReasonCode::LayerShift),
        (Fault::Shift(2.0, 1.0), ReasonCode::LayerShift),
        (Fault::Scale(1.02), ReasonCode::Scale),
    ];
    for (case, (fault, code)) in cases.into_iter().enumerate() {
        for seed in 100..106 {
            let scanned = scan_of(&mesh, 40_000, 0.05, 0.1, fault, seed);
            let verdict = judge(&scanned.scan, &mesh);
            let told = verdict.summary();
            assert_eq!(
                verdict.disposition,
                Disposition::Reject,
                "case {case} seed {seed}: {told}"
            );
            assert!(
                codes(&verdict).contains(&code),
                "case {case} seed {seed}: {told}"
            );
        }
    }
}

#[test]
fn a_defect_does_not_pull_the_pose() {
    let mesh = bracket();
    // 3.5 % of the surface is a square of about 20 mm; the goals are those of a clean part.
    let share = (mesh.area_mm2() * 0.035).sqrt();
    for (height, goal) in [(0.0, 0.0035), (0.5, 0.0035), (0.3, 0.0035), (0.2, 0.0045)] {
        let mut errors: Vec<f64> = (0..10)
            .map(|seed| {
                let scanned = scan_of(
                    &mesh,
                    20_000,
                    0.05,
                    0.0,
                    Fault::Bump(share, height),
                    1_000 + seed,
                );
                pose_error(&judge(&scanned.scan, &mesh), &mesh, &scanned.pose)
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        println!(
            "bump {height} mm: median {:.4} mm, worst {:.4} mm",
            errors[5], errors[9]
        );
        assert!(errors[5] <= goal, "{height}: {errors:?}");
    }
}

#[test]
fn datums_decide_what_a_best_fit_cannot() {
    let mesh = bracket();
    let face = |name: &str, point, normal, extent_mm| DatumFace {
        name: name.to_owned(),
        point,
        normal,
        extent_mm,
    };
    let plan = VerificationPlan {
        datums: vec![
            face("A", [30.0, 20.0, 0.0], [0.0, 0.0, -1.0], 36.0),
            face("B", [0.0, 20.0, 15.0], [-1.0, 0.0, 0.0], 25.0),
            face("C", [2.5, 0.0, 15.0], [0.0, -1.0, 0.0], 14.0),
        ],
        ..VerificationPlan::default()
    };
    let share = (mesh.area_mm2() * 0.035).sqrt();
    let mut errors: Vec<f64> = (0..6)
        .map(|seed| {
            let scanned = scan_of(
                &mesh,
                20_000,
                0.05,
                0.0,
                Fault::Bump(share, 0.1),
                2_000 + seed,
            );
            let verdict = inspect(&scanned.scan, &mesh, &plan, &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(
                verdict.datums.iter().map(|d| d.fixed).collect::<Vec<_>>(),
                [3, 2, 1]
            );
            pose_error(&verdict, &mesh, &scanned.pose)
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    println!(
        "bump 0.1 mm with datums: median {:.4} mm, worst {:.4} mm",
        errors[3], errors[5]
    );
    assert!(errors[3] < 0.02, "{errors:?}");
    let off = VerificationPlan {
        datums: vec![face("A", [30.0, 20.0, 20.0], [0.0, 0.0, 1.0], 5.0)],
        ..VerificationPlan::default()
    };
    let scan = scan_of(&mesh, 1_000, 0.05, 0.0, Fault::None, 1).scan;
    let refused = inspect(&scan, &mesh, &off, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(
        refused,
        InspectError::DatumOffMesh {
            name: "A".to_owned()
        }
    );
}

#[test]
fn what_must_not_matter_does_not() {
    let mesh = bracket();
    let scan = scan_of(&mesh, 12_000, 0.05, 0.1, Fault::Bump(6.0, 1.0), 8).scan;
    let verdict = judge(&scan, &mesh);
    assert_eq!(verdict.disposition, Disposition::Reject);
    assert_eq!(
        judge(&scan, &mesh).canonical_json(),
        verdict.canonical_json()
    );
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(
        threads.install(|| judge(&scan, &mesh)).canonical_json(),
        verdict.canonical_json()
    );

    let mut order: Vec<usize> = (0..scan.points.len()).collect();
    order.reverse();
    let permuted = Scan {
        points: order.iter().map(|&i| scan.points[i]).collect(),
        normals: scan
            .normals
            .as_ref()
            .map(|n| order.iter().map(|&i| n[i]).collect()),
        ..scan
    };
    assert_eq!(
        judge(&permuted, &mesh).canonical_json(),
        verdict.canonical_json()
    );

    let parsed: Verdict = serde_json::from_str(&verdict.canonical_json()).unwrap();
    assert_eq!(parsed, verdict);

    let mut dusty = scan_of(&mesh, 12_000, 0.05, 0.1, Fault::None, 9).scan;
    let mut rng = Rng(4);
    for _ in 0..120 {
        dusty
            .points
            .push([70.0, 50.0, 40.0].map(|s| s * rng.uniform()));
    }
    let verdict = judge(&dusty, &mesh);
    assert_eq!(
        verdict.disposition,
        Disposition::Accept,
        "{}",
        verdict.summary()
    );
}

#[test]
fn what_cannot_be_the_part_is_told_apart() {
    let mesh = bracket();
    let good = scan_of(&mesh, 16_000, 0.05, 0.1, Fault::None, 21).scan;

    let mirrored = Scan {
        points: good.points.iter().map(|p| [-p[0], p[1], p[2]]).collect(),
        ..good.clone()
    };
    let verdict = judge(&mirrored, &mesh);
    assert_eq!(
        verdict.disposition,
        Disposition::Reject,
        "{}",
        verdict.summary()
    );
    assert!(
        codes(&verdict).contains(&ReasonCode::Mirror),
        "{}",
        verdict.summary()
    );

    let half = Scan {
        points: sample(&mesh, 16_000, &mut Rng(5))
            .into_iter()
            .map(|s| s.0)
            .filter(|p| p[1] < 20.0)
            .collect(),
        normals: None,
        sigma_mm: 0.05,
    };
    let verdict = judge(&half, &mesh);
    assert_eq!(
        verdict.disposition,
        Disposition::Inconclusive,
        "{}",
        verdict.summary()
    );
    assert!(codes(&verdict).contains(&ReasonCode::LowCoverage));

    let other = scan_of(
        &cuboid([50.0, 45.0, 20.0]),
        16_000,
        0.05,
        0.1,
        Fault::None,
        6,
    )
    .scan;
    let verdict = judge(&other, &mesh);
    assert_eq!(
        verdict.disposition,
        Disposition::Reject,
        "{}",
        verdict.summary()
    );
    assert!(
        codes(&verdict).contains(&ReasonCode::WrongPart),
        "{}",
        verdict.summary()
    );

    let without_boss = cells([60, 40, 30], |[x, _, z]| z < 5 || x < 5);
    let verdict = judge(
        &scan_of(&without_boss, 16_000, 0.05, 0.1, Fault::None, 7).scan,
        &mesh,
    );
    assert_eq!(
        verdict.disposition,
        Disposition::Reject,
        "{}",
        verdict.summary()
    );
    assert!(
        codes(&verdict).contains(&ReasonCode::MissingFeature),
        "{}",
        verdict.summary()
    );
}

#[test]
fn excess_on_a_machinable_face_is_rework() {
    let mesh = bracket();
    let plan = VerificationPlan {
        machinable: vec![plan::MachinableRegion {
            min: [5.0, 0.0, 4.0],
            max: [60.0, 40.0, 6.0],
            name: "plate".to_owned(),
        }],
        ..VerificationPlan::default()
    };
    let judge = |fault| {
        let scan = scan_of(&mesh, 20_000, 0.05, 0.1, fault, 31).scan;
        inspect(&scan, &mesh, &plan, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .disposition
    };
    assert_eq!(judge(Fault::Bump(6.0, 1.0)), Disposition::Rework);
    assert_eq!(judge(Fault::Hole(3.0)), Disposition::Reject);
}

#[test]
fn unusable_input_is_refused_by_name() {
    let mesh = bracket();
    let good = scan_of(&mesh, 2_000, 0.05, 0.0, Fault::None, 2).scan;
    let refuse = |scan: &Scan, plan: &VerificationPlan| {
        inspect(scan, &mesh, plan, &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    let plan = VerificationPlan::default();
    assert_eq!(refuse(&Scan::default(), &plan), InspectError::EmptyScan);
    let inches = Scan {
        points: good.points.iter().map(|p| p.map(|x| x / 25.4)).collect(),
        ..good.clone()
    };
    let refused = refuse(&inches, &plan);
    assert!(
        matches!(refused, InspectError::UnitMismatch { unit: "inches", .. }),
        "{refused}"
    );
    let mut broken = good.clone();
    broken.points[7][1] = f64::NAN;
    assert_eq!(refuse(&broken, &plan), InspectError::NotFinite { index: 7 });
    let few = Scan {
        points: good.points[..10].to_vec(),
        normals: None,
        sigma_mm: 0.0,
    };
    assert_eq!(
        refuse(&few, &plan),
        InspectError::TooFewPoints { count: 10 }
    );
    let senseless = VerificationPlan {
        tolerance_mm: -1.0,
        ..plan.clone()
    };
    assert!(matches!(
        refuse(&good, &senseless),
        InspectError::Plan {
            field: "tolerance_mm",
            ..
        }
    ));
    let stopped = inspect(&good, &mesh, &plan, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped, InspectError::Cancelled);
    let open = inspect(&good, &Mesh::default(), &plan, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap_err();
    assert!(matches!(open, InspectError::OpenMesh(_)));
}

#[test]
fn a_picture_shows_where_the_defect_is() {
    let mesh = bracket();
    let scan = scan_of(&mesh, 60_000, 0.05, 0.1, Fault::Bump(6.0, 1.0), 40).scan;
    let plan = VerificationPlan::default();
    let began = std::time::Instant::now();
    let inspection = measure(&scan, &mesh, &plan, &mut |_| ControlFlow::Continue(())).unwrap();
    println!(
        "60 000 points, {} triangles: {:?}",
        mesh.triangles.len(),
        began.elapsed()
    );
    let picture = picture::deviation_png(&mesh, &inspection.field);
    assert_eq!(&picture[1..4], b"PNG");
    assert_eq!(picture, picture::deviation_png(&mesh, &inspection.field));
    if let Some(folder) = std::env::var_os("PICTURE_DIR") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("deviation.png"), picture).unwrap();
        std::fs::write(folder.join("part.png"), picture::part_png(&mesh)).unwrap();
    }
}
