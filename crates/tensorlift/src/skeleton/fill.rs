use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tensorlift_device::{Destination, GroupRequest};
use tensorlift_loader::{Assembly, DtypePolicy, Loaded, Mode, Place, Plan, execute, plan};
use tensorlift_storage::os;
use tensorlift_tensor_meta::{
    Catalog, CatalogError, Dtype, Entry, Error, ErrorKind, Layout, Record, Result, ShardId, Source,
    View,
};

use super::{FillRules, Matched, Parameter, Skeleton, SourcePart};
use crate::{Loader, observe};

/// # Filling skeletons
impl Loader<'_> {
    /// Loads the parameters of a model, each into its own allocation, under the names and dtypes of
    /// the checkpoint.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    /// use tensorlift::skeleton::Skeleton;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let skeleton = Skeleton::from_catalog(checkpoint.catalog());
    /// let model = checkpoint.loader().fill(&skeleton)?;
    /// assert_eq!(model.tensors().len(), skeleton.parameters().len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Skeleton::matched`] and [`Loader::load`]; no partial result is returned.
    pub fn fill(&self, skeleton: &Skeleton) -> Result<Loaded> {
        self.fill_by(skeleton, &FillRules::new())
    }

    /// As [`fill`](Self::fill), by rules for names and differences.
    ///
    /// ```
    /// use tensorlift::skeleton::{FillRules, Skeleton};
    /// use tensorlift::{Checkpoint, Dtype};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let mut skeleton = Skeleton::new();
    /// skeleton.add("layer.0.qkv.weight", [96, 32], Some(Dtype::BF16))?;
    /// skeleton.add("layer.0.lower", [16, 32], None)?;
    /// skeleton.add("layer.0.upper", [48, 32], None)?;
    /// skeleton.add("head.weight", [91, 32], Some(Dtype::F32))?;
    /// let qkv = ["query", "key", "value"].map(|name| format!("*.attention.self.{name}.weight"));
    /// let rules = FillRules::new()
    ///     .rename("encoder.*", "*")
    ///     .fuse(qkv, "*.qkv.weight", 0)
    ///     .split("*.intermediate.dense.weight", ["*.lower", "*.upper"], 0)
    ///     .convert()
    ///     .optional("head")
    ///     .init(|_, bytes| bytes.fill(0))
    ///     .ignore("*");
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let model = checkpoint.loader().fill_by(&skeleton, &rules)?;
    /// assert_eq!(model.tensor("layer.0.qkv.weight")?.dtype(), Dtype::BF16);
    /// assert_eq!(model.tensors().len(), 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn fill_by(&self, skeleton: &Skeleton, rules: &FillRules) -> Result<Loaded> {
        observe::load(
            self.checkpoint,
            || self.fill_all(skeleton, rules),
            Loaded::report,
            |error| error,
        )
    }

    fn fill_all(&self, skeleton: &Skeleton, rules: &FillRules) -> Result<Loaded> {
        let memory_before = os::memory();
        let clock = Instant::now();
        let checkpoint = self.checkpoint;
        checkpoint.require_tensors()?;
        if self.options.dtype != DtypePolicy::Keep {
            let found = "the load asks for a dtype, and the skeleton has dtypes";
            return Err(Error::new(ErrorKind::Misuse, found)
                .with_remedy("let the rules convert to the skeleton's dtypes instead"));
        }
        let matched = skeleton.matched(checkpoint.catalog(), rules)?;
        let parts = Parts::new(checkpoint.catalog(), &matched)?;
        let initialised = match &rules.init {
            Some(_) => matched.absent(),
            None => &[],
        };
        let initialised: Vec<&Parameter> = initialised
            .iter()
            .filter_map(|name| skeleton.get(name))
            .collect();
        let catalog = parameter_catalog(&matched, &initialised).map_err(malformed)?;
        let plan = self.plan_parts(&parts, &catalog, rules.converts)?;
        let planned = clock.elapsed();

        let options = match &self.expected {
            None => self.options.clone(),
            Some(expected) => {
                let ranges = expected.ranges_of_files(checkpoint, &plan)?;
                self.options.clone().hashes(ranges)
            }
        };
        let mut filled = execute(
            &plan,
            &parts.catalog,
            checkpoint.shards(),
            self.placement.devices(),
            &options,
            &self.control,
        )
        .map_err(|error| self.with_tensor(error))?;
        let mut plan = plan;
        parts.add_aliases(&mut plan);
        for (index, parameter) in initialised.iter().enumerate() {
            let entry = matched.parameters().len() + index;
            let device = self.placement.device_of(&catalog.entries()[entry]);
            let group = self.initialise(parameter, device, rules)?;
            let dtype = parameter.dtype.unwrap_or(Dtype::F32);
            let place = Place::whole(entry, filled.groups.len(), dtype);
            plan.places.push(place);
            filled.groups.push(group);
        }
        let report = filled.outcome.report(&plan, &parts.catalog);
        let mut loaded = Loaded::new(Arc::new(catalog), plan, filled, report);
        self.close(loaded.report_mut(), memory_before, clock, planned);
        Ok(loaded)
    }

    /// A group for each parameter, into which its parts are read.
    fn plan_parts(&self, parts: &Parts, parameters: &Catalog, converts: bool) -> Result<Plan> {
        let rules: Vec<_> = self.placement.rules();
        let rules: Vec<_> = rules.into_iter().map(|rules| rules.exact(true)).collect();
        let mut options = self.options.clone().mode(Mode::Copy);
        if converts {
            let dtypes = parts.dtypes.clone();
            options = options.dtype(DtypePolicy::by(move |entry: &Entry| {
                dtypes.get(entry.name()).copied().unwrap_or(entry.dtype())
            }));
        }
        let device_of = |entry: &Entry| {
            let position = parts.catalog.position(entry.name())?;
            let (parameter, _) = parts.assembly.targets[position];
            Some(self.placement.device_of(&parameters.entries()[parameter]))
        };
        let plan = plan(&parts.catalog, device_of, &rules, &options)?;
        Ok(plan.assembled(&parts.assembly))
    }

    /// The memory of a parameter that the checkpoint lacks, filled by the caller's function.
    fn initialise(
        &self,
        parameter: &Parameter,
        device: usize,
        rules: &FillRules,
    ) -> Result<Box<dyn tensorlift_device::Group>> {
        let dtype = parameter.dtype.unwrap_or(Dtype::F32);
        let named = |error: Error| error.with_tensor(&*parameter.name);
        let bytes = Layout::contiguous(&parameter.shape[..])
            .ok()
            .and_then(|layout| usize::try_from(layout.contiguous_bytes(dtype)?).ok())
            .ok_or_else(|| named(Error::new(ErrorKind::Misuse, "it has no size")))?;
        let device = &self.placement.devices()[device];
        let group = device
            .reserve(bytes as u64)
            .and_then(|()| device.allocate(&GroupRequest::new(bytes).dtype(dtype)));
        let mut group = group.map_err(|error| named(error.into()))?;
        match (group.destination(), &rules.init) {
            (Destination::Host(memory), Some(init)) => {
                memory.fill(0);
                init(parameter, memory);
            }
            _ => {
                let found = "its device cannot be written by the host";
                return Err(named(
                    Error::new(ErrorKind::Unsupported, found)
                        .with_remedy("place it on the host, or fill it after loading"),
                ));
            }
        }
        group.finish().map_err(|error| named(error.into()))?;
        Ok(group)
    }
}

