//! Connected pieces of a voxel grid, found by rows of consecutive cells.

/// Cells along x and y, and slabs along z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) z: usize,
}

/// Consecutive cells `from..to` of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Number of the piece it belongs to.
    pub(crate) piece: u32,
}

/// All runs of a grid, joined over faces to pieces.
pub(crate) struct Runs {
    size: Size,
    runs: Vec<Run>,
    /// First run of each row, and the end.
    rows: Vec<usize>,
}

impl Runs {
    /// The runs of cells `(slab, cell in slab)` that are `inside`.
    pub(crate) fn of(size: Size, inside: impl Fn(usize, usize) -> bool) -> Self {
        let mut found = Self {
            size,
            runs: Vec::new(),
            rows: vec![0],
        };
        for slab in 0..size.z {
            for row in 0..size.y {
                let mut x = 0;
                while x < size.x {
                    let from = x;
                    while x < size.x && inside(slab, row * size.x + x) {
                        x += 1;
                    }
                    if x > from {
                        let piece = found.runs.len() as u32;
                        found.runs.push(Run { from, to: x, piece });
                    }
                    x += 1;
                }
                found.rows.push(found.runs.len());
                let row_number = slab * size.y + row;
                if row > 0 {
                    found.join(row_number - 1, row_number);
                }
                if slab > 0 {
                    found.join(row_number - size.y, row_number);
                }
            }
        }
        for i in 0..found.runs.len() {
            found.runs[i].piece = found.root(i as u32);
        }
        found
    }

    /// Every run with its slab and row.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, usize, &Run)> {
        (0..self.rows.len() - 1).flat_map(move |row| {
            let runs = &self.runs[self.rows[row]..self.rows[row + 1]];
            runs.iter()
                .map(move |run| (row / self.size.y, row % self.size.y, run))
        })
    }

    /// The piece whose runs weigh most together.
    pub(crate) fn heaviest(&self, weight: impl Fn(usize, usize) -> f64) -> Option<u32> {
        let mut weights = vec![0.0; self.runs.len()];
        for (slab, _, run) in self.all() {
            weights[run.piece as usize] += weight(slab, run.to - run.from);
        }
        // The first of equals, so that the answer is always the same.
        let best = weights
            .iter()
            .enumerate()
            .rev()
            .max_by(|a, b| a.1.total_cmp(b.1))?;
        Some(best.0 as u32)
    }

    /// The piece that holds the first cell of all.
    pub(crate) fn first(&self) -> Option<u32> {
        let run = self
            .runs
            .first()
            .filter(|run| self.rows[1] > 0 && run.from == 0)?;
        Some(run.piece)
    }

    /// Joins the runs of two rows that lie side by side.
    fn join(&mut self, a: usize, b: usize) {
        let (mut i, mut j) = (self.rows[a], self.rows[b]);
        while i < self.rows[a + 1] && j < self.rows[b + 1] {
            let (p, q) = (self.runs[i], self.runs[j]);
            if p.from < q.to && q.from < p.to {
                let (p, q) = (self.root(i as u32), self.root(j as u32));
                let (low, high) = (p.min(q), p.max(q));
                self.runs[high as usize].piece = low;
            }
            if p.to < q.to { i += 1 } else { j += 1 }
        }
    }

    fn root(&mut self, mut i: u32) -> u32 {
        while self.runs[i as usize].piece != i {
            let up = self.runs[i as usize].piece;
            self.runs[i as usize].piece = self.runs[up as usize].piece;
            i = up;
        }
        i
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_over_faces_only() {
        // A U over two rows, a cell touching it by a corner only, one above another in z.
        let size = Size { x: 5, y: 3, z: 2 };
        let slabs = ["#.#.. ###.. ...#.", "..... ..... ...##"];
        let runs = Runs::of(size, |slab, cell| {
            slabs[slab].replace(' ', "").as_bytes()[cell] == b'#'
        });
        let mut pieces: Vec<u32> = runs.all().map(|(.., run)| run.piece).collect();
        assert_eq!(pieces.len(), 5);
        pieces.dedup();
        assert_eq!(pieces.len(), 2);
        assert_eq!(runs.heaviest(|_, cells| cells as f64), Some(pieces[0]));
        assert_eq!(runs.first(), Some(pieces[0]));
    }
}
