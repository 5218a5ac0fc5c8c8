//! What the calls of a load cost on a GPU, and how long a load takes by that.
//!
//! The table is of one H100 on PCIe 5 with 16 cores (2026-11-26, driver 580, CUDA 13.0). Calls
//! that were not measured there are assumed, and say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A call of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The thread that made it, by a number of its own.
    pub thread: u64,
    /// Its name in the driver.
    pub name: String,
    /// The bytes that it copies, pins or allocates.
    pub bytes: u64,
}

/// What a call costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    per_byte: f64,
}

/// The costs of calls and of bytes.
#[derive(Clone, Debug)]
pub struct Costs {
    calls: BTreeMap<&'static str, Cost>,
    /// Bytes per second over the bus, once a copy runs.
    bus: f64,
    /// Seconds by which a copy is longer than its bytes.
    copy: f64,
    /// Bytes per second that one of 16 readers brings from a tmpfs into its slots.
    reader: f64,
}

/// What the critical path of a load comes to, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Until the driver has started.
    pub start: f64,
    /// Until the last copy has arrived.
    pub total: f64,
}

impl Call {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            thread: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
        })
    }
}

impl Costs {
    /// Those of the H100.
    #[must_use]
    pub fn h100() -> Self {
        let fixed = |seconds| Cost {
            seconds,
            per_byte: 0.0,
        };
        let calls = [
            ("cuInit", fixed(0.103)),
            ("cuDevicePrimaryCtxRetain", fixed(0.130)),
            ("cuStreamCreate", fixed(20e-6)),
            ("cuMemAlloc_v2", fixed(0.2e-3)),
            ("cuMemFree_v2", fixed(0.3e-3)),
            ("cuMemAllocAsync", fixed(6e-3)),
            ("cuFileDriverOpen", fixed(0.38)),
            // 16 MiB 3.1 ms, 64 MiB 5.2: the line through both, as no load pins more.
            (
                "cuMemHostRegister_v2",
                Cost {
                    seconds: 2.4e-3,
                    per_byte: 2.8e-3 / f64::from(64 << 20),
                },
            ),
            (
                "cuMemHostAlloc",
                Cost {
                    seconds: 0.0,
                    per_byte: 0.5e-9,
                },
            ),
            // Not measured one by one; assumed.
            ("cuMemcpyHtoDAsync_v2", fixed(5e-6)),
            ("cuMemcpyBatchAsync_v2", fixed(10e-6)),
            ("cuEventRecord", fixed(2e-6)),
            ("cuEventSynchronize", fixed(5e-6)),
            ("cuEventCreate", fixed(2e-6)),
            ("cuMemGetInfo_v2", fixed(0.5e-3)),
            ("cuStreamSynchronize", fixed(5e-6)),
            ("cuCtxGetCurrent", fixed(0.1e-6)),
            ("cuCtxSetCurrent", fixed(0.3e-6)),
            ("cuDeviceGet", fixed(1e-6)),
            ("cuDeviceGetCount", fixed(1e-6)),
            ("cuDeviceGetName", fixed(1e-6)),
        ];
        Self {
            calls: calls.into_iter().collect(),
            bus: 54.7e9,
            // 256 KiB came at 35 GB/s.
            copy: 2.7e-6,
            // 71 GB/s with 16 threads and chunks of 1 to 2 MiB.
            reader: 71e9 / 16.0,
        }
    }

    /// The critical path of a load by `readers` threads, each on a core of its own; one byte counts
    /// as `scale` bytes.
    ///
    /// Threads that copy are readers; their chunks are given to whichever reader is free first, as
    /// on a machine with the cores, in place of the threads that this machine happened to run, and
    /// what readers call beside the copies is spread over the chunks. A reader reads a chunk's
    /// bytes, then begins its copy; it has two slots, so it waits for the copy before the last;
    /// copies share the bus. All other calls come one after another.
    ///
    /// # Panics
    /// For a call that has no price.
    #[must_use]
    pub fn path(&self, log: &[Call], readers: usize, scale: u64) -> Path {
        let is_copy = |call: &&Call| call.name.starts_with("cuMemcpy");
        let reading: BTreeSet<u64> = log.iter().filter(is_copy).map(|call| call.thread).collect();
        let (chunks, rest): (Vec<&Call>, Vec<&Call>) = log.iter().partition(is_copy);
        let (beside, alone): (Vec<&Call>, Vec<&Call>) = rest
            .into_iter()
            .partition(|call| reading.contains(&call.thread));
        let price = |calls: &[&Call]| {
            calls
                .iter()
                .map(|call| self.price(call, scale))
                .sum::<f64>()
        };
        let is_start = |call: &&Call| call.name == "cuDevicePrimaryCtxRetain";
        let started = alone.iter().position(is_start);
        let start = price(&alone[..started.map_or(0, |last| last + 1)]);
        let begins = price(&alone);
        let each = price(&beside) / chunks.len().max(1) as f64;
        let mut clocks = vec![(begins, VecDeque::from([begins, begins])); readers];
        let mut bus = begins;
        for chunk in chunks {
            let free = clocks
                .iter_mut()
                .min_by(|one, other| one.0.total_cmp(&other.0));
            let Some((clock, slots)) = free else { break };
            let bytes = (chunk.bytes * scale) as f64;
            *clock = clock.max(slots.pop_front().unwrap_or(begins));
            *clock += each + self.price(chunk, scale) + bytes / self.reader;
            bus = bus.max(*clock) + self.copy + bytes / self.bus;
            slots.push_back(bus);
        }
        Path { start, total: bus }
    }

    fn price(&self, call: &Call, scale: u64) -> f64 {
        let price = self.calls.get(call.name.as_str());
        let price = price.unwrap_or_else(|| panic!("{} has no price", call.name));
        price.seconds + price.per_byte * (call.bytes * scale) as f64
    }
}
