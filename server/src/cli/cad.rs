//! x
/// x
#[derive(Debug, clap::Subcommand)]
pub enum Cad {}
impl Cad {
    /// x
    pub fn run(self) -> anyhow::Result<()> {
        match self {}
    }
}
