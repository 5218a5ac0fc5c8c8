//! What is measured: settings of loads, and what they are held against.

use std::collections::BTreeMap;

use serde::Serialize;
use tensorlift::settings::{SWITCHES, Settings};
use tensorlift::{Mode, Result};
use tensorlift_storage::measure::RawReads;

use super::Start;
use crate::device::Named;

/// Numbers of threads that are tried.
const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
/// Bytes of one read that are tried; loads take 4 MiB unless told otherwise.
const CHUNKS: [(u64, &str); 3] = [(1 << 20, "1MiB"), (16 << 20, "16MiB"), (64 << 20, "64MiB")];
/// Threads of raw reads that are tried, and their bytes of one read.
const RAW_THREADS: [usize; 4] = [2, 4, 8, 16];
const RAW_CHUNK: usize = 4 << 20;

/// In what a candidate differs from the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// In nothing.
    Defaults,
    Reader,
    /// A mapping: no memory of its own, so that it is no substitute for the others.
    Mapping,
    Threads,
    Chunk,
    /// In what was best of several axes.
    Together,
    /// It is no load, and nothing to choose.
    Limit,
}

/// Something to measure.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) axis: Axis,
    pub(super) work: Work,
    /// What it sets, by the names of the settings.
    pub(super) set: BTreeMap<&'static str, String>,
}

/// What is done to measure it.
#[derive(Clone)]
pub(super) enum Work {
    /// A load by these settings.
    Load(Box<Settings>),
    /// Parallel reads of the whole files into host memory.
    Raw(RawReads),
    /// Reads into the slots of a device, and copies, with nothing planned.
    Pipeline,
    /// Copies from the slots of a device alone.
    Copies,
}

/// The name of the work, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkKind {
    /// A load.
    Load,
    /// Parallel reads of the whole files into host memory, with nothing looked at.
    Raw,
    /// Reads into the slots of the device, and copies, with nothing planned.
    Pipeline,
    /// Copies from the slots of the device alone.
    Copies,
}

impl Candidate {
    fn limit(work: Work, set: BTreeMap<&'static str, String>) -> Self {
        let axis = Axis::Limit;
        Self { axis, work, set }
    }

    /// A load that differs from the settings in one.
    fn load(axis: Axis, settings: &Settings, name: &'static str, value: &str) -> Result<Self> {
        let settings = settings.clone().with([(name, value, name)])?;
        Ok(Self {
            axis,
            work: Work::Load(Box::new(settings)),
            set: BTreeMap::from([(name, value.to_owned())]),
        })
    }

    /// What several set, if that is more than one of them does.
    pub(super) fn together(several: &[&Self]) -> Result<Option<Self>> {
        let mut set = BTreeMap::new();
        let mut joined: Option<Settings> = None;
        for candidate in several {
            let Work::Load(settings) = &candidate.work else {
                continue;
            };
            set.extend(candidate.set.clone());
            let given = candidate.set.iter();
            let given = given.map(|(name, value)| (*name, value.as_str(), *name));
            joined = Some(match joined {
                None => (**settings).clone(),
                Some(before) => before.with(given)?,
            });
        }
        Ok(joined.filter(|_| set.len() > 1).map(|settings| Self {
            axis: Axis::Together,
            work: Work::Load(Box::new(settings)),
            set,
        }))
    }

    /// What people are shown.
    pub(super) fn name(&self) -> String {
        let set = options(&self.set);
        match (self.kind(), self.axis) {
            (_, Axis::Defaults) => "defaults".to_owned(),
            (WorkKind::Load, _) => set,
            (WorkKind::Raw, _) => {
                let values: Vec<&str> = self.set.values().map(String::as_str).collect();
                format!("raw reads, {} threads", values.join(", "))
            }
            (WorkKind::Pipeline, _) => "bare pipeline".to_owned(),
            (WorkKind::Copies, _) => "copies alone".to_owned(),
        }
    }

    pub(super) const fn kind(&self) -> WorkKind {
        match self.work {
            Work::Load(..) => WorkKind::Load,
            Work::Raw(_) => WorkKind::Raw,
            Work::Pipeline => WorkKind::Pipeline,
            Work::Copies => WorkKind::Copies,
        }
    }
}

