//! Passing on tensors while others are read.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Extent, Source};

use crate::control::Control;
use crate::execute::execute;
use crate::hash::HashRange;
use crate::loaded::Loaded;
use crate::options::LoadOptions;
use crate::placement::Placement;
use crate::plan::plan_positions;
use crate::report::LoadReport;
use crate::shard::Shard;
use crate::tensor::Tensor;

/// Loads units of tensors and passes each on as soon as its bytes have arrived, in the order of the
/// files.
///
/// `unit_of` returns a key for the tensors that are passed on together, such as those of a layer,
/// and `None` for tensors to skip. While `handle` works on one unit, on the calling thread, the
/// next ones are
/// read. Tensors that are read and not handled yet take up to [`LoadOptions::window_bytes`], or as
/// much as the largest unit; those that `handle` keeps are not counted.
///
/// # Errors
/// The first error of `handle`, or of a load as [`execute`](crate::execute()) reports it; units
/// that were passed on before are complete. [`ErrorKind::Misuse`] if bytes are to be hashed that
/// are not those of a tensor: their hash is known only after tensors were passed on.
pub fn load_each<K: Eq + Hash>(
    catalog: &Arc<Catalog>,
    shards: &[Shard],
    placement: &Placement,
    unit_of: impl Fn(&Entry) -> Option<K>,
    options: &LoadOptions,
    control: &Control,
    mut handle: impl FnMut(Vec<Tensor>) -> Result<(), Error>,
) -> Result<LoadReport, Error> {
    check_hashes(catalog, &options.hashes)?;
    let batches = batches(units(catalog, unit_of), options.window_bytes / 2);
    let load = Load {
        catalog,
        shards,
        placement,
        options,
        control,
    };
    let mut report = LoadReport::default();
    let mut hand_on = |loaded: Result<Units, Error>| {
        let Units { tensors, of_batch } = loaded?;
        report.add(of_batch);
        tensors.into_iter().try_for_each(&mut handle)
    };
    let window = Window::new(options.window_bytes);
    thread::scope(|scope| {
        // One batch waits while the next is read.
        let (sender, receiver) = sync_channel(0);
        let (load, batches, window) = (&load, &batches[..], &window);
        let ahead = move || load.read_ahead(batches, window, &sender);
        let started = thread::Builder::new().spawn_scoped(scope, ahead);
        match started {
            Ok(_) => window.receive(receiver, &mut hand_on),
            // If the system refuses a thread, one batch follows the other.
            Err(_) => batches
                .iter()
                .try_for_each(|batch| hand_on(load.read(batch))),
        }
    })?;
    Ok(report)
}

/// Positions of entries that are passed on together, and their bytes.
struct TensorUnit {
    entries: Vec<usize>,
    bytes: u64,
}

/// Units that are read together.
struct Batch {
    units: Vec<TensorUnit>,
    bytes: u64,
}

/// The tensors of each unit of a batch.
struct Units {
    tensors: Vec<Vec<Tensor>>,
    of_batch: LoadReport,
}

/// All units, in the order in which the files hold their first bytes.
fn units<K: Eq + Hash>(
    catalog: &Catalog,
    unit_of: impl Fn(&Entry) -> Option<K>,
) -> Vec<TensorUnit> {
    let mut entries: Vec<(usize, &Entry)> = catalog.entries().iter().enumerate().collect();
    entries.sort_by_key(|(_, entry)| entry.extent());
    let (mut units, mut positions): (Vec<TensorUnit>, HashMap<K, usize>) = Default::default();
    for (position, entry) in entries {
        if let Source::Absent { .. } = catalog.record(entry).source {
            continue;
        }
        let Some(key) = unit_of(entry) else { continue };
        let index = *positions.entry(key).or_insert(units.len());
        if index == units.len() {
            units.push(TensorUnit {
                entries: Vec::new(),
                bytes: 0,
            });
        }
        units[index].entries.push(position);
        units[index].bytes += entry.span_bytes().min(entry.byte_len());
    }
    units
}

/// Units that follow each other, up to `most` bytes together.
fn batches(units: Vec<TensorUnit>, most: u64) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for unit in units {
        match batches.last_mut() {
            Some(batch) if batch.bytes + unit.bytes <= most => {
                batch.bytes += unit.bytes;
                batch.units.push(unit);
            }
            _ => batches.push(Batch {
                bytes: unit.bytes,
                units: vec![unit],
            }),
        }
    }
    batches
}

