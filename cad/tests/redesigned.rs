//! The whole way of a redesigned part: what its G-code lays down is its mesh.

mod worn_bracket;

use std::ops::ControlFlow;

use cad::slice::printer::Printer;
use cad::slice::settings::Settings;
use cad::slice::{DepositOptions, deposit, slice};
use worn_bracket::design;

#[test]
fn the_redesigned_bracket_is_what_its_gcode_lays_down() {
    let mesh = &design().mesh;
    let settings = Settings {
        infill_density: 1.0,
        skirt_loops: 0,
        ..Settings::default()
    };
    let printer = Printer::named("prusa_mk4").unwrap();
    let quiet = &mut |_| ControlFlow::Continue(());
    let sliced = slice(mesh, &printer, &settings, quiet).unwrap();
    let laid = deposit(&sliced.gcode, &DepositOptions::default(), quiet).unwrap();
    let iou = laid.iou_with(&sliced.place(mesh));
    let volume = sliced.estimate.volume_mm3 / mesh.volume_mm3();
    println!("IoU {iou:.4}, extruded over enclosed volume {volume:.4}");
    assert!(iou >= 0.95, "{iou}");
    assert!((volume - 1.0).abs() <= 0.05, "{volume}");
}
