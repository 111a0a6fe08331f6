//! Features in bins: each value becomes one byte, so a split is chosen from a short histogram.

/// Most bins per feature, the one for missing values included.
pub(super) const MAX_BINS: usize = 255;

/// A table of features, column by column, each value replaced by the number of its bin.
///
/// Bin 0 holds missing values (NaN); bin `b` ≥ 1 holds values in `(edges[b − 2], edges[b − 1]]`.
#[derive(Debug, Clone)]
pub struct Binned {
    pub(super) rows: usize,
    pub(super) columns: Vec<Vec<u8>>,
    pub(super) edges: Vec<Vec<f64>>,
}

impl Binned {
    /// Bins the columns of a table; all columns have the same length.
    pub fn new(columns: &[Vec<f64>]) -> Self {
        let edges: Vec<Vec<f64>> = columns.iter().map(|column| edges_of(column)).collect();
        let bins = columns.iter().zip(&edges);
        let bins = bins.map(|(column, edges)| column.iter().map(|&x| bin(x, edges)).collect());
        Self {
            rows: columns.first().map_or(0, Vec::len),
            columns: bins.collect(),
            edges,
        }
    }
}

fn bin(value: f64, edges: &[f64]) -> u8 {
    if value.is_nan() {
        0
    } else {
        1 + edges.partition_point(|&edge| edge < value) as u8
    }
}

/// Edges between bins of about equal count; values that are equal always share a bin.
fn edges_of(column: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = column.iter().copied().filter(|x| !x.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = Vec::new();
    let bins = MAX_BINS - 1;
    for part in 1..bins {
        let at = sorted.len() * part / bins;
        if at == 0 {
            continue;
        }
        // The edge lies before the first value that differs from its predecessor.
        let before = sorted[at - 1];
        let after = sorted.partition_point(|&x| x <= before);
        if after == sorted.len() {
            break;
        }
        let edge = before + (sorted[after] - before) / 2.0;
        let edge = if edge.is_finite() && edge < sorted[after] {
            edge
        } else {
            before
        };
        if edges.last().is_none_or(|&last| last < edge) {
            edges.push(edge);
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_get_a_bin_each_and_missing_ones_bin_zero() {
        let column: Vec<f64> = (0..300).map(|row| f64::from(row % 3)).collect();
        let binned = Binned::new(&[column.clone(), vec![f64::NAN; 300]]);
        assert_eq!(binned.edges[0], vec![0.5, 1.5]);
        assert!(
            column
                .iter()
                .zip(&binned.columns[0])
                .all(|(&x, &bin)| bin == x as u8 + 1)
        );
        assert!(binned.columns[1].iter().all(|&bin| bin == 0));
        assert!(binned.edges[1].is_empty());
    }

    #[test]
    fn many_values_stay_within_the_limit_and_in_order() {
        let column: Vec<f64> = (0..10_000)
            .map(|row| f64::from(row * 7919 % 10_000))
            .collect();
        let binned = Binned::new(std::slice::from_ref(&column));
        let most = binned.columns[0].iter().copied().max().expect("rows");
        assert!(usize::from(most) < MAX_BINS);
        assert!(most > 100);
        assert!(binned.edges[0].windows(2).all(|pair| pair[0] < pair[1]));
    }
}
