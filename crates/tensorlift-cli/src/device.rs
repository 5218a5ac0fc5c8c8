//! Where `load` places tensors.

use clap::ValueEnum;
use tensorlift::{HostDevice, NullDevice, Placement};

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
    /// Where it can pay: large loads from file systems that support it
    Auto,
    /// Tried for every file; opening cuFile takes about half a second
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

/// A device that was named; where it is a GPU, the driver is starting.
pub(crate) enum Named {
    Host,
    Null,
    #[cfg(feature = "cuda")]
    Cuda {
        device: tensorlift::cuda::CudaDevice,
        /// Whether the host takes its place if it does not start.
        or_host: bool,
    },
}

impl DeviceArg {
    /// Names the device: before files are opened, so that a driver starts meanwhile.
    pub(crate) fn name(&self, gds: GdsArg) -> tensorlift::Result<Named> {
        match self {
            DeviceArg::Host => Ok(Named::Host),
            DeviceArg::Null => Ok(Named::Null),
            DeviceArg::Cuda(ordinal) => cuda(*ordinal, gds, false),
            DeviceArg::Auto => Ok(cuda(0, gds, true).unwrap_or_else(|error| {
                tracing::warn!("loading to the host: {error}");
                Named::Host
            })),
        }
    }
}

impl Named {
    /// The placement of everything on this device.
    pub(crate) fn placement(&self) -> Placement {
        match self {
            Named::Host => Placement::on(HostDevice::new()),
            Named::Null => Placement::on(NullDevice),
            #[cfg(feature = "cuda")]
            Named::Cuda { device, or_host } => match device.wait() {
                Err(error) if *or_host => {
                    tracing::warn!("loading to the host: {error}");
                    Placement::on(HostDevice::new())
                }
                // Otherwise the load tells the error.
                _ => Placement::on(device.clone()),
            },
        }
    }

    /// Logs what a load has found of the device.
    pub(crate) fn log(&self) {
        #[cfg(feature = "cuda")]
        if let Named::Cuda { device, .. } = self
            && let Ok(report) = device.report()
        {
            tracing::info!("{report}");
            if let tensorlift::cuda::GdsReport::Refused { .. } = report.gds {
                tracing::warn!("{}", report.gds);
            }
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize, gds: GdsArg, or_host: bool) -> tensorlift::Result<Named> {
    use tensorlift::cuda::{CudaDevice, Gds};

    let gds = match gds {
        GdsArg::Auto => Gds::Auto,
        GdsArg::On => Gds::On,
        GdsArg::Off => Gds::Off,
    };
    let device = CudaDevice::options(ordinal).gds(gds).build()?;
    Ok(Named::Cuda { device, or_host })
}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize, _gds: GdsArg, _or_host: bool) -> tensorlift::Result<Named> {
    let found = format!("cuda:{ordinal} was asked for, and this program was built without CUDA");
    Err(
        tensorlift::Error::new(tensorlift::ErrorKind::Unsupported, found)
            .with_remedy("build it with its default features"),
    )
}
