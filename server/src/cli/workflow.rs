//! x
/// x
#[derive(Debug, clap::Subcommand)]
pub enum Workflow {}
impl Workflow {
    /// x
    pub fn run(self) -> anyhow::Result<()> {
        match self {}
    }
}
