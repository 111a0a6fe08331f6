//! What an answer of a detector has to hold to.

use std::collections::BTreeSet;

use super::bindings::detect::{Anomaly, Request};
use super::judge::{Judgement, finite, rising, share};

/// The most anomalies of one answer.
const MOST: usize = 10_000;

pub(crate) fn judge(request: &Request, answer: &[Anomaly]) -> Judgement {
    if answer.len() > MOST {
        return Err(format!("{} anomalies; {MOST} are the most", answer.len()));
    }
    rising(
        "the starts",
        answer.iter().map(|anomaly| anomaly.start),
        true,
    )?;
    let metrics: BTreeSet<&str> = request
        .series
        .iter()
        .map(|series| series.metric.as_str())
        .collect();
    for anomaly in answer {
        finite("an end", anomaly.end)?;
        share("a score", anomaly.score)?;
        if anomaly.end < anomaly.start {
            return Err(format!(
                "an anomaly ends at {} and starts at {}",
                anomaly.end, anomaly.start
            ));
        }
        if anomaly.metrics.len() > metrics.len() {
            return Err(format!(
                "an anomaly in {} metrics of {}",
                anomaly.metrics.len(),
                metrics.len()
            ));
        }
        if let Some(unknown) = anomaly
            .metrics
            .iter()
            .find(|metric| !metrics.contains(metric.as_str()))
        {
            return Err(format!(
                "an anomaly in `{unknown}`, which is no metric of the request"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::types::{Asset, Series};

    fn told(anomalies: &[Anomaly]) -> Judgement {
        let series = Series {
            metric: "vibration".into(),
            unit: String::new(),
            times: Vec::new(),
            values: Vec::new(),
        };
        let asset = Asset {
            id: "fan-1".into(),
            kind: String::new(),
            labels: Vec::new(),
        };
        judge(
            &Request {
                asset,
                series: vec![series],
                since: 0.0,
            },
            anomalies,
        )
    }

    fn anomaly(start: f64, end: f64, score: f64, metric: &str) -> Anomaly {
        Anomaly {
            start,
            end,
            score,
            kind: "spike".into(),
            metrics: vec![metric.into()],
        }
    }

    #[test]
    fn anomalies_are_spans_in_order_with_scores_and_known_metrics() {
        let one = |start, end, score| anomaly(start, end, score, "vibration");
        assert_eq!(told(&[one(1.0, 2.0, 0.0), one(1.0, 1.0, 1.0)]), Ok(()));
        let cases = [
            (vec![one(2.0, 3.0, 0.5), one(1.0, 3.0, 0.5)], "do not rise"),
            (vec![one(2.0, 1.0, 0.5)], "ends at 1"),
            (vec![one(1.0, f64::NAN, 0.5)], "NaN"),
            (vec![one(f64::INFINITY, 1.0, 0.5)], "inf"),
            (vec![one(1.0, 2.0, 1.5)], "not within 0 and 1"),
            (
                vec![anomaly(1.0, 2.0, 0.5, "load")],
                "no metric of the request",
            ),
        ];
        for (anomalies, said) in cases {
            let why = told(&anomalies).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let twice = Anomaly {
            metrics: vec!["vibration".into(); 2],
            ..one(1.0, 2.0, 0.5)
        };
        assert!(told(&[twice]).unwrap_err().contains("2 metrics of 1"));
        let many = vec![one(1.0, 2.0, 0.5); 10_001];
        assert!(told(&many).unwrap_err().contains("10001 anomalies"));
    }
}
