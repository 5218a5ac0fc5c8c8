//! Loading into memory that the caller holds.

use std::collections::{HashMap, HashSet};
use std::fmt;

use bytemuck::Pod;
use tensorlift_device::{Destination, DeviceError, Group, GroupRules};
use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Error, ErrorKind, Source};

use crate::control::Control;
use crate::dtype::Casts;
use crate::element::Element;
use crate::execute::fill;
use crate::options::{LoadOptions, Mode};
use crate::plan::{Plan, plan};
use crate::report::{LoadReport, plural};
use crate::shard::Shard;

/// Names or faults that an error lists before it counts the rest.
const LISTED: usize = 10;

/// The memory of one parameter: exactly as long as the tensor's elements, in row-major order.
pub struct ParameterMemory<'d> {
    memory: Memory<'d>,
    /// The dtype of its elements, unless it is plain bytes.
    dtype: Option<Dtype>,
}

enum Memory<'d> {
    Host(&'d mut [u8]),
    Group(&'d mut dyn Group),
}

/// The names that [`load_into`] did not match, and its report.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "missing parameters were not filled"]
pub struct LoadedInto {
    /// Parameters that the checkpoint does not have; their memory is unchanged.
    pub missing: Vec<String>,
    /// Selected tensors of the checkpoint for which there was no parameter.
    pub unexpected: Vec<String>,
    /// How the load ran.
    pub report: LoadReport,
}

/// Why parameters were not filled, and which of them may have changed.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadIntoError {
    /// The failure.
    pub error: Error,
    /// Parameters of which bytes may have been overwritten; all others are unchanged.
    pub overwritten: Vec<String>,
}

/// Reads tensors into memory that the caller holds, parameter by parameter.
///
/// Names, lengths and dtypes are checked before the first byte is read. Tensors that are strided
/// in the file arrive in row-major order. Bytes that several parameters want are read once.
/// `is_selected` says which tensors without a parameter count as unexpected; with
/// [`LoadOptions::strict`], missing and unexpected names are an error.
///
/// ```
/// # use std::sync::Arc;
/// # use tensorlift_loader::{Control, LoadOptions, Shard, load_into};
/// # use tensorlift_storage::MemoryStorage;
/// # use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};
/// # let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
/// # let shards = [Shard::new("in memory", Arc::new(MemoryStorage::new(bytes)))];
/// # let mut builder = Catalog::builder();
/// # let record = builder.record(Record::stored(Extent::new(ShardId::FIRST, 0, 8)))?;
/// # builder.entry("pair", Dtype::F32, Layout::contiguous([2])?, View::whole(record))?;
/// # let catalog = builder.finish();
/// let mut pair = vec![0.0f32; 2];
/// let parameters = [("pair", &mut pair[..])];
/// let (options, control) = (LoadOptions::default(), Control::default());
/// let loaded = load_into(&catalog, &shards, |_| true, parameters, &options, &control)?;
/// assert!(loaded.missing.is_empty());
/// assert_eq!(pair, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Misuse`] if lengths or dtypes differ, with all of them named, or a name is given
/// twice; [`ErrorKind::NotFound`] for names that do not match, if that is asked for; otherwise as
/// [`execute`](crate::execute()).
pub fn load_into<'d, N, M>(
    catalog: &Catalog,
    shards: &[Shard],
    is_selected: impl Fn(&Entry) -> bool,
    parameters: impl IntoIterator<Item = (N, M)>,
    options: &LoadOptions,
    control: &Control,
) -> Result<LoadedInto, LoadIntoError>
where
    N: Into<String>,
    M: Into<ParameterMemory<'d>>,
{
    let parameters = parameters
        .into_iter()
        .map(|(name, memory)| (name.into(), memory.into()))
        .collect();
    let casts = options.dtype.casts(catalog)?;
    let mut matched = MatchedMemory::new(catalog, is_selected, parameters, &casts)?;
    if options.strict {
        matched.check_complete()?;
    }
    let plan = matched.plan(catalog, options)?;
    let mut memories = matched.memories_of(&plan, catalog);
    let destinations = memories
        .iter_mut()
        .map(|(_, memory)| memory.destination())
        .collect();
    let filled = fill(&plan, catalog, shards, destinations, options, control);
    let outcome = match filled {
        Ok(outcome) => outcome,
        Err(failed) => {
            let name = |group: &usize| memories[*group].0.to_owned();
            return Err(LoadIntoError {
                overwritten: failed.touched.iter().map(name).collect(),
                error: failed.error,
            });
        }
    };
    for index in 0..memories.len() {
        if let Err(error) = memories[index].1.finish() {
            return Err(LoadIntoError {
                error: Error::from(error).with_tensor(memories[index].0),
                overwritten: memories
                    .iter()
                    .map(|(name, _)| (*name).to_owned())
                    .collect(),
            });
        }
    }
    let report = outcome.report(&plan, catalog);
    Ok(LoadedInto {
        missing: matched.missing,
        unexpected: matched.unexpected,
        report,
    })
}

/// Parameters and the tensors of a catalog, brought together by name.
struct MatchedMemory<'d> {
    /// By name; those that the catalog has.
    found: HashMap<String, ParameterMemory<'d>>,
    missing: Vec<String>,
    unexpected: Vec<String>,
}

