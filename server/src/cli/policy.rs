//! x
/// x
#[derive(Debug, clap::Subcommand)]
pub enum Policy {}
impl Policy {
    /// x
    pub fn run(self) -> anyhow::Result<()> {
        match self {}
    }
}
