//! Everything about one physical part: design, prove, slice, inspect.
//!
//! The room in reading order:
//!
//! 1. [`units`], [`mesh`], [`formats`]: quantities, the triangle mesh, files in and out.
//! 2. [`brief`] says what is wanted; [`families`] turns its parameters into a design space of
//!    frozen interfaces, keep-outs and free room; [`brep`] makes the parametric solid and its STEP.
//! 3. [`fem`] solves linear elasticity on [`field`]'s voxels and maps failure modes to loads.
//! 4. [`topology`] puts material where the loads need it; [`field::surface`] turns the result back
//!    into a closed mesh.
//! 5. [`design`] runs 2 to 4 end to end; [`certificate`] proves the final mesh; [`adopt`](mod@adopt) takes one that somebody
//!    else designed.
//! 6. [`mod@slice`] makes G-code; [`inspect`] measures what was built.
//!
//! Everything here is pure computation: no clock, no environment, no global state. Long
//! computations take one [`Progress`] callback.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! let brief = cad::brief::Brief::from_toml(
//!     r#"
//!     printer = "prusa_mk4"
//!     required_fos = 2.0
//!     [part]
//!     family = "fan_tray_bracket"
//!     [material]
//!     name = "petg"
//!     e_mpa = 2000.0
//!     nu = 0.38
//!     density_g_cm3 = 1.27
//!     yield_mpa = 45.0
//!     [optimise]
//!     voxel_mm = 4.0
//!     volume_fraction = 0.3
//!     iterations = 6
//!     r_min_mm = 6.0
//!     [[load]]
//!     name = "shock"
//!     at = "boss"
//!     force_n = [0.0, 0.0, -60.0]
//!     "#,
//! )?;
//! let design = cad::design::redesign(&brief, 1, &mut |_share| ControlFlow::Continue(()))?;
//! assert!(design.mesh.check().is_closed());
//! assert!(design.certificate.factor_of_safety >= 2.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adopt;
pub mod brep;
pub mod brief;
pub mod certificate;
pub mod design;
pub mod families;
pub mod fem;
pub mod field;
pub mod formats;
pub mod inspect;
pub mod mesh;
pub mod rng;
pub mod slice;
pub mod topology;
pub mod units;

/// An error with its causes, on one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Told the share done (0 to 1); answers whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(f64) -> std::ops::ControlFlow<()>;
