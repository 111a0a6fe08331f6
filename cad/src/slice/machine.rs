//! A printer in the mind: executes G-code move by move and says which bead each move lays down.

use crate::mesh::{length, sub};
use crate::slice::deposit::DepositError;
use crate::slice::parse::{self, Command};

/// Firmware refuses to push filament through a nozzle colder than this, °C.
const COLD_C: f64 = 170.0;

/// Plastic laid down by one move: a line, or a blob where both ends agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bead {
    /// Where it begins, bed coordinates, mm.
    pub(crate) from: [f64; 2],
    /// Where it ends.
    pub(crate) to: [f64; 2],
    /// Height of the nozzle, the bead's upper side, mm.
    pub(crate) top: f64,
    /// Plastic in it, mm³.
    pub(crate) volume: f64,
}

/// Executes a program; `filament_mm2` is the section of the filament.
pub(crate) fn execute(gcode: &str, filament_mm2: f64) -> Result<Vec<Bead>, DepositError> {
    let mut machine = Machine {
        filament_mm2,
        position: [0.0; 3],
        filament: 0.0,
        relative: false,
        relative_filament: false,
        nozzle_c: 0.0,
        retracted: 0.0,
        beads: Vec::new(),
    };
    for (i, text) in gcode.lines().enumerate() {
        let line = i + 1;
        let read = parse::line(text).map_err(|message| DepositError::Syntax { line, message })?;
        if let Some(command) = &read.command {
            machine.run(command, line)?;
        }
    }
    Ok(machine.beads)
}

struct Machine {
    filament_mm2: f64,
    position: [f64; 3],
    filament: f64,
    relative: bool,
    relative_filament: bool,
    nozzle_c: f64,
    /// Filament drawn back: it must come forward again before any plastic leaves the nozzle, mm.
    retracted: f64,
    beads: Vec<Bead>,
}

impl Machine {
    fn run(&mut self, command: &Command, line: usize) -> Result<(), DepositError> {
        match (command.letter, command.code) {
            ('G', 0 | 1) => return self.moved(command, line),
            ('G', 28) => {
                let named = ['X', 'Y', 'Z'].map(|axis| command.get(axis).is_some());
                for axis in 0..3 {
                    if named[axis] || !named.contains(&true) {
                        self.position[axis] = 0.0;
                    }
                }
            }
            ('G', 90) => (self.relative, self.relative_filament) = (false, false),
            ('G', 91) => (self.relative, self.relative_filament) = (true, true),
            ('G', 92) => {
                if let Some(e) = command.get('E') {
                    self.filament = e;
                }
                if command
                    .words
                    .iter()
                    .any(|w| matches!(w.letter, 'X' | 'Y' | 'Z'))
                {
                    return Err(unsupported(command, line, "moves the origin"));
                }
            }
            ('M', 82) => self.relative_filament = false,
            ('M', 83) => self.relative_filament = true,
            ('M', 104 | 109) => {
                self.nozzle_c = command
                    .get('S')
                    .or_else(|| command.get('R'))
                    .unwrap_or(self.nozzle_c);
            }
            ('G', 2 | 3 | 5) => return Err(unsupported(command, line, "draws a curve")),
            ('G', 20) => return Err(unsupported(command, line, "asks for inches")),
            // Everything else lays down nothing and moves nothing.
            _ => {}
        }
        Ok(())
    }

    fn moved(&mut self, command: &Command, line: usize) -> Result<(), DepositError> {
        let mut to = self.position;
        for (axis, letter) in ['X', 'Y', 'Z'].into_iter().enumerate() {
            if let Some(value) = command.get(letter) {
                to[axis] = if self.relative {
                    self.position[axis] + value
                } else {
                    value
                };
            }
        }
        let pushed = match command.get('E') {
            None => 0.0,
            Some(value) if self.relative_filament => value,
            Some(value) => value - std::mem::replace(&mut self.filament, value),
        };
        let from = std::mem::replace(&mut self.position, to);
        if pushed == 0.0 || self.nozzle_c < COLD_C {
            return Ok(());
        }
        // First the nozzle fills up again, only the rest comes out.
        let out = pushed - self.retracted;
        self.retracted = (-out).max(0.0);
        // Sums of retractions and restorations differ by rounding, which is no plastic.
        if out <= 1e-6 || to[2] <= 0.0 {
            return Ok(());
        }
        if (from[2] - to[2]).abs() > 1e-3 && length(sub(to, from)) > 1e-3 {
            return Err(unsupported(command, line, "extrudes while changing height"));
        }
        let volume = out * self.filament_mm2;
        self.beads.push(Bead {
            from: [from[0], from[1]],
            to: [to[0], to[1]],
            top: to[2],
            volume,
        });
        Ok(())
    }
}

fn unsupported(command: &Command, line: usize, what: &'static str) -> DepositError {
    DepositError::Unsupported {
        line,
        command: format!("{}{}", command.letter, command.code),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beads(gcode: &str) -> Vec<Bead> {
        execute(gcode, 2.0).unwrap()
    }

    #[test]
    fn only_plastic_that_leaves_a_hot_nozzle_counts() {
        let start = "G28\nM83\nM109 S200\nG0 X1 Y1 Z0.2\n";
        let bead = |from, to, volume| Bead {
            from,
            to,
            top: 0.2,
            volume,
        };
        let one = beads(&format!("{start}G1 X5 E1"));
        assert_eq!(one, [bead([1.0, 1.0], [5.0, 1.0], 2.0)]);
        // Drawn back by 1, restored by 0.4 standing: 0.6 of the next move fills the nozzle.
        let part = beads(&format!("{start}G1 E-1\nG1 E0.4\nG1 X5 E1"));
        assert!((part[0].volume - 0.8).abs() < 1e-12);
        assert!(beads("G28\nM83\nG0 Z0.2\nG1 X5 E1").is_empty());
        // A blob, then absolute filament with a reset.
        let blob = beads(&format!("{start}G1 E0.5\nM82\nG92 E7\nG1 X2 E8"));
        assert_eq!(
            blob,
            [
                bead([1.0, 1.0], [1.0, 1.0], 1.0),
                bead([1.0, 1.0], [2.0, 1.0], 2.0)
            ]
        );
    }

    #[test]
    fn what_it_cannot_do_is_said_with_the_line() {
        for (text, part) in [
            ("G28\nG2 X1 Y1", "line 2: `G2` draws a curve"),
            ("G20", "line 1: `G20` asks for inches"),
            (
                "M83\nM109 S200\nG1 X5 Z5 E1",
                "line 3: `G1` extrudes while changing height",
            ),
            ("\n\nG1 X--", "line 3"),
        ] {
            let error = execute(text, 2.0).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
