use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tensorlift::{Checkpoint, LoadOptions, Mode, Plan};

use crate::Target;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct ShowPlan {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    planning: Planning,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a plan depends on.
#[derive(Args)]
pub(crate) struct Planning {
    /// Copy the bytes into memory, or view a populated mapping of the file
    #[arg(long, env = "TENSORLIFT_MODE", value_enum, default_value_t = ModeArg::Copy)]
    mode: ModeArg,
    /// Unwanted bytes between two wanted ones that are read along
    #[arg(long, env = "TENSORLIFT_MERGE_GAP_BYTES")]
    merge_gap_bytes: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    Copy,
    Map,
}

impl ShowPlan {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let checkpoint = self.target.open()?;
        let plan = checkpoint
            .loader()
            .options(self.planning.options())
            .plan()?;
        if self.json {
            serde_json::to_writer(&mut *out, &plan)?;
            writeln!(out)?;
            return Ok(());
        }
        Ok(write_plan(out, &checkpoint, &plan)?)
    }
}

impl Planning {
    pub(crate) fn options(&self) -> LoadOptions {
        let options = LoadOptions::default().mode(match self.mode {
            ModeArg::Copy => Mode::Copy,
            ModeArg::Map => Mode::Map,
        });
        match self.merge_gap_bytes {
            Some(bytes) => options.merge_gap_bytes(bytes),
            None => options,
        }
    }
}

/// The plan, after the paths of the shards that it counts.
pub(crate) fn write_plan(
    out: &mut impl Write,
    checkpoint: &Checkpoint,
    plan: &Plan,
) -> io::Result<()> {
    for (shard, path) in checkpoint.files().enumerate() {
        writeln!(out, "shard {shard}: {}", path.display())?;
    }
    write!(out, "{plan}")
}
