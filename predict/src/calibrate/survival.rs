//! Times to failure of which some are only known to be longer (Kaplan and Meier, 1958).

/// The share that survives each time, by the product-limit estimator.
#[derive(Debug, Clone, PartialEq)]
pub struct Survival {
    /// `(time, share surviving beyond it)` at every time with an event, rising times.
    steps: Vec<(f64, f64)>,
    longest: f64,
}

impl Survival {
    /// Estimates from `(time, whether the event happened then)`; without event the time is a lower bound.
    pub fn fit(times: &[(f64, bool)]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut steps = Vec::new();
        let mut share = 1.0;
        let mut start = 0;
        while start < sorted.len() {
            let time = sorted[start].0;
            let same = sorted[start..].iter().take_while(|entry| entry.0 == time);
            let (count, events) = same.fold((0, 0_usize), |(n, k), entry| {
                (n + 1, k + usize::from(entry.1))
            });
            let at_risk = sorted.len() - start;
            if events > 0 {
                share *= 1.0 - events as f64 / at_risk as f64;
                steps.push((time, share));
            }
            start += count;
        }
        Self {
            steps,
            longest: sorted.last().map_or(0.0, |entry| entry.0),
        }
    }

    /// The share that survives up to just before `time`.
    pub fn before(&self, time: f64) -> f64 {
        let passed = self.steps.partition_point(|step| step.0 < time);
        passed.checked_sub(1).map_or(1.0, |last| self.steps[last].1)
    }

    /// The time by which `share` have had the event; where the record is too short to tell, its end.
    pub fn quantile(&self, share: f64) -> f64 {
        let left = 1.0 - share;
        let step = self.steps.iter().find(|step| step.1 <= left + 1e-12);
        step.map_or(self.longest, |step| step.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_textbook_example_comes_out() {
        // Times 1, 2+, 3, 4+, 5 (plus: still running): S = 4/5, then 4/5·2/3, then 0.
        let times = [
            (1.0, true),
            (2.0, false),
            (3.0, true),
            (4.0, false),
            (5.0, true),
        ];
        let survival = Survival::fit(&times);
        assert_eq!(survival.before(1.0), 1.0);
        assert!((survival.before(2.0) - 0.8).abs() < 1e-12);
        assert!((survival.before(4.5) - 0.8 * 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(survival.quantile(0.2), 1.0);
        assert_eq!(survival.quantile(0.95), 5.0);
    }

    #[test]
    fn without_events_only_the_end_of_the_record_is_known() {
        let survival = Survival::fit(&[(3.0, false), (7.0, false)]);
        assert_eq!(survival.quantile(0.5), 7.0);
        assert_eq!(survival.before(100.0), 1.0);
        assert_eq!(Survival::fit(&[]).quantile(0.5), 0.0);
    }
}
