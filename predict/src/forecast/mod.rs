//! Values ahead, always with quantiles, by the model that proved itself on this very series.

pub mod naive;
pub mod ridge;
pub mod seasonal;
mod select;
pub mod ses;

pub use select::{Forecast, ForecastBacktest, ForecastError, ForecastPoint, forecast};

/// A way to forecast a series. It knows nothing but the values it is given.
pub trait Model {
    /// The name it is known by in results.
    fn name(&self) -> &'static str;

    /// Fits to `values[..first]`, then forecasts `steps` ahead from every origin `first..=values.len()`:
    /// one row per origin, one value per step. A forecast from origin `o` depends on `values[..o]` only.
    fn forecast(&self, values: &[f64], first: usize, steps: &[usize]) -> Vec<Vec<f64>>;
}
