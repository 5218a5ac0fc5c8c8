//! Where `load` places tensors.

use clap::ValueEnum;
use tensorlift::{Error, HostDevice, NullDevice, Placement};

/// A device, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    Host,
    /// Reads and throws away: what storage alone can do.
    Null,
    /// A GPU if there is one, otherwise the host.
    Auto,
    Cuda(usize),
}

/// Whether GPUDirect Storage is used.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GdsArg {
    /// Where it works
    Auto,
    /// Tried even where the driver says it would not be used
    On,
    /// Not at all
    Off,
}

impl std::str::FromStr for DeviceArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "host" | "cpu" => Ok(DeviceArg::Host),
            "null" => Ok(DeviceArg::Null),
            "auto" => Ok(DeviceArg::Auto),
            "cuda" => Ok(DeviceArg::Cuda(0)),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(DeviceArg::Cuda)
                .ok_or_else(|| format!("expected host, cuda:N, auto or null, found {name:?}")),
        }
    }
}

impl DeviceArg {
    /// The placement of everything on this device.
    pub(crate) fn placement(&self, gds: GdsArg) -> tensorlift::Result<Placement> {
        match self {
            DeviceArg::Host => Ok(Placement::on(HostDevice::new())),
            DeviceArg::Null => Ok(Placement::on(NullDevice)),
            DeviceArg::Cuda(ordinal) => cuda(*ordinal, gds),
            DeviceArg::Auto => Ok(cuda(0, gds).unwrap_or_else(|error| {
                tracing::warn!("loading to the host: {error}");
                Placement::on(HostDevice::new())
            })),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize, gds: GdsArg) -> tensorlift::Result<Placement> {
    use tensorlift::cuda::{CudaDevice, Gds};

    let gds = match gds {
        GdsArg::Auto => Gds::Auto,
        GdsArg::On => Gds::On,
        GdsArg::Off => Gds::Off,
    };
    let device = CudaDevice::options(ordinal)
        .gds(gds)
        .build()
        .map_err(Error::from)?;
    let report = device.report();
    tracing::info!("{report}");
    if let (Gds::On, Err(reason)) = (gds, &report.gds) {
        tracing::warn!("no GPUDirect Storage: {reason}");
    }
    Ok(Placement::on(device))
}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize, _gds: GdsArg) -> tensorlift::Result<Placement> {
    let found = format!("cuda:{ordinal} was asked for, and this program was built without CUDA");
    Err(Error::new(tensorlift::ErrorKind::Unsupported, found)
        .with_remedy("build it with `--features cuda`"))
}
