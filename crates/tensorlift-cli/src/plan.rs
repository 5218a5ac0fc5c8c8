use std::io::{self, Write};

use clap::Args;
use tensorlift::{Checkpoint, Plan};

use crate::Target;
use crate::device_map::DeviceMapArgs;
use crate::failure::Failure;
use crate::settings::SettingArgs;
use crate::table::printable;

#[derive(Args)]
pub(crate) struct ShowPlan {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    settings: SettingArgs<true>,
    #[command(flatten)]
    device_map: DeviceMapArgs,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl ShowPlan {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let settings = self.settings.settings()?;
        let checkpoint = self.target.open_by(&settings)?;
        let options = settings.options();
        if let Some(map) = self.device_map.map(&checkpoint, &options.dtype)? {
            match self.json {
                true => {
                    serde_json::to_writer(&mut *out, &map)?;
                    writeln!(out)?;
                }
                false => write!(out, "{map}")?,
            }
            return Ok(());
        }
        let plan = checkpoint.loader().options(options).plan()?;
        if self.json {
            serde_json::to_writer(&mut *out, &plan)?;
            writeln!(out)?;
            return Ok(());
        }
        Ok(write_plan(out, &checkpoint, &plan)?)
    }
}

/// The plan, after the paths of the shards that it counts.
pub(crate) fn write_plan(
    out: &mut impl Write,
    checkpoint: &Checkpoint,
    plan: &Plan,
) -> io::Result<()> {
    for (shard, path) in checkpoint.files().enumerate() {
        let path = printable(&path.display().to_string());
        writeln!(out, "shard {shard}: {path}")?;
    }
    write!(out, "{plan}")
}
