//! x
/// x
#[derive(Debug, clap::Subcommand)]
pub enum Predict {}
impl Predict {
    /// x
    pub fn run(self) -> anyhow::Result<()> {
        match self {}
    }
}
