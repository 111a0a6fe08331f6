//! What an answer of a predictor has to hold to.

use super::bindings::predict::{Outlook, Request, Risk};
use super::judge::{Judgement, finite, rising, share};

/// The most reasons that one asset is told with, and the most quantiles.
const MOST: usize = 64;

pub(crate) fn judge(request: &Request, answer: &[Outlook]) -> Judgement {
    if answer.len() != request.histories.len() {
        let (asked, told) = (request.histories.len(), answer.len());
        return Err(format!("{told} outlooks for {asked} histories"));
    }
    for (history, outlook) in request.histories.iter().zip(answer) {
        if let Outlook::Risk(risk) = outlook {
            let asset = &history.asset.id;
            risk_holds(request, risk).map_err(|why| format!("asset `{asset}`: {why}"))?;
        }
    }
    Ok(())
}

fn risk_holds(request: &Request, risk: &Risk) -> Judgement {
    if risk.probabilities.len() != request.horizons.len() {
        let (asked, told) = (request.horizons.len(), risk.probabilities.len());
        return Err(format!("{told} probabilities for {asked} horizons"));
    }
    for &probability in &risk.probabilities {
        share("a probability", probability)?;
    }
    if risk.probabilities.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err(format!(
            "probabilities fall as the horizon grows: {:?}",
            risk.probabilities
        ));
    }
    if risk
        .remaining_life
        .iter()
        .any(|one| !(one.p > 0.0 && one.p < 1.0))
    {
        return Err("the `p` of a quantile is not between 0 and 1".to_owned());
    }
    rising(
        "`p` of the quantiles",
        risk.remaining_life.iter().map(|one| one.p),
        false,
    )?;
    rising(
        "`after` of the quantiles",
        risk.remaining_life.iter().map(|one| one.after),
        true,
    )?;
    if risk.remaining_life.iter().any(|one| one.after < 0.0) {
        return Err("a remaining life is negative".to_owned());
    }
    let (reasons, quantiles) = (risk.reasons.len(), risk.remaining_life.len());
    if reasons > MOST || quantiles > MOST {
        return Err(format!(
            "{reasons} reasons and {quantiles} quantiles; {MOST} are the most of each"
        ));
    }
    for reason in &risk.reasons {
        finite(&format!("the value of `{}`", reason.metric), reason.value)?;
        finite(
            &format!("the contribution of `{}`", reason.metric),
            reason.contribution,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::predict::{History, Quantile, Reason};
    use crate::v1::types::Asset;

    fn request(assets: &[&str]) -> Request {
        let history = |&id: &&str| History {
            asset: Asset {
                id: id.to_owned(),
                kind: String::new(),
                labels: Vec::new(),
            },
            installed: None,
            start: 0.0,
            step: 1_000.0,
            columns: Vec::new(),
        };
        Request {
            histories: assets.iter().map(history).collect(),
            horizons: vec![1.0, 7.0],
            model: None,
        }
    }

    fn risk() -> Risk {
        Risk {
            probabilities: vec![0.1, 0.4],
            remaining_life: vec![
                Quantile {
                    p: 0.05,
                    after: 1.0,
                },
                Quantile { p: 0.5, after: 1.0 },
            ],
            reasons: vec![Reason {
                metric: "vibration".to_owned(),
                feature: "mean_5".to_owned(),
                value: 2.0,
                typical: f64::NAN,
                contribution: 3.0,
            }],
        }
    }

    fn told(change: impl FnOnce(&mut Risk)) -> Judgement {
        let mut risk = risk();
        change(&mut risk);
        judge(&request(&["fan-1"]), &[Outlook::Risk(risk)])
    }

    #[test]
    fn a_sound_outlook_is_taken() {
        assert_eq!(told(|_| ()), Ok(()));
        assert_eq!(told(|risk| risk.remaining_life.clear()), Ok(()));
        let declined = Outlook::Declined("too young".to_owned());
        assert_eq!(
            judge(&request(&["a", "b"]), &[Outlook::Risk(risk()), declined]),
            Ok(())
        );
        assert_eq!(judge(&request(&[]), &[]), Ok(()));
    }

    #[test]
    fn an_unsound_one_is_refused_with_its_reason() {
        type Change = fn(&mut Risk);
        let cases: [(Change, &str); 11] = [
            (
                |risk| risk.reasons[0].value = f64::NAN,
                "the value of `vibration` is NaN",
            ),
            (
                |risk| risk.probabilities = vec![0.1],
                "1 probabilities for 2 horizons",
            ),
            (|risk| risk.probabilities[1] = 1.01, "not within 0 and 1"),
            (|risk| risk.probabilities[0] = -0.01, "not within 0 and 1"),
            (
                |risk| risk.probabilities[0] = f64::NAN,
                "not within 0 and 1",
            ),
            (
                |risk| risk.probabilities = vec![0.4, 0.1],
                "fall as the horizon grows",
            ),
            (|risk| risk.remaining_life[0].p = 0.0, "not between 0 and 1"),
            (|risk| risk.remaining_life[1].p = 0.05, "do not rise"),
            (|risk| risk.remaining_life[1].after = f64::INFINITY, "inf"),
            (|risk| risk.remaining_life[0].after = -1.0, "negative"),
            (
                |risk| risk.reasons[0].contribution = f64::NAN,
                "the contribution of `vibration` is NaN",
            ),
        ];
        for (change, said) in cases {
            let why = told(change).unwrap_err();
            assert!(why.contains(said) && why.contains("asset `fan-1`"), "{why}");
        }
        let many = told(|risk| risk.reasons = vec![risk.reasons[0].clone(); 65]);
        assert!(many.unwrap_err().contains("65 reasons"));
        let few = judge(&request(&["a", "b"]), &[Outlook::Risk(risk())]);
        assert_eq!(few, Err("1 outlooks for 2 histories".to_owned()));
    }
}
