//! `forewright cad`: the part tools, without a server.

use std::path::{Path, PathBuf};

use ::cad::brep::bracket_step;
use ::cad::brief::{Brief, Part};
use ::cad::design::{Design, redesign};
use ::cad::formats::{ply, stl, threemf};
use ::cad::inspect::measure;
use ::cad::inspect::picture::{deviation_png, part_png};
use ::cad::inspect::plan::VerificationPlan;
use ::cad::inspect::verdict::Disposition;
use ::cad::mesh::{Bounds, Mesh, MeshReport};
use ::cad::slice::check::{LintReport, lint};
use ::cad::slice::printer::Printer;
use ::cad::slice::settings::Settings;
use ::cad::slice::{Estimate, slice};
use ::cad::units::Mm;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::convergence;
use super::output::{self, Progress};

/// Broken rules shown before the rest is only counted.
const SHOWN_VIOLATIONS: usize = 10;

/// The part tools, without a server.
#[derive(Debug, Subcommand)]
pub enum Cad {
    /// Design the part a brief asks for and prove it.
    Redesign(Redesign),
    /// Turn a mesh into G-code and check it against the safety rules.
    Slice(Slice),
    /// Say whether a mesh bounds a solid, and its measures.
    Check(Check),
    /// Judge a scan of a finished part against its mesh.
    Inspect(Inspect),
}

/// Design the part a brief asks for and prove it.
#[derive(Debug, Args)]
pub struct Redesign {
    /// The brief.
    #[arg(value_name = "SPEC.toml")]
    spec: PathBuf,
    /// Folder for part.stl, part.3mf, part.step, part.png, certificate.json, plan.json, history.json
    /// and convergence.svg.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of designers that search at random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Turn a mesh into G-code and check it against the safety rules.
#[derive(Debug, Args)]
pub struct Slice {
    /// The mesh, .stl or .3mf, standing as it is to be printed.
    #[arg(value_name = "MESH")]
    mesh: PathBuf,
    /// Name of the printer profile.
    #[arg(long, value_name = "NAME")]
    printer: String,
    /// The G-code file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Share of the inside that is filled, 0 to 1 [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    infill: Option<f64>,
    /// One of the printer's materials [default: pla]
    #[arg(long, value_name = "NAME")]
    material: Option<String>,
    /// Height of every layer but the first, mm [default: 0.2]
    #[arg(long, value_name = "MM")]
    layer_height: Option<f64>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Say whether a mesh bounds a solid, and its measures.
#[derive(Debug, Args)]
pub struct Check {
    /// The mesh, .stl or .3mf.
    #[arg(value_name = "MESH")]
    mesh: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Judge a scan of a finished part against its mesh.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The mesh, .stl or .3mf.
    #[arg(value_name = "MESH")]
    mesh: PathBuf,
    /// The scan, .ply in millimetres.
    #[arg(value_name = "SCAN")]
    scan: PathBuf,
    /// Tolerances and datums; without it ±0.3 mm all over.
    #[arg(long, value_name = "PLAN.json")]
    plan: Option<PathBuf>,
    /// Folder for verdict.json and deviation.png.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What `cad slice` prints.
#[derive(Debug, Serialize)]
struct SliceDocument<'a> {
    gcode: &'a Path,
    size_bytes: usize,
    printer: &'a str,
    settings: &'a Settings,
    estimate: Estimate,
    mass_g: f64,
    lint: LintReport,
}

/// What `cad check` prints.
#[derive(Debug, Serialize)]
struct CheckDocument<'a> {
    mesh: &'a Path,
    closed: bool,
    inside_out: bool,
    volume_mm3: f64,
    area_mm2: f64,
    bounds: Option<Bounds>,
    vertices: usize,
    triangles: usize,
    report: MeshReport,
}

impl Cad {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Redesign(command) => command.run(),
            Self::Slice(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::Inspect(command) => command.run(),
        }
    }
}

impl Redesign {
    fn run(self) -> anyhow::Result<()> {
        let name = self.spec.display();
        let brief = Brief::from_toml(&output::read_text("brief", &self.spec)?)
            .with_context(|| format!("failed to read brief `{name}`"))?;
        // Before the work, so that a folder that cannot be made costs nobody minutes.
        output::make_folder(&self.out)?;
        let mut progress = Progress::start(format!("redesigning `{name}`"));
        let design = redesign(&brief, self.seed, &mut |share| progress.tell(share))?;
        drop(progress);
        let files = self.keep(&design)?;
        if self.json {
            return output::json(&json!({
                "out": self.out,
                "files": files,
                "certificate": design.certificate,
                "orientation": design.orientation,
                "iterations": design.history.len(),
            }));
        }
        self.print(&design, &files)
    }

