//! What stories need to be told to a running server: the binary, a server of one's own, a client, a cell, a demo.
//!
//! Nothing here links another room of the house. [`binary::forewright`] asks cargo for the real binary once,
//! [`Server`] starts it on a free port with a fresh data folder, [`Client`] speaks HTTP to it, [`FakeCell`] plays a
//! manufacturing cell by hand, and [`Demo`] starts, kills and reads demonstrations. A story with a server of its own:
//!
//! ```no_run
//! # async fn story() {
//! let server = tests::Server::start().await;
//! let cell = server.cell("c1").await;
//! cell.lease().await.expect_no_work();
//! # }
//! ```

pub mod binary;
mod cell;
mod client;
mod cluster;
mod cutting_proxy;
mod demo;
mod eventually;
pub mod postgres;
mod proxy;
pub mod remote_write;
mod rows;
mod seeded;
mod server;
pub mod sse;

pub use cell::{FakeCell, Lease, Leased};
pub use client::{Answer, Client};
pub use cluster::Cluster;
pub use cutting_proxy::{Cut, CuttingProxy};
pub use demo::{Demo, cmapss, files_of};
pub use eventually::eventually;
pub use proxy::Proxy;
pub use rows::Rows;
pub use seeded::Seeded;
pub use server::{Ordered, Server, digest, free_port};