/// Every part of every parameter as an entry of its own.
struct Parts {
    catalog: Catalog,
    assembly: Assembly,
    /// The dtypes of parts once they are loaded.
    dtypes: HashMap<String, Dtype>,
    /// Parameters that share the memory of others, by position.
    aliases: Vec<(usize, usize)>,
}

impl Parts {
    fn new(catalog: &Catalog, matched: &Matched) -> Result<Self> {
        let mut builder = Catalog::builder();
        for record in catalog.records() {
            builder.record(record.clone()).map_err(malformed)?;
        }
        let (mut assembly, mut dtypes) = (Assembly::default(), HashMap::new());
        let mut aliases = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        let mut of_bytes = HashMap::new();
        for (position, filled) in matched.parameters().iter().enumerate() {
            let parameter = &filled.parameter;
            let dtype = parameter.dtype.unwrap_or(Dtype::F32);
            positions.insert(&parameter.name, position);
            let layout = Layout::contiguous(&parameter.shape[..]);
            let len = layout
                .ok()
                .and_then(|layout| layout.contiguous_bytes(dtype));
            assembly.byte_lens.push(len.unwrap_or(u64::MAX));
            let tied = filled.tied_to.as_deref();
            let mut same = tied.and_then(|name| positions.get(name).copied());
            if let [
                SourcePart {
                    name, range: None, ..
                },
            ] = &filled.parts[..]
                && let Some(entry) = catalog.get(name)
            {
                // Two names for the same bytes are one parameter.
                let key = (entry.view(), entry.layout().clone(), entry.dtype(), dtype);
                let first = *of_bytes.entry(key).or_insert(position);
                same = same.or(Some(first).filter(|first| *first != position));
            }
            if let Some(same) = same {
                aliases.push((position, same));
                continue;
            }
            let pieces = pieces(catalog, filled.dim, &filled.parts, dtype)
                .ok_or_else(|| no_pieces(&parameter.name))?;
            for (number, piece) in pieces.into_iter().enumerate() {
                // No two pieces have one name.
                let name = format!("{number}/{}", parameter.name);
                dtypes.insert(name.clone(), dtype);
                let (from, layout, view) = (piece.dtype, piece.layout, piece.view);
                builder.entry(name, from, layout, view).map_err(malformed)?;
                assembly.targets.push((position, piece.to));
            }
        }
        let catalog = builder.finish();
        Ok(Self {
            catalog,
            assembly,
            dtypes,
            aliases,
        })
    }

