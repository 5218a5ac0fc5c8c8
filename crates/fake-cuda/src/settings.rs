//! What can be set, by environment (`FAKE_CUDA_MEMORY=...`) or by call, each a number.

/// How the double behaves; 0 and 1 stand for no and yes.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Devices.
    pub(crate) devices: u64,
    /// Memory of each device in bytes.
    pub(crate) memory: u64,
    /// Whether devices have memory pools.
    pub(crate) pools: u64,
    /// Up to twice this many microseconds pass before a copy runs.
    pub(crate) copy_delay_us: u64,
    /// Whether waiting for events is left out, as careless code would.
    pub(crate) skip_waits: u64,
    /// Whether batched copies are known.
    pub(crate) batch: u64,
    /// Whether host memory can be registered.
    pub(crate) host_register: u64,
    /// The most bytes of host memory that can be registered.
    pub(crate) register_most: u64,
    /// The driver's version.
    pub(crate) version: u64,
    /// The kinds of storage that cuFile claims to reach directly, as bits.
    pub(crate) cufile_storages: u64,
    /// The code with which opening cuFile fails; 0: it does not.
    pub(crate) cufile_open_error: u64,
    /// The code with which registering a file fails.
    pub(crate) cufile_register_error: u64,
    /// The code with which reads fail ...
    pub(crate) cufile_read_error: u64,
    /// ... after this many that went well.
    pub(crate) cufile_good_reads: u64,
    /// From this read on (counted from 1) the bytes are wrong; 0: never.
    pub(crate) cufile_wrong_from: u64,
    /// The most bytes of one read; 0: no bound.
    pub(crate) cufile_most: u64,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        let mut settings = Self {
            devices: 1,
            memory: 1 << 30,
            pools: 1,
            copy_delay_us: 0,
            skip_waits: 0,
            batch: 1,
            host_register: 1,
            register_most: u64::MAX,
            version: 13_000,
            cufile_storages: 1 << 4,
            cufile_open_error: 0,
            cufile_register_error: 0,
            cufile_read_error: 0,
            cufile_good_reads: 0,
            cufile_wrong_from: 0,
            cufile_most: 0,
        };
        for (name, value) in std::env::vars() {
            let Some(name) = name.strip_prefix("FAKE_CUDA_") else {
                continue;
            };
            if let (Some(field), Ok(value)) = (settings.field(&name.to_lowercase()), value.parse())
            {
                *field = value;
            }
        }
        settings
    }

    pub(crate) fn field(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "devices" => &mut self.devices,
            "memory" => &mut self.memory,
            "pools" => &mut self.pools,
            "copy_delay_us" => &mut self.copy_delay_us,
            "skip_waits" => &mut self.skip_waits,
            "batch" => &mut self.batch,
            "host_register" => &mut self.host_register,
            "register_most" => &mut self.register_most,
            "version" => &mut self.version,
            "cufile_storages" => &mut self.cufile_storages,
            "cufile_open_error" => &mut self.cufile_open_error,
            "cufile_register_error" => &mut self.cufile_register_error,
            "cufile_read_error" => &mut self.cufile_read_error,
            "cufile_good_reads" => &mut self.cufile_good_reads,
            "cufile_wrong_from" => &mut self.cufile_wrong_from,
            "cufile_most" => &mut self.cufile_most,
            _ => return None,
        })
    }
}
