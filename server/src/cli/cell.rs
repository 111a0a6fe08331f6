//! `forewright cell`: the reference cell.

use std::path::PathBuf;

use ::cad::slice::Defect;
use clap::{Args, ValueEnum};

use crate::cell::{CellOptions, Simulated};

/// The reference cell: polls a server for builds and drives one machine.
#[derive(Debug, Args)]
pub struct Cell {
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8600")]
    server: String,
    /// The machine it drives.
    #[arg(long, value_enum)]
    driver: Driver,
    /// What people call the cell.
    #[arg(long, default_value = "cell-1")]
    name: String,
    /// Where it remembers who it is and what its machine is doing.
    #[arg(long, value_name = "DIR", default_value = "./forewright-cell")]
    state: PathBuf,
    /// Printer profiles its machine understands.
    #[arg(long, value_delimiter = ',', default_value = "generic_marlin")]
    printers: Vec<String>,
    /// Materials it has.
    #[arg(long, value_delimiter = ',', default_value = "petg")]
    materials: Vec<String>,
    /// Seed of the simulated machine: noise, pose, defect.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What goes wrong with its first build.
    #[arg(long, value_enum, default_value_t)]
    defect: DefectArgument,
    /// Standard deviation of its scanner, mm.
    #[arg(long, default_value_t = 0.05)]
    sigma_mm: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Driver {
    /// Executes the G-code move by move and scans what was deposited.
    Simulated,
}

/// A defect to inject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DefectArgument {
    /// None.
    #[default]
    None,
    /// Material in excess on a face.
    Bump,
    /// Material missing from a face.
    Hole,
    /// Layers displaced from some height on.
    Shift,
}

impl DefectArgument {
    /// The defect as the deposit knows it.
    pub const fn defect(self) -> Defect {
        match self {
            Self::None => Defect::None,
            Self::Bump => Defect::Bump,
            Self::Hole => Defect::Hole,
            Self::Shift => Defect::Shift,
        }
    }
}

impl std::fmt::Display for DefectArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("none", |v| v.get_name()))
    }
}

impl Cell {
    /// Runs until it is stopped.
    pub fn run(self) -> anyhow::Result<()> {
        let Driver::Simulated = self.driver;
        let options = CellOptions {
            server: self.server,
            name: self.name,
            state: self.state,
            printers: self.printers,
            materials: self.materials,
            machine: Simulated {
                seed: self.seed,
                defect: self.defect.defect(),
                defective_builds: 1,
                sigma_mm: self.sigma_mm,
            },
        };
        super::block_on(crate::cell::run(options))
    }
}
