//! The convergence of a redesign as an SVG picture.

use std::fmt::Write as _;

use ::cad::topology::optimise::IterationRecord;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Gaps between the labelled values of an axis.
const GAPS: usize = 4;

/// Compliance over the design iterations; the value axis is logarithmic because the first ones tower.
pub fn svg(history: &[IterationRecord]) -> String {
    let logs: Vec<f64> = history
        .iter()
        .map(|record| record.compliance_n_mm.max(f64::MIN_POSITIVE).log10())
        .collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // A flat or empty curve still needs an axis with some length.
    let (low, high) = match high - low {
        span if span.is_finite() && span > 1e-9 => (low, high),
        span if span.is_finite() => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    };
    let last = logs.len().max(2) as f64;
    let x = |iteration: f64| LEFT + (WIDTH - LEFT - RIGHT) * (iteration - 1.0) / (last - 1.0);
    let y = |log: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - log) / (high - low);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Compliance, N·mm, by design iteration</text>\n"
    );
    // Writing to a string cannot fail.
    for gap in 0..=GAPS {
        let share = gap as f64 / GAPS as f64;
        let log = low + (high - low) * share;
        let (at, value) = (y(log), significant(10f64.powf(log)));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
        let iteration = (1.0 + (last - 1.0) * share).round();
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{iteration}</text>",
            x(iteration),
            HEIGHT - BOTTOM + 22.0
        );
    }
    let curve = logs.iter().enumerate();
    let curve = curve.map(|(i, &log)| format!("{:.1},{:.1}", x(i as f64 + 1.0), y(log)));
    let curve = curve.collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{curve}\" fill=\"none\" stroke=\"#1f5f99\" stroke-width=\"2\"/>\n</svg>"
    );
    svg
}

/// Three significant digits, without an exponent.
fn significant(value: f64) -> String {
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(compliances: &[f64]) -> Vec<IterationRecord> {
        let record = |&compliance_n_mm: &f64| IterationRecord {
            compliance_n_mm,
            volume_fraction: 0.2,
            change: 0.1,
            solver_iterations: 9,
        };
        compliances.iter().map(record).collect()
    }

    #[test]
    fn the_curve_falls_and_odd_histories_still_give_numbers() {
        let picture = svg(&records(&[1000.0, 100.0, 10.0]));
        assert!(
            picture.contains("84.0,44.0 390.0,204.0 696.0,364.0"),
            "{picture}"
        );
        for odd in [&[][..], &[5.0], &[5.0, 5.0], &[0.0, 1.0]] {
            let picture = svg(&records(odd));
            let broken = picture.contains("NaN") || picture.contains("inf");
            assert!(!broken && picture.ends_with("</svg>\n"), "{picture}");
        }
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, wanted) in [(0.01234, "0.0123"), (1.0, "1.00"), (98765.0, "98765")] {
            assert_eq!(significant(value), wanted);
        }
    }
}