    /// Adds the places of parameters that share memory.
    fn add_aliases(&self, plan: &mut Plan) {
        for (alias, of) in &self.aliases {
            let found = plan.places.iter().find(|place| place.entry == *of).copied();
            if let Some(place) = found {
                plan.places
                    .push(Place::whole(*alias, place.group, place.dtype));
            }
        }
        plan.places.sort_unstable_by_key(|place| place.entry);
    }
}

/// Bytes of the checkpoint that are adjacent in a parameter.
struct Piece {
    dtype: Dtype,
    layout: Layout,
    view: View,
    /// The first byte in the parameter.
    to: u64,
}

/// The pieces of a parameter whose parts are joined along a dimension: one for each part, or one
/// for each part and each index of the dimensions outside of it.
fn pieces(catalog: &Catalog, dim: usize, parts: &[SourcePart], dtype: Dtype) -> Option<Vec<Piece>> {
    let element = dtype.byte_len()? as u64;
    let sources = parts
        .iter()
        .map(|part| Some((part, catalog.get(&part.name)?)));
    let sources: Vec<(&SourcePart, &Entry)> = sources.collect::<Option<_>>()?;
    if let [(part, entry)] = sources[..] {
        let (layout, view) = divided(entry, part)?;
        let dtype = entry.dtype();
        return Some(vec![Piece {
            dtype,
            layout,
            view,
            to: 0,
        }]);
    }
    let inner = |entry: &Entry| entry.shape()[dim..].iter().product::<usize>() as u64;
    let row: u64 = sources.iter().map(|(_, entry)| inner(entry)).sum();
    let mut pieces = Vec::new();
    let mut before = 0;
    for (_, entry) in &sources {
        let outer: usize = entry.shape()[..dim].iter().product();
        let layout = entry.layout();
        let strides = layout.element_strides();
        for index in 0..outer {
            let (mut rest, mut start) = (index, 0);
            for (size, stride) in layout.shape()[..dim].iter().zip(&*strides).rev() {
                start += rest % size * stride;
                rest /= size;
            }
            let piece = Layout::strided(&layout.shape()[dim..], &strides[dim..]).ok()?;
            pieces.push(Piece {
                dtype: entry.dtype(),
                layout: like(piece, layout),
                view: moved(entry, start)?,
                to: (index as u64 * row + before) * element,
            });
        }
        before += inner(entry);
    }
    Some(pieces)
}

/// The layout and the first byte of a part of an entry.
fn divided(entry: &Entry, part: &SourcePart) -> Option<(Layout, View)> {
    let layout = entry.layout();
    let Some((dim, range)) = &part.range else {
        return Some((layout.clone(), entry.view()));
    };
    let strides = layout.element_strides();
    let mut shape = layout.shape().to_vec();
    *shape.get_mut(*dim)? = range.len();
    let start = match range.is_empty() {
        true => 0,
        false => range.start.checked_mul(strides[*dim])?,
    };
    let share = Layout::strided(shape, &*strides).ok()?;
    Some((like(share, layout), moved(entry, start)?))
}

/// A layout with the byte order and the lazy bits of another.
fn like(layout: Layout, other: &Layout) -> Layout {
    layout
        .with_byte_order(other.byte_order())
        .with_conjugated(other.is_conjugated())
        .with_negated(other.is_negated())
}

/// A view of the elements of an entry from one on.
fn moved(entry: &Entry, elements: usize) -> Option<View> {
    let View { record, offset, .. } = entry.view();
    let bytes = (elements as u64).checked_mul(entry.dtype().byte_len()? as u64)?;
    Some(View::at(record, offset.checked_add(bytes)?))
}

/// The parameters as entries without bytes in a file.
fn parameter_catalog(
    matched: &Matched,
    initialised: &[&Parameter],
) -> Result<Catalog, CatalogError> {
    let mut builder = Catalog::builder();
    let source = Source::Absent {
        shard: ShardId::FIRST,
    };
    let record = builder.record(Record::new(source))?;
    let filled = matched.parameters().iter().map(|filled| &filled.parameter);
    for parameter in filled.chain(initialised.iter().copied()) {
        let layout = Layout::contiguous(&parameter.shape[..])?;
        let dtype = parameter.dtype.unwrap_or(Dtype::F32);
        builder.entry(&*parameter.name, dtype, layout, View::whole(record))?;
    }
    Ok(builder.finish())
}

fn malformed(error: CatalogError) -> Error {
    Error::new(ErrorKind::Malformed, error)
}

fn no_pieces(name: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "elements smaller than a byte cannot be joined or divided",
    )
    .with_tensor(name)
    .with_remedy("fill it with a whole tensor")
}
