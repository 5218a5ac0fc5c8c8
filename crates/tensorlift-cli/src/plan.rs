use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tensorlift::{Checkpoint, Dtype, DtypePolicy, LoadOptions, Mode, Plan};

use crate::Target;
use crate::device_map::DeviceMapArgs;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct ShowPlan {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    device_map: DeviceMapArgs,
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
    /// Convert tensors of F64, F32, F16 and BF16 to one of these; keep by default
    #[arg(long, env = "TENSORLIFT_DTYPE", default_value = "keep", value_parser = dtype_policy)]
    dtype: DtypePolicy,
}

fn dtype_policy(name: &str) -> Result<DtypePolicy, String> {
    let name = name.to_ascii_uppercase();
    match Dtype::from_name(&name) {
        Some(dtype @ (Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)) => {
            Ok(DtypePolicy::To(dtype))
        }
        _ if name == "KEEP" => Ok(DtypePolicy::Keep),
        _ => Err("expected keep, f64, f32, f16 or bf16".into()),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    Copy,
    Map,
}

impl ShowPlan {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let checkpoint = self.target.open()?;
        let options = self.planning.options();
        if let Some(map) = self.device_map.map(&checkpoint, &options.dtype)? {
            match self.json {
                true => serde_json::to_writer(&mut *out, &map)?,
                false => write!(out, "{map}")?,
            }
            return Ok(writeln!(out)?);
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

impl Planning {
    pub(crate) fn options(&self) -> LoadOptions {
        let options = LoadOptions::default().mode(match self.mode {
            ModeArg::Copy => Mode::Copy,
            ModeArg::Map => Mode::Map,
        });
        let options = options.dtype(self.dtype.clone());
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
