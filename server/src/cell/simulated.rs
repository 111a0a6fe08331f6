//! The simulated machine: executes the G-code move by move and scans what lies on the plate.
//!
//! The design mesh never reaches it: the scan is sampled from the deposit alone.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use cad::slice::{Defect, DepositOptions, deposit_with_defect};
use serde_json::{Value, json};

/// A printer with a scanner above its plate, both computed.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// Everything random (noise, pose, defect) comes from this and the build's ordinal.
    pub seed: u64,
    /// What goes wrong.
    pub defect: Defect,
    /// How many builds it goes wrong with, from the first.
    pub defective_builds: u64,
    /// Standard deviation of the scanner, mm.
    pub sigma_mm: f64,
}

/// What the machine gives back: the scan as PLY, and what it says of the build.
pub struct Made {
    /// The scan, PLY.
    pub scan: Vec<u8>,
    /// What the cell says of the build.
    pub report: Value,
}

/// Share done in millionths, readable while the machine works.
#[derive(Debug, Clone, Default)]
pub struct ShareDone(Arc<AtomicU64>);

impl ShareDone {
    /// Share done, 0–1.
    pub fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e6
    }

    fn set(&self, share: f64) {
        self.0
            .store((share.clamp(0.0, 1.0) * 1e6) as u64, Ordering::Relaxed);
    }
}

/// The button that stops the machine; every copy is the same button.
#[derive(Debug, Clone, Default)]
pub struct StopButton(Arc<AtomicBool>);

impl StopButton {
    /// Asks the machine to stop where it is.
    pub fn press(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Simulated {
    /// Executes the G-code of the `ordinal`-th build of this machine; blocks while it does.
    ///
    /// Stopped in time it fails with [`cad::slice::DepositError::Cancelled`]; a part that is laid down already is
    /// scanned all the same.
    pub fn make(
        &self,
        gcode: &[u8],
        ordinal: u64,
        done: &ShareDone,
        stop: &StopButton,
    ) -> anyhow::Result<Made> {
        let gcode = std::str::from_utf8(gcode).context("the G-code is not text")?;
        let defect = if ordinal < self.defective_builds {
            self.defect
        } else {
            Defect::None
        };
        let seed = self
            .seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(ordinal);
        let mut progress = |share: f64| {
            done.set(share);
            if stop.is_pressed() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let options = DepositOptions::default();
        let deposit = deposit_with_defect(gcode, &options, defect, seed, &mut progress)
            .context("the machine stopped")?;
        let scan = deposit.surface_points(seed, 0.5, self.sigma_mm);
        let report = json!({
            "machine": "simulated",
            "deposited_mm3": deposit.volume_mm3(),
            "points": scan.points.len(),
            "sigma_mm": scan.sigma_mm,
            "origin": "modelled",
        });
        Ok(Made {
            scan: cad::formats::ply::write(&scan),
            report,
        })
    }
}

#[cfg(test)]
mod tests {
    use cad::slice::DepositError;

    use super::*;

    #[test]
    fn a_machine_lays_nothing_more_down_once_it_is_stopped() {
        let machine = Simulated {
            seed: 1,
            defect: Defect::None,
            defective_builds: 0,
            sigma_mm: 0.05,
        };
        let gcode = b"G28\nM109 S210\nG1 X10 Y10 Z0.2 F3000\nG1 X40 Y10 E1.5\n";
        let (done, stop) = (ShareDone::default(), StopButton::default());
        machine.make(gcode, 0, &done, &stop).unwrap();
        stop.clone().press();
        let stopped = machine.make(gcode, 1, &done, &stop).err().unwrap();
        assert!(matches!(
            stopped.downcast_ref(),
            Some(DepositError::Cancelled)
        ));
    }
}