/// All candidates: the defaults first, then one setting changed at a time, without those that
/// the caller has fixed, then the limits. `fits` says whether memory holds the whole files.
pub(super) fn all(
    settings: &Settings,
    device: &Named,
    start: Start,
    bytes: u64,
    fits: bool,
) -> Result<Vec<Candidate>> {
    let is_free = |name: &str| settings.in_force().iter().all(|it| it.name != name);
    let mut all = vec![Candidate {
        axis: Axis::Defaults,
        work: Work::Load(Box::new(settings.clone())),
        set: BTreeMap::new(),
    }];
    let mut add = |axis, name, value: &str| -> Result<()> {
        all.push(Candidate::load(axis, settings, name, value)?);
        Ok(())
    };
    let maps = settings.options().mode == Mode::Map;
    if is_free("reader") && !maps {
        for reader in ["buffered", "direct", "uring"] {
            add(Axis::Reader, "reader", reader)?;
        }
    }
    if is_free("mode") && is_free("reader") && device.is_host() {
        add(Axis::Mapping, "mode", "map")?;
    }
    if is_free("threads") {
        for threads in THREADS {
            add(Axis::Threads, "threads", &threads.to_string())?;
        }
    }
    if is_free("chunk-bytes") {
        for (_, size) in CHUNKS.iter().filter(|(chunk, _)| *chunk < bytes) {
            add(Axis::Chunk, "chunk-bytes", size)?;
        }
    }
    all.extend(limits(device, start, fits));
    Ok(all)
}

fn limits(device: &Named, start: Start, fits: bool) -> Vec<Candidate> {
    let mut all = Vec::new();
    for threads in RAW_THREADS {
        let reads = RawReads::new(threads, RAW_CHUNK);
        let named = |reader: &str| {
            let threads = ("threads", threads.to_string());
            BTreeMap::from([("reader", reader.to_owned()), threads])
        };
        if !fits {
            break;
        }
        all.push(Candidate::limit(Work::Raw(reads), named("buffered")));
        if start == Start::Cold {
            all.push(Candidate::limit(Work::Raw(reads.direct()), named("direct")));
        }
    }
    if device.is_staged() {
        all.push(Candidate::limit(Work::Pipeline, BTreeMap::new()));
        if start == Start::Warm {
            all.push(Candidate::limit(Work::Copies, BTreeMap::new()));
        }
    }
    all
}

/// Settings as options of a command line: `--reader direct --threads 8`.
pub(super) fn options(set: &BTreeMap<&'static str, String>) -> String {
    let options: Vec<String> = set
        .iter()
        .map(|(name, value)| format!("--{name} {value}"))
        .collect();
    options.join(" ")
}

/// Settings as environment variables: `TENSORLIFT_READER=direct TENSORLIFT_THREADS=8`.
pub(super) fn variables(set: &BTreeMap<&'static str, String>) -> String {
    let switch = |name: &str| SWITCHES.iter().find(|switch| switch.name == name);
    let variables: Vec<String> = set
        .iter()
        .filter_map(|(name, value)| Some(format!("{}={value}", switch(name)?.variable())))
        .collect();
    variables.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(all: &[Candidate]) -> Vec<(Axis, String)> {
        let of = |it: &Candidate| (it.axis, options(&it.set));
        all.iter().map(of).collect()
    }

    #[test]
    fn what_the_caller_fixes_is_not_tried() {
        let settings = Settings::default();
        let free = all(&settings, &Named::Host, Start::Warm, 1 << 30, true).unwrap();
        let free = axes(&free);
        assert_eq!(free[0], (Axis::Defaults, String::new()));
        for option in [
            "--reader direct",
            "--mode map",
            "--threads 16",
            "--chunk-bytes 64MiB",
        ] {
            assert!(free.iter().any(|(_, set)| set == option), "{option}");
        }
        let fixed = [
            ("reader", "direct", "--reader"),
            ("threads", "3", "--threads"),
        ];
        let fixed = settings.with(fixed).unwrap();
        let fixed = all(&fixed, &Named::Host, Start::Warm, 2 << 20, false).unwrap();
        let expected = [
            (Axis::Defaults, String::new()),
            (Axis::Chunk, "--chunk-bytes 1MiB".to_owned()),
        ];
        assert_eq!(axes(&fixed), expected);
    }

    #[test]
    fn winners_of_several_axes_are_set_together() {
        let settings = Settings::default();
        let load = |axis, name, value| Candidate::load(axis, &settings, name, value).unwrap();
        let threads = load(Axis::Threads, "threads", "8");
        let chunk = load(Axis::Chunk, "chunk-bytes", "16MiB");
        assert!(Candidate::together(&[&threads]).unwrap().is_none());
        let both = Candidate::together(&[&threads, &chunk]).unwrap().unwrap();
        assert_eq!(options(&both.set), "--chunk-bytes 16MiB --threads 8");
        let expected = "TENSORLIFT_CHUNK_BYTES=16MiB TENSORLIFT_THREADS=8";
        assert_eq!(variables(&both.set), expected);
        let Work::Load(settings) = both.work else {
            panic!("it is a load");
        };
        let options = settings.options();
        assert_eq!(
            (options.read_threads, options.chunk_bytes),
            (Some(8), 16 << 20)
        );
    }
}
