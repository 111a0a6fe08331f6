//! What a scanner saw of a part: points, maybe normals, and how noisy they are.

/// Measured surface points, in the scanner's own frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// Positions, mm.
    pub points: Vec<[f64; 3]>,
    /// Outward unit normals, one per point.
    pub normals: Option<Vec<[f64; 3]>>,
    /// Standard deviation of one measured coordinate, mm.
    pub sigma_mm: f64,
}