    fn print(&self, design: &Design, files: &[&str]) -> anyhow::Result<()> {
        let certificate = &design.certificate;
        let envelope = certificate.volume_fraction * 100.0;
        output::facts(&[
            (
                "factor of safety",
                format!(
                    "{:.2}, required {:.2}",
                    certificate.factor_of_safety, certificate.required_fos
                ),
            ),
            (
                "mass",
                format!(
                    "{:.1} g, {envelope:.1} % of the envelope",
                    certificate.mass_g
                ),
            ),
            (
                "von Mises stress",
                format!("{:.2} MPa at most", certificate.max_von_mises_mpa),
            ),
            (
                "displacement",
                format!("{:.3} mm at most", certificate.max_displacement_mm),
            ),
            (
                "mesh",
                format!("closed, {} triangles", design.mesh.triangles.len()),
            ),
            (
                "analysis",
                format!(
                    "{} elements of {} mm, {} load cases",
                    certificate.elements,
                    certificate.voxel_mm,
                    certificate.load_cases.len()
                ),
            ),
            ("iterations", design.history.len().to_string()),
            ("orientation", design.orientation.reason.clone()),
            (
                "files",
                format!("{} in {}", files.join(", "), self.out.display()),
            ),
        ])
    }

    /// Writes all files of a design and answers their names.
    fn keep(&self, design: &Design) -> anyhow::Result<Vec<&'static str>> {
        let Part::FanTrayBracket(bracket) = &design.brief.part;
        let meta = threemf::Meta {
            title: "Fan-tray bracket".into(),
            application: "Forewright".into(),
            description: "Redesigned for the loads of its brief.".into(),
        };
        let pretty = |value: serde_json::Result<String>| value.map(|text| text + "\n");
        let files = [
            ("part.stl", stl::write(&design.mesh)),
            ("part.3mf", threemf::write(&design.mesh, &meta)),
            ("part.step", bracket_step(bracket)?.into_bytes()),
            ("part.png", part_png(&design.mesh)),
            (
                "certificate.json",
                pretty(serde_json::to_string_pretty(&design.certificate))?.into_bytes(),
            ),
            (
                "plan.json",
                pretty(serde_json::to_string_pretty(&design.verification_plan()))?.into_bytes(),
            ),
            (
                "history.json",
                pretty(serde_json::to_string_pretty(&design.history))?.into_bytes(),
            ),
            (
                "convergence.svg",
                convergence::svg(&design.history).into_bytes(),
            ),
        ];
        for (name, bytes) in &files {
            output::write(&self.out.join(name), bytes)?;
        }
        Ok(files.map(|(name, _)| name).to_vec())
    }
}

impl Slice {
    fn run(self) -> anyhow::Result<()> {
        let printer = Printer::named(&self.printer)?;
        let mesh = read_mesh(&self.mesh)?;
        let settings = self.settings();
        let name = self.mesh.display();
        let mut progress = Progress::start(format!("slicing `{name}`"));
        let sliced = slice(&mesh, &printer, &settings, &mut |share| {
            progress.tell(share)
        })
        .with_context(|| format!("failed to slice `{name}`"))?;
        drop(progress);
        let lint = match lint(&sliced.gcode, &printer) {
            Ok(report) => report,
            Err(violations) => {
                for violation in violations.iter().take(SHOWN_VIOLATIONS) {
                    output::note(&violation.to_string());
                }
                bail!(
                    "G-code of `{name}` breaks {} safety rules; nothing was written",
                    violations.len()
                );
            }
        };
        output::write(&self.output, sliced.gcode.as_bytes())?;
        let material = settings.resolve(&printer)?;
        let estimate = sliced.estimate;
        let document = SliceDocument {
            gcode: &self.output,
            size_bytes: sliced.gcode.len(),
            printer: &printer.name,
            settings: &settings,
            estimate,
            mass_g: estimate.volume_mm3 / 1000.0 * material.density_g_cm3,
            lint,
        };
        if self.json {
            return output::json(&document);
        }
        output::facts(&[
            ("time", duration(estimate.seconds)),
            (
                "filament",
                format!(
                    "{:.2} m, {:.1} g of {}",
                    estimate.filament_mm / 1000.0,
                    document.mass_g,
                    settings.material
                ),
            ),
            (
                "layers",
                format!("{} of {} mm", estimate.layers, settings.layer_height.0),
            ),
            (
                "safety rules",
                format!("all hold over {} lines", document.lint.lines),
            ),
            (
                "file",
                format!("{}, {} bytes", self.output.display(), document.size_bytes),
            ),
        ])
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(infill) = self.infill {
            settings.infill_density = infill;
        }
        if let Some(material) = &self.material {
            settings.material.clone_from(material);
        }
        if let Some(height) = self.layer_height {
            settings.layer_height = Mm(height);
        }
        settings
    }
}

