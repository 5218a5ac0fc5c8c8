//! Which device each tensor would go to.

use std::sync::Arc;

use clap::Args;
use tensorlift::{
    Checkpoint, DeviceMap, DeviceMapOptions, DeviceMemory, Division, DtypePolicy, Error, ErrorKind,
    Pattern, free_memory,
};

use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct DeviceMapArgs {
    /// Show which tensors go to which device, instead of the plan; fails if they do not fit:
    /// auto (evenly over the GPUs if they are enough, then the host), balanced, sequential, or
    /// PATTERN=DEVICE, by commas, where the pattern with the most literal characters decides
    #[arg(long, value_name = "MAP")]
    device_map: Option<String>,
    /// The most bytes of tensors on a device, by commas, as in 0=10GiB,cpu=30GiB; by default, the
    /// GPUs and the host with what they have free
    #[arg(
        long,
        value_name = "DEVICE=SIZE",
        requires = "device_map",
        value_delimiter = ','
    )]
    max_memory: Vec<String>,
    /// Keep modules whose names match on one device, by commas; layers always are
    #[arg(
        long,
        value_name = "PATTERN",
        requires = "device_map",
        value_delimiter = ','
    )]
    no_split: Vec<String>,
}

impl DeviceMapArgs {
    /// The map, if one was asked for.
    pub(crate) fn map(
        &self,
        checkpoint: &Checkpoint,
        dtype: &DtypePolicy,
    ) -> Result<Option<DeviceMap>, Failure> {
        let Some(map) = &self.device_map else {
            return Ok(None);
        };
        let mut options = rules(map).map_err(Failure::Usage)?;
        for pattern in &self.no_split {
            options = options.unsplit(pattern.as_str());
        }
        let catalog = Arc::clone(checkpoint.catalog());
        let casts = dtype.casts(&catalog)?;
        options = options.bytes_of(move |entry| {
            let dtype = casts.of_entry(&catalog, entry);
            let is_converted = dtype != entry.dtype();
            is_converted.then(|| entry.layout().span_bytes(dtype).unwrap_or(u64::MAX))
        });
        let memory = self.memory().map_err(Failure::Usage)?;
        Ok(Some(DeviceMap::new(
            checkpoint.catalog(),
            &memory,
            &options,
        )?))
    }

    fn memory(&self) -> tensorlift::Result<Vec<DeviceMemory>> {
        if self.max_memory.is_empty() {
            return Ok(free_memory());
        }
        self.max_memory
            .iter()
            .map(|memory| memory.parse())
            .collect()
    }
}

fn rules(map: &str) -> tensorlift::Result<DeviceMapOptions> {
    let options = DeviceMapOptions::default();
    let division = match map {
        "auto" => Division::Auto,
        "balanced" => Division::Balanced,
        "sequential" => Division::Sequential,
        _ => {
            return map.split(',').try_fold(options, |options, rule| {
                let (pattern, device) = rule.rsplit_once('=').ok_or_else(|| {
                    let found = format!("expected PATTERN=DEVICE, found {rule:?}");
                    Error::new(ErrorKind::Misuse, found)
                        .with_remedy("or say auto, balanced or sequential")
                })?;
                Ok(options.fix(Pattern::new(pattern), device.parse()?))
            });
        }
    };
    Ok(options.division(division))
}