impl<'d> MatchedMemory<'d> {
    /// Matches names and checks lengths and dtypes.
    fn new(
        catalog: &Catalog,
        is_selected: impl Fn(&Entry) -> bool,
        parameters: Vec<(String, ParameterMemory<'d>)>,
        casts: &Casts,
    ) -> Result<Self, Error> {
        let (mut found, mut missing, mut faults) = (HashMap::new(), Vec::new(), Vec::new());
        let mut given = HashSet::new();
        for (name, memory) in parameters {
            if !given.insert(name.clone()) {
                faults.push(format!("{name:?} is given twice"));
                continue;
            }
            match catalog.get(&name) {
                None => missing.push(name),
                Some(entry) => {
                    let dtype = casts.of_entry(catalog, entry);
                    faults.extend(memory.fault(catalog, entry, dtype));
                    found.insert(name, memory);
                }
            }
        }
        if !faults.is_empty() {
            let found = format!("parameters do not fit the checkpoint: {}", listed(&faults));
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_remedy("give each parameter memory of the tensor's length and dtype"));
        }
        let unexpected = catalog
            .entries()
            .iter()
            .filter(|entry| is_selected(entry) && !given.contains(entry.name()))
            .map(|entry| entry.name().to_owned())
            .collect();
        Ok(Self {
            found,
            missing,
            unexpected,
        })
    }

    fn check_complete(&self) -> Result<(), Error> {
        let list = |what: &str, names: &[String]| match names.is_empty() {
            true => None,
            false => Some(format!("{what}: {}", listed(names))),
        };
        let lists = [
            list("missing from the checkpoint", &self.missing),
            list("without a parameter", &self.unexpected),
        ];
        let lists: Vec<String> = lists.into_iter().flatten().collect();
        match lists.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::NotFound, lists.join("; "))
                .with_remedy("name parameters as the checkpoint does, or load without `strict`")),
        }
    }

    /// One group for each parameter.
    fn plan(&self, catalog: &Catalog, options: &LoadOptions) -> Result<Plan, Error> {
        let rules = GroupRules::default().exact(true);
        let options = options.clone().mode(Mode::Copy);
        let assign = |entry: &Entry| self.found.contains_key(entry.name()).then_some(0);
        plan(catalog, assign, &[rules], &options)
    }

    /// The memory of each group, with its name.
    fn memories_of<'c>(
        &mut self,
        plan: &Plan,
        catalog: &'c Catalog,
    ) -> Vec<(&'c str, ParameterMemory<'d>)> {
        let memory = |position: usize| {
            let name = catalog.entries()[position].name();
            self.found.remove(name).map(|memory| (name, memory))
        };
        let entries = plan.groups.iter().filter_map(|group| group.entry);
        entries.filter_map(memory).collect()
    }
}

impl ParameterMemory<'_> {
    fn byte_len(&self) -> usize {
        match &self.memory {
            Memory::Host(bytes) => bytes.len(),
            Memory::Group(group) => group.len(),
        }
    }

    /// Why the parameter does not fit a tensor that has this dtype once loaded.
    fn fault(&self, catalog: &Catalog, entry: &Entry, dtype: Dtype) -> Option<String> {
        let name = entry.name();
        if let Source::Absent { .. } = catalog.record(entry).source {
            return Some(format!("{name:?} has no bytes in the checkpoint"));
        }
        let expected = entry.layout().contiguous_bytes(dtype).unwrap_or(u64::MAX);
        let found = self.byte_len();
        if expected != found as u64 {
            let shape = entry.shape();
            return Some(format!(
                "{name:?} {dtype} {shape:?} has {expected} bytes, its parameter {found}"
            ));
        }
        let other = self.dtype.filter(|of_memory| *of_memory != dtype)?;
        Some(format!("{name:?} is {dtype}, its parameter {other}"))
    }

    fn destination(&mut self) -> Destination<'_> {
        match &mut self.memory {
            Memory::Host(bytes) => Destination::Host(bytes),
            Memory::Group(group) => group.destination(),
        }
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        match &mut self.memory {
            Memory::Host(_) => Ok(()),
            Memory::Group(group) => group.finish(),
        }
    }
}

/// The first few of a list, and how many more there are.
fn listed(all: &[impl fmt::Display]) -> String {
    let shown: Vec<String> = all.iter().take(LISTED).map(ToString::to_string).collect();
    match all.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Elements in host memory; bytes (`u8`) take tensors of any dtype.
impl<'d, T: Element + Pod> From<&'d mut [T]> for ParameterMemory<'d> {
    fn from(elements: &'d mut [T]) -> Self {
        Self {
            dtype: (T::DTYPE != Dtype::U8).then_some(T::DTYPE),
            memory: Memory::Host(bytemuck::cast_slice_mut(elements)),
        }
    }
}

/// As a slice of all its elements.
impl<'d, T: Element + Pod> From<&'d mut Vec<T>> for ParameterMemory<'d> {
    fn from(elements: &'d mut Vec<T>) -> Self {
        elements.as_mut_slice().into()
    }
}

/// Memory of a device, which is finished once it is filled.
impl<'d> From<&'d mut dyn Group> for ParameterMemory<'d> {
    fn from(group: &'d mut dyn Group) -> Self {
        Self {
            memory: Memory::Group(group),
            dtype: None,
        }
    }
}

impl fmt::Debug for ParameterMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParameterMemory({} bytes)", self.byte_len())
    }
}

/// One line for people: how many parameters were not matched.
impl fmt::Display for LoadedInto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, unexpected) = (self.missing.len(), self.unexpected.len());
        write!(
            f,
            "{missing} missing {}, {unexpected} unexpected {}; {}",
            plural(missing, "parameter", "parameters"),
            plural(unexpected, "tensor", "tensors"),
            self.report
        )
    }
}

impl fmt::Display for LoadIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for LoadIntoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<Error> for LoadIntoError {
    /// A failure before the first byte.
    fn from(error: Error) -> Self {
        Self {
            error,
            overwritten: Vec::new(),
        }
    }
}

impl From<LoadIntoError> for Error {
    fn from(error: LoadIntoError) -> Self {
        error.error
    }
}