impl Check {
    fn run(self) -> anyhow::Result<()> {
        let mesh = read_mesh(&self.mesh)?;
        let report = mesh.check();
        let volume_mm3 = mesh.volume_mm3();
        let document = CheckDocument {
            mesh: &self.mesh,
            closed: report.is_closed(),
            inside_out: report.is_closed() && volume_mm3 < 0.0,
            volume_mm3,
            area_mm2: mesh.area_mm2(),
            bounds: mesh.bounds(),
            vertices: mesh.vertices.len(),
            triangles: mesh.triangles.len(),
            report,
        };
        if self.json {
            output::json(&document)?;
        } else {
            document.print()?;
        }
        let name = self.mesh.display();
        if !document.closed {
            bail!("mesh `{name}` is not closed");
        }
        if document.inside_out {
            bail!("mesh `{name}` is inside out: its triangles run clockwise seen from outside");
        }
        Ok(())
    }
}

impl CheckDocument<'_> {
    fn print(&self) -> anyhow::Result<()> {
        let r = &self.report;
        let mut facts = vec![(
            "closed",
            if self.inside_out {
                "yes, but inside out".to_owned()
            } else if self.closed {
                "yes".to_owned()
            } else {
                format!(
                    "no: edges with one triangle {}, with more than two {}, with clashing \
                     directions {}; triangles without area {}",
                    r.boundary_edges,
                    r.non_manifold_edges,
                    r.inconsistent_edges,
                    r.degenerate_triangles
                )
            },
        )];
        facts.push(("pieces", r.components.to_string()));
        facts.push(("volume", format!("{:.1} mm³", self.volume_mm3)));
        facts.push(("area", format!("{:.1} mm²", self.area_mm2)));
        if let Some(bounds) = self.bounds {
            let [x, y, z] = [0, 1, 2].map(|a| bounds.max[a] - bounds.min[a]);
            let from = bounds.min.map(|at| format!("{at:.3}")).join(", ");
            let to = bounds.max.map(|at| format!("{at:.3}")).join(", ");
            facts.push(("size", format!("{x:.3} × {y:.3} × {z:.3} mm")));
            facts.push(("bounds", format!("({from}) to ({to}) mm")));
        }
        facts.push((
            "mesh",
            format!("{} triangles, {} vertices", self.triangles, self.vertices),
        ));
        output::facts(&facts)
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<()> {
        let mesh = read_mesh(&self.mesh)?;
        let name = self.scan.display();
        let scan = ply::read(&output::read("scan", &self.scan)?)
            .with_context(|| format!("scan `{name}` is not readable PLY"))?;
        let plan = match &self.plan {
            None => VerificationPlan::default(),
            Some(path) => serde_json::from_slice(&output::read("plan", path)?)
                .with_context(|| format!("plan `{}` is not valid", path.display()))?,
        };
        if let Some(out) = &self.out {
            output::make_folder(out)?;
        }
        let mut progress = Progress::start(format!("inspecting `{name}`"));
        let inspection = measure(&scan, &mesh, &plan, &mut |share| progress.tell(share))?;
        drop(progress);
        let verdict = &inspection.verdict;
        if let Some(out) = &self.out {
            let picture = deviation_png(&mesh, &inspection.field);
            output::write(
                &out.join("verdict.json"),
                verdict.canonical_json().as_bytes(),
            )?;
            output::write(&out.join("deviation.png"), &picture)?;
        }
        if self.json {
            output::json(verdict)?;
        } else {
            output::line(verdict.summary().trim_end())?;
        }
        if verdict.disposition != Disposition::Accept {
            bail!("the part is not accepted: {}", verdict.disposition);
        }
        Ok(())
    }
}

/// Reads a mesh, its format told by the suffix.
fn read_mesh(path: &Path) -> anyhow::Result<Mesh> {
    let suffix = path.extension().unwrap_or_default().to_ascii_lowercase();
    let read: fn(&[u8]) -> anyhow::Result<Mesh> = match suffix.to_str() {
        Some("stl") => |bytes| Ok(stl::read(bytes)?),
        Some("3mf") => |bytes| Ok(threemf::read(bytes)?),
        _ => bail!("mesh `{}` is neither .stl nor .3mf", path.display()),
    };
    read(&output::read("mesh", path)?)
        .with_context(|| format!("failed to read mesh `{}`", path.display()))
}

/// Hours and minutes for people.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_minutes() {
        for (seconds, wanted) in [(1.0, "1 min"), (3540.0, "59 min"), (3601.0, "1 h 01 min")] {
            assert_eq!(duration(seconds), wanted);
        }
    }

    #[test]
    fn a_mesh_is_told_by_its_suffix() {
        for (path, wanted) in [
            ("part.obj", "mesh `part.obj` is neither .stl nor .3mf"),
            ("part", "mesh `part` is neither .stl nor .3mf"),
            ("nowhere.STL", "failed to read mesh `nowhere.STL`"),
        ] {
            let error = read_mesh(Path::new(path)).expect_err(path);
            assert_eq!(error.to_string(), wanted);
        }
    }
}