/// The arguments with which every batch is loaded.
struct Load<'a> {
    catalog: &'a Arc<Catalog>,
    shards: &'a [Shard],
    placement: &'a Placement,
    options: &'a LoadOptions,
    control: &'a Control,
}

impl Load<'_> {
    /// The hashes of the tensors that are wanted, by position.
    fn hashes_of(&self, wanted: &[bool]) -> Vec<HashRange> {
        let ranges = self.options.hashes.iter();
        if ranges.len() == 0 {
            return Vec::new();
        }
        let entries = self.catalog.entries().iter().zip(wanted);
        let wanted = entries.filter(|(_, wanted)| **wanted);
        let extents: HashSet<Extent> = wanted.map(|(entry, _)| entry.extent()).collect();
        ranges
            .filter(|range| extents.contains(&range.extent))
            .copied()
            .collect()
    }

    /// Reads batches as far ahead as the window allows, until the receiver is gone.
    fn read_ahead(
        &self,
        batches: &[Batch],
        window: &Window,
        sender: &SyncSender<(u64, Result<Units, Error>)>,
    ) {
        for batch in batches {
            if !window.take(batch.bytes) {
                return;
            }
            let read = self.read(batch);
            let failed = read.is_err();
            if sender.send((batch.bytes, read)).is_err() || failed {
                return;
            }
        }
    }

    fn read(&self, batch: &Batch) -> Result<Units, Error> {
        let mut wanted = vec![false; self.catalog.len()];
        for unit in &batch.units {
            unit.entries.iter().for_each(|entry| wanted[*entry] = true);
        }
        let assign = |position: usize, entry: &Entry| {
            wanted[position].then(|| self.placement.device_of(entry))
        };
        let rules = self.placement.rules();
        let plan = plan_positions(self.catalog, assign, &rules, self.options)?;
        let devices = self.placement.devices();
        let options = self.options.clone().hashes(self.hashes_of(&wanted));
        let filled = execute(
            &plan,
            self.catalog,
            self.shards,
            devices,
            &options,
            self.control,
        )?;
        let of_batch = filled.outcome.report(&plan, self.catalog);
        let catalog = Arc::clone(self.catalog);
        let loaded = Loaded::new(catalog, plan, filled, LoadReport::default());
        let tensors = loaded.into_iter();
        let mut by_entry: HashMap<usize, Tensor> =
            tensors.map(|tensor| (tensor.position(), tensor)).collect();
        let mut of_unit = |unit: &TensorUnit| -> Vec<Tensor> {
            let tensors = unit.entries.iter();
            tensors.filter_map(|entry| by_entry.remove(entry)).collect()
        };
        Ok(Units {
            tensors: batch.units.iter().map(&mut of_unit).collect(),
            of_batch,
        })
    }
}

/// Refuses hashes of other bytes than those of a tensor.
fn check_hashes(catalog: &Catalog, ranges: &[HashRange]) -> Result<(), Error> {
    if ranges.is_empty() {
        return Ok(());
    }
    let extents: HashSet<Extent> = catalog.entries().iter().map(Entry::extent).collect();
    match ranges.iter().find(|range| !extents.contains(&range.extent)) {
        None => Ok(()),
        Some(range) => {
            let found = "tensors are passed on before the whole file is hashed";
            Err(Error::new(ErrorKind::Misuse, found)
                .with_extent(range.extent)
                .with_remedy("give hashes of tensors, or load all tensors at once"))
        }
    }
}

/// The memory of tensors that are not handled yet.
struct Window {
    bytes: u64,
    state: Mutex<WindowUse>,
    changed: Condvar,
}

#[derive(Default)]
struct WindowUse {
    used: u64,
    closed: bool,
}

impl Window {
    fn new(bytes: u64) -> Self {
        Self {
            bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits until there is room, or the window is empty; false once it is closed.
    fn take(&self, bytes: u64) -> bool {
        let is_full = |state: &mut WindowUse| {
            let fits = state.used == 0 || state.used.saturating_add(bytes) <= self.bytes;
            !fits && !state.closed
        };
        let state = self.changed.wait_while(self.lock(), is_full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.used += bytes;
        !state.closed
    }

    /// Passes on received batches, until the end or an error.
    fn receive(
        &self,
        receiver: Receiver<(u64, Result<Units, Error>)>,
        mut hand_on: impl FnMut(Result<Units, Error>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let closing = Closing(self);
        for (bytes, units) in receiver {
            hand_on(units)?;
            closing.0.lock().used -= bytes;
            closing.0.changed.notify_one();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, WindowUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a window on drop, also where the caller's function panics, so that its reader ends.
struct Closing<'w>(&'w Window);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}
