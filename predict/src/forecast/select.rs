//! Choosing the model a series deserves, and the quantiles around its forecast.

use serde::{Deserialize, Serialize};

use super::Model;
use super::naive::Naive;
use super::ridge::Ridge;
use super::seasonal::SeasonalNaive;
use super::ses::Ses;
use crate::backtest::gate::compare;
use crate::backtest::rolling_origin::Backtest;
use crate::calibrate::conformal::Conformal;

/// Older values are not looked at: they cost time and say little about the next hour.
const MOST_VALUES: usize = 2048;
/// Fewest origins a backtest is worth running for.
const LEAST_ORIGINS: usize = 12;
/// Most steps ahead; beyond, a forecast of these models is an invention.
const MOST_STEPS: usize = 100_000;

/// Values ahead with their quantiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The model that made it.
    pub model: String,
    /// One point per step asked for, in that order.
    pub points: Vec<ForecastPoint>,
    /// How the models did on this series before; the first is persistence.
    pub backtest: Vec<ForecastBacktest>,
}

/// The forecast for one step; the quantiles never cross.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ForecastPoint {
    /// Steps ahead of the last value.
    pub steps: usize,
    /// 5 % quantile.
    pub p05: f64,
    /// 25 % quantile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// 75 % quantile.
    pub p75: f64,
    /// 95 % quantile.
    pub p95: f64,
}

/// One model's record on a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForecastBacktest {
    /// The model.
    pub model: String,
    /// Origins it was tested from.
    pub origins: usize,
    /// Mean absolute error per step asked for.
    pub mean_absolute_error: Vec<f64>,
    /// Its loss in units of persistence's.
    pub relative_loss: f64,
    /// The chance that it was no better than the champion it met; 1 for persistence.
    pub chance: f64,
    /// Whether it was let through the gate when it was tried.
    pub passed: bool,
}

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// Nothing to go by.
    #[error("series has {known} known values, at least 2 are needed")]
    TooShort {
        /// Values that are numbers.
        known: usize,
    },
    /// A value that is no measurement.
    #[error("value {index} of the series is infinite")]
    Infinite {
        /// Its place, counted from 0.
        index: usize,
    },
    /// A step that is not ahead, or absurdly far.
    #[error("step {steps} is not within 1 and {MOST_STEPS}")]
    Steps {
        /// The step asked for.
        steps: usize,
    },
}

/// Forecasts a regular series `steps` ahead.
///
/// Persistence is champion to begin with; seasonal naive, exponential smoothing and autoregression
/// replace it only through [`crate::backtest::gate`], on origins of the newer half of the series.
/// Quantiles are the errors the chosen model made there. NaN is a gap and repeats the value before
/// it. The answer is a function of the arguments alone.
pub fn forecast(values: &[f64], steps: &[usize]) -> Result<Forecast, ForecastError> {
    if let Some(index) = values.iter().position(|x| x.is_infinite()) {
        return Err(ForecastError::Infinite { index });
    }
    if let Some(&steps) = steps
        .iter()
        .find(|&&steps| steps == 0 || steps > MOST_STEPS)
    {
        return Err(ForecastError::Steps { steps });
    }
    let known = values.iter().filter(|x| !x.is_nan()).count();
    if known < 2 {
        return Err(ForecastError::TooShort { known });
    }
    let filled = fill_gaps(&values[values.len().saturating_sub(MOST_VALUES)..]);
    let filled = if filled.len() < 2 {
        fill_gaps(values)
    } else {
        filled
    };
    let scale = Scale::of(&filled);
    let series: Vec<f64> = filled.iter().map(|&x| scale.shrink(x)).collect();
    let (model, errors, backtest) = choose(&series, steps);
    let centre = model
        .forecast(&series, series.len(), steps)
        .pop()
        .unwrap_or_default();
    let point = |place: usize| {
        let at = |share: f64| scale.grow(centre[place] + errors[place].quantile(share));
        let p05 = at(0.05);
        let p25 = at(0.25).max(p05);
        let p50 = at(0.5).max(p25);
        let p75 = at(0.75).max(p50);
        ForecastPoint {
            steps: steps[place],
            p05,
            p25,
            p50,
            p75,
            p95: at(0.95).max(p75),
        }
    };
    let points = (0..steps.len()).map(point).collect();
    let unscaled = backtest.into_iter().map(|mut record| {
        record
            .mean_absolute_error
            .iter_mut()
            .for_each(|error| *error = scale.grow_span(*error));
        record
    });
    Ok(Forecast {
        model: model.name().to_owned(),
        points,
        backtest: unscaled.collect(),
    })
}

