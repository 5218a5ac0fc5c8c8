//! Where `load` places tensors.

use serde::Serialize;
use tensorlift::settings::Settings;
use tensorlift::{Device, HostDevice, NullDevice, Placement};

/// A device, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    Host,
    /// Reads and discards, to measure storage.
    Null,
    /// A GPU if there is one, otherwise the host.
    Auto,
    Cuda(usize),
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
    /// The device that the settings name; host memory by default.
    pub(crate) fn of(settings: &Settings) -> Self {
        match settings.device() {
            Some("null") => DeviceArg::Null,
            Some("auto") => DeviceArg::Auto,
            Some("cuda") => DeviceArg::Cuda(0),
            // The settings know no others than these and the host.
            other => {
                let number = other.and_then(|name| name.strip_prefix("cuda:"));
                let number = number.and_then(|number| number.parse().ok());
                number.map_or(DeviceArg::Host, DeviceArg::Cuda)
            }
        }
    }

    /// Names the device: before files are opened, so that a driver starts meanwhile.
    pub(crate) fn name(&self, gds: Option<bool>) -> tensorlift::Result<Named> {
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

/// What the start of a device took.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Started {
    /// The device, as loads name it.
    pub(crate) device: String,
    /// The name of the model.
    pub(crate) model: String,
    /// Starting the driver, in seconds, beside other work.
    pub(crate) start_seconds: f64,
    /// Making the lanes, in seconds: pinning memory, streams and events.
    pub(crate) pinning_seconds: f64,
    /// Bytes of their slots.
    pub(crate) pinned_bytes: u64,
    /// How many lanes were made.
    pub(crate) lanes: usize,
}

impl Named {
    /// The placement of everything on this device.
    pub(crate) fn placement(&self) -> Placement {
        match self {
            #[cfg(feature = "cuda")]
            Named::Cuda {
                device,
                or_host: true,
            } => match device.wait() {
                Ok(()) => Placement::on(device.clone()),
                Err(error) => {
                    tracing::warn!("loading to the host: {error}");
                    Placement::on(HostDevice::new())
                }
            },
            Named::Host => Placement::on(HostDevice::new()),
            Named::Null => Placement::on(NullDevice),
            #[cfg(feature = "cuda")]
            Named::Cuda { device, .. } => Placement::on(device.clone()),
        }
    }

    /// The device alone, which may not have started.
    pub(crate) fn device(&self) -> Box<dyn Device> {
        match self {
            Named::Host => Box::new(HostDevice::new()),
            Named::Null => Box::new(NullDevice),
            #[cfg(feature = "cuda")]
            Named::Cuda { device, .. } => Box::new(device.clone()),
        }
    }

    /// Whether it is host memory.
    pub(crate) const fn is_host(&self) -> bool {
        matches!(self, Named::Host)
    }

    /// Whether bytes reach it through slots.
    pub(crate) const fn is_staged(&self) -> bool {
        !matches!(self, Named::Host | Named::Null)
    }

    /// What its start took, where there is one: waits for it.
    pub(crate) fn started(&self) -> tensorlift::Result<Option<Started>> {
        match self {
            Named::Host | Named::Null => Ok(None),
            #[cfg(feature = "cuda")]
            Named::Cuda { device, .. } => {
                let report = device.report()?;
                Ok(Some(Started {
                    device: report.device,
                    model: report.model,
                    start_seconds: report.opening.as_secs_f64(),
                    pinning_seconds: report.pinning.as_secs_f64(),
                    pinned_bytes: report.pinned_bytes,
                    lanes: report.lanes,
                }))
            }
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
fn cuda(ordinal: usize, gds: Option<bool>, or_host: bool) -> tensorlift::Result<Named> {
    use tensorlift::cuda::{CudaDevice, Gds};

    let gds = match gds {
        None => Gds::Auto,
        Some(true) => Gds::On,
        Some(false) => Gds::Off,
    };
    let device = CudaDevice::options(ordinal).gds(gds).build()?;
    Ok(Named::Cuda { device, or_host })
}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize, _gds: Option<bool>, _or_host: bool) -> tensorlift::Result<Named> {
    let found = format!("cuda:{ordinal} was asked for, and this program was built without CUDA");
    Err(
        tensorlift::Error::new(tensorlift::ErrorKind::Unsupported, found)
            .with_remedy("build it with its default features"),
    )
}
