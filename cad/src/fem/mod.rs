//! Linear elasticity on voxels: 8-node bricks, matrix-free, multigrid-preconditioned.

pub mod calculix;
pub mod element;
pub mod grid;
pub mod load;
pub mod model;
pub mod multigrid;
pub mod solve;
pub mod stress;
