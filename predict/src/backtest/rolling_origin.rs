//! Rolling origins: what would each forecast have been, had it been made at each moment of the past?

use crate::forecast::Model;

/// Forecasts of one model from every origin of the tested part of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// The first origin: rows before it fitted the model.
    pub first: usize,
    /// Steps ahead that were asked for.
    pub steps: Vec<usize>,
    /// `actual − forecast` per step, and per origin that still has an actual value at that step.
    pub errors: Vec<Vec<f64>>,
}

impl Backtest {
    /// Fits a model once to `values[..first]` and lets it forecast from `first` and every later
    /// origin, each time knowing only what came before.
    pub fn run(model: &dyn Model, values: &[f64], first: usize, steps: &[usize]) -> Self {
        let forecasts = model.forecast(values, first, steps);
        let per_step = |place: usize| {
            let ahead = steps[place];
            let origins = forecasts.iter().enumerate();
            let error = |(number, forecast): (usize, &Vec<f64>)| {
                // An origin is the number of values known; one step ahead is the next value.
                let actual = values.get(first + number + ahead - 1)?;
                Some(actual - forecast[place])
            };
            origins.map_while(error).collect()
        };
        let errors = (0..steps.len()).map(per_step).collect();
        Self {
            first,
            steps: steps.to_vec(),
            errors,
        }
    }

    /// The loss of each origin: absolute errors over the steps, each in units of `scale[step]`, averaged.
    /// Only origins with an actual value at every step count.
    pub fn losses(&self, scale: &[f64]) -> Vec<f64> {
        let n = self.errors.iter().map(Vec::len).min().unwrap_or(0);
        let steps = self.errors.len().max(1) as f64;
        let loss = |origin: usize| {
            let scaled = self.errors.iter().zip(scale);
            scaled
                .map(|(errors, scale)| errors[origin].abs() / scale)
                .sum::<f64>()
                / steps
        };
        (0..n).map(loss).collect()
    }

    /// Mean absolute error per step; 0 where nothing was tested.
    pub fn mean_absolute(&self) -> Vec<f64> {
        let mean = |errors: &Vec<f64>| {
            errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len().max(1) as f64
        };
        self.errors.iter().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::naive::Naive;

    #[test]
    fn errors_are_those_of_forecasts_that_could_have_been_made() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        let test = Backtest::run(&Naive, &values, 2, &[1, 2]);
        // Origins 2, 3, 4 know 2, 4 and 8 last.
        assert_eq!(test.errors[0], [2.0, 4.0, 8.0]);
        assert_eq!(test.errors[1], [6.0, 12.0]);
        assert_eq!(
            test.losses(&[1.0, 2.0]),
            [(2.0 + 3.0) / 2.0, (4.0 + 6.0) / 2.0]
        );
    }
}
