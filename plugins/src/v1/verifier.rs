//! What an answer of a verifier has to hold to.

use super::bindings::verify::{Disposition, Report, Request};
use super::judge::{Judgement, finite, share};

/// The most findings of one answer.
const MOST: usize = 10_000;

/// From here on a finding speaks against the part.
const SEVERE: f64 = 0.5;

pub(crate) fn judge(request: &Request, report: &Report) -> Judgement {
    if report.disposition == Disposition::Accept {
        if request.observations.is_empty() {
            return Err("a part was accepted that nobody saw".to_owned());
        }
        if let Some(finding) = report
            .findings
            .iter()
            .find(|finding| finding.severity >= SEVERE)
        {
            let (code, severity) = (&finding.code, finding.severity);
            return Err(format!(
                "a part was accepted with `{code}` of severity {severity}"
            ));
        }
    }
    share("the confidence", report.confidence)?;
    if report.findings.len() > MOST {
        return Err(format!(
            "{} findings; {MOST} are the most",
            report.findings.len()
        ));
    }
    for finding in &report.findings {
        share(
            &format!("the severity of `{}`", finding.code),
            finding.severity,
        )?;
        if let Some((x, y, z)) = finding.at {
            for along in [x, y, z] {
                finite(&format!("the place of `{}`", finding.code), along)?;
            }
        }
    }
    if let Some(deviation) = &report.deviation {
        finite("the mean deviation", deviation.mean)?;
        finite("the greatest deviation", deviation.max)?;
        share("the coverage", deviation.coverage)?;
        if !(deviation.uncertainty.is_finite() && deviation.uncertainty >= 0.0) {
            return Err(format!("an uncertainty of {} mm", deviation.uncertainty));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::types::ArtifactRef;
    use crate::v1::verify::{Deviation, Finding, Observation, Placement};

    fn seen(times: usize) -> Request {
        let artifact = ArtifactRef {
            digest: String::new(),
            media_type: "model/ply".to_owned(),
            size: 0,
            name: "scan.ply".to_owned(),
        };
        let observation = Observation {
            artifact: artifact.clone(),
            placement: Placement::Unknown,
            uncertainty: None,
        };
        Request {
            expected: artifact,
            observations: vec![observation; times],
            tolerance: 0.2,
        }
    }

    fn told(change: impl FnOnce(&mut Report)) -> Judgement {
        let finding = Finding {
            code: "layer_shift".to_owned(),
            severity: 0.5,
            at: Some((1.0, 2.0, 3.0)),
            detail: String::new(),
        };
        let deviation = Deviation {
            mean: -0.1,
            max: 0.3,
            uncertainty: 0.01,
            coverage: 0.9,
        };
        let mut report = Report {
            disposition: Disposition::Rework,
            confidence: 0.8,
            findings: vec![finding],
            deviation: Some(deviation),
        };
        change(&mut report);
        judge(&seen(1), &report)
    }

    #[test]
    fn a_report_tells_numbers_that_are_ones() {
        assert_eq!(told(|_| ()), Ok(()));
        assert_eq!(told(|report| report.deviation = None), Ok(()));
        type Change = fn(&mut Report);
        let cases: [(Change, &str); 8] = [
            (|report| report.confidence = 1.1, "the confidence is 1.1"),
            (
                |report| report.confidence = f64::NAN,
                "the confidence is NaN",
            ),
            (
                |report| report.findings[0].severity = -1.0,
                "the severity of `layer_shift`",
            ),
            (
                |report| report.findings[0].at = Some((0.0, f64::NAN, 0.0)),
                "the place of `layer_shift`",
            ),
            (
                |report| report.deviation.as_mut().unwrap().mean = f64::NAN,
                "the mean deviation is NaN",
            ),
            (
                |report| report.deviation.as_mut().unwrap().max = f64::INFINITY,
                "the greatest deviation is inf",
            ),
            (
                |report| report.deviation.as_mut().unwrap().coverage = 2.0,
                "the coverage is 2",
            ),
            (
                |report| report.deviation.as_mut().unwrap().uncertainty = -0.1,
                "an uncertainty of -0.1 mm",
            ),
        ];
        for (change, said) in cases {
            let why = told(change).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let accept = |report: &mut Report| report.disposition = Disposition::Accept;
        assert!(
            told(accept)
                .unwrap_err()
                .contains("`layer_shift` of severity 0.5")
        );
        let clean = Report {
            disposition: Disposition::Accept,
            confidence: 1.0,
            findings: Vec::new(),
            deviation: None,
        };
        assert_eq!(judge(&seen(1), &clean), Ok(()));
        assert!(
            judge(&seen(0), &clean)
                .unwrap_err()
                .contains("that nobody saw")
        );
        let many = told(|report| report.findings = vec![report.findings[0].clone(); 10_001]);
        assert!(many.unwrap_err().contains("10001 findings"));
    }
}
