use std::io::Write;

use clap::Args;
use tensorlift::Plan;

use crate::Target;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct ShowPlan {
    #[command(flatten)]
    target: Target,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl ShowPlan {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let checkpoint = self.target.open()?;
        let plan: Plan = checkpoint.loader().plan()?;
        if self.json {
            serde_json::to_writer(&mut *out, &plan)?;
            writeln!(out)?;
            return Ok(());
        }
        for (shard, path) in checkpoint.files().enumerate() {
            writeln!(out, "shard {shard}: {}", path.display())?;
        }
        write!(out, "{plan}")?;
        Ok(())
    }
}