/// A gap repeats the value before it; leading gaps are dropped.
fn fill_gaps(values: &[f64]) -> Vec<f64> {
    let mut filled: Vec<f64> = Vec::with_capacity(values.len());
    for &value in values {
        match filled.last() {
            _ if !value.is_nan() => filled.push(value),
            Some(&last) => filled.push(last),
            None => {}
        }
    }
    filled
}

/// Values around 0 and not above 1, so that squares neither overflow nor vanish.
struct Scale {
    centre: f64,
    span: f64,
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let span = high / 2.0 - low / 2.0;
        Self {
            centre: low / 2.0 + high / 2.0,
            span: if span > 0.0 { span } else { 1.0 },
        }
    }

    fn shrink(&self, value: f64) -> f64 {
        value / self.span - self.centre / self.span
    }

    fn grow_span(&self, span: f64) -> f64 {
        finite(span * self.span)
    }

    fn grow(&self, value: f64) -> f64 {
        finite(value * self.span + self.centre)
    }
}

fn finite(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(f64::MIN, f64::MAX)
    }
}

type Choice = (Box<dyn Model>, Vec<Conformal>, Vec<ForecastBacktest>);

fn choose(series: &[f64], steps: &[usize]) -> Choice {
    let furthest = steps.iter().copied().max().unwrap_or(1);
    let first = series.len() / 2;
    let origins = (series.len() + 1).saturating_sub(first + furthest);
    if origins < LEAST_ORIGINS {
        let errors = steps
            .iter()
            .map(|&ahead| random_walk_errors(series, ahead))
            .collect();
        return (Box::new(Naive), errors, Vec::new());
    }
    let mut challengers: Vec<Box<dyn Model>> = vec![Box::new(Ses), Box::new(Ridge::default())];
    if let Some(seasonal) = SeasonalNaive::find(&series[..first]) {
        challengers.insert(0, Box::new(seasonal));
    }
    let mut champion: (Box<dyn Model>, Backtest) =
        (Box::new(Naive), Backtest::run(&Naive, series, first, steps));
    // A step persistence always hits counts in units of the whole range instead.
    let unit = |&error: &f64| if error > 1e-12 { error } else { 1.0 };
    let scale: Vec<f64> = champion.1.mean_absolute().iter().map(unit).collect();
    let mut losses = champion.1.losses(&scale);
    let persistence = mean(&losses);
    let relative = |loss: f64| {
        if persistence > 0.0 {
            loss / persistence
        } else {
            1.0
        }
    };
    let mut records = vec![record(&*champion.0, &champion.1, 1.0, 1.0, true)];
    for model in challengers {
        let test = Backtest::run(&*model, series, first, steps);
        let own = test.losses(&scale);
        let gate = compare(&losses, &own, furthest.max(own.len() / 20), 0);
        let loss = relative(gate.challenger_loss);
        records.push(record(&*model, &test, loss, gate.chance, gate.passed));
        if gate.passed {
            champion = (model, test);
            losses = own;
        }
    }
    let errors = champion
        .1
        .errors
        .iter()
        .map(|errors| Conformal::new(errors.clone()))
        .collect();
    (champion.0, errors, records)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn record(
    model: &dyn Model,
    test: &Backtest,
    relative_loss: f64,
    chance: f64,
    passed: bool,
) -> ForecastBacktest {
    ForecastBacktest {
        model: model.name().to_owned(),
        origins: test.errors.iter().map(Vec::len).min().unwrap_or(0),
        mean_absolute_error: test.mean_absolute(),
        relative_loss,
        chance,
        passed,
    }
}

/// Errors of persistence where a backtest is too short: one-step changes either way, growing as a
/// random walk's do.
fn random_walk_errors(series: &[f64], ahead: usize) -> Conformal {
    let growth = (ahead as f64).sqrt();
    let changes = series
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs() * growth);
    Conformal::new(changes.flat_map(|change| [change, -change]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn rising(point: &ForecastPoint) -> bool {
        let all = [point.p05, point.p25, point.p50, point.p75, point.p95];
        all.iter().all(|x| x.is_finite()) && all.windows(2).all(|pair| pair[0] <= pair[1])
    }

    #[test]
    fn a_constant_stays_and_two_points_are_enough() {
        let flat = forecast(&[7.0; 100], &[1, 10]).expect("long enough");
        assert_eq!((flat.points[1].p05, flat.points[1].p95), (7.0, 7.0));
        let short = forecast(&[1.0, 3.0], &[4]).expect("two points");
        assert_eq!(short.points[0].p50, 3.0);
        assert!(short.points[0].p05 <= -1.0 && short.points[0].p95 >= 7.0);
    }

    #[test]
    fn a_season_is_worth_its_model() {
        let mut rng = Rng::new(3);
        let shape: Vec<f64> = (0..24).map(|_| 10.0 * rng.normal()).collect();
        let values: Vec<f64> = (0..480)
            .map(|i| shape[i % 24] + 0.1 * rng.normal())
            .collect();
        let got = forecast(&values, &[1, 6]).expect("long enough");
        assert_ne!(got.model, "naive");
        assert!((got.points[1].p50 - shape[5]).abs() < 1.0);
        assert!(got.points[1].p95 - got.points[1].p05 < 2.0);
    }

    #[test]
    fn a_random_walk_is_left_to_persistence_and_covered() {
        let mut rng = Rng::new(8);
        let (mut inside, mut naive) = (0, 0);
        for _ in 0..100 {
            let mut level = 0.0;
            let walk: Vec<f64> = (0..410)
                .map(|_| {
                    level += rng.normal();
                    level
                })
                .collect();
            let got = forecast(&walk[..400], &[10]).expect("long enough");
            naive += u32::from(got.model == "naive");
            let point = got.points[0];
            inside += u32::from(point.p05 <= walk[409] && walk[409] <= point.p95);
        }
        assert!(naive >= 85, "{naive}");
        assert!((78..=98).contains(&inside), "{inside}");
    }

    #[test]
    fn what_cannot_be_forecast_is_refused() {
        assert_eq!(
            forecast(&[1.0], &[1]),
            Err(ForecastError::TooShort { known: 1 })
        );
        assert_eq!(
            forecast(&[1.0, f64::NAN], &[1]),
            Err(ForecastError::TooShort { known: 1 })
        );
        assert_eq!(
            forecast(&[1.0, 2.0], &[0]),
            Err(ForecastError::Steps { steps: 0 })
        );
        let infinite = forecast(&[1.0, f64::INFINITY], &[1]);
        assert_eq!(infinite, Err(ForecastError::Infinite { index: 1 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn quantiles_are_finite_and_in_order(
            values in prop::collection::vec(
                prop_oneof![-1e3..1e3, Just(f64::NAN), Just(0.0), -1e300..1e300, Just(f64::MAX), Just(f64::MIN)],
                2..200,
            ),
            steps in prop::collection::vec(1_usize..40, 1..4),
        ) {
            prop_assume!(values.iter().filter(|x: &&f64| !x.is_nan()).count() >= 2);
            let got = forecast(&values, &steps).expect("two values and sane steps");
            prop_assert_eq!(got.points.len(), steps.len());
            prop_assert!(got.points.iter().all(rising), "{:?}", got);
        }
    }
}
