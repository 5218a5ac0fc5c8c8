//! Turns described tensors into the entries and records of a catalog.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use tensorlift_tensor_meta::{
    ByteOrder, Catalog, CatalogBuilder, CatalogError, Dtype, Extent, Layout, Limits, Record,
    RecordId, ShardId, Source, View,
};

use crate::embedded::{self, Embedded};
use crate::error::{Error, Result, TensorProblem};
use crate::globals::{Known, StorageType, TorchDtype};
use crate::numpy::{self, Array};
use crate::pickle::{Budget, Id, Node, latin1_bytes};
use crate::rebuild::{Dense, Objects, Quantizer, StorageRef, storage_dtype};
use crate::storages::{Place, Storages};

/// What an entry costs in memory, its name and dimensions apart, in bytes.
const ENTRY_BYTES: u64 = 224;

/// A catalog in the making.
pub(crate) struct Listing<'a> {
    pub(crate) objects: Objects<'a>,
    storages: &'a Storages<'a>,
    byte_order: ByteOrder,
    /// Where the pickle's bytes lie in the file as they are.
    pickle_at: Option<u64>,
    limits: &'a Limits,
    builder: CatalogBuilder,
    /// Records by entry of the archive.
    entry_records: Vec<Option<RecordId>>,
    records: HashMap<Place, RecordId>,
    absent: Option<RecordId>,
    arrays: HashMap<Id, RecordId>,
    embedded: HashMap<Id, (Embedded, RecordId)>,
    /// How often a name was wanted again.
    taken: HashMap<Box<str>, u32>,
    inflated: u64,
    /// The first entry of each tensor object.
    first_names: Vec<(Id, u32)>,
    /// The same of the first pickle, once a second one has begun.
    main_names: Option<Vec<(Id, u32)>>,
    entry_name: Vec<u8>,
}

/// A storage as entries need it.
#[derive(Clone, Copy)]
struct Resolved {
    record: RecordId,
    base: u64,
    len: u64,
    kind: StorageType,
}

/// Where the objects of a listing come from.
pub(crate) struct Origin<'a> {
    pub(crate) objects: Objects<'a>,
    pub(crate) storages: &'a Storages<'a>,
    pub(crate) byte_order: ByteOrder,
    pub(crate) pickle_at: Option<u64>,
    pub(crate) limits: &'a Limits,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(origin: &Origin<'a>) -> Self {
        // Most storages are one tensor each.
        let expected = origin.storages.entries().min(origin.limits.tensors);
        let mut builder = Catalog::builder();
        builder.reserve(expected, expected);
        Self {
            objects: origin.objects,
            storages: origin.storages,
            byte_order: origin.byte_order,
            pickle_at: origin.pickle_at,
            limits: origin.limits,
            builder,
            entry_records: vec![None; origin.storages.entries()],
            records: HashMap::new(),
            absent: None,
            arrays: HashMap::new(),
            embedded: HashMap::new(),
            taken: HashMap::new(),
            inflated: 0,
            first_names: Vec::new(),
            main_names: None,
            entry_name: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.builder.len()
    }

    /// The catalog, and the first entry of each tensor object of the first pickle.
    pub(crate) fn finish(self) -> (Catalog, Vec<(Id, u32)>) {
        let names = self.main_names.unwrap_or(self.first_names);
        (self.builder.finish(), names)
    }

    /// Adds records of another listing's file: the constants beside a TorchScript model.
    pub(crate) fn continue_with(&mut self, origin: &Origin<'a>) {
        self.objects = origin.objects;
        self.storages = origin.storages;
        self.pickle_at = origin.pickle_at;
        let names = std::mem::take(&mut self.first_names);
        self.main_names.get_or_insert(names);
        // Numbers of objects and keys begin anew.
        self.entry_records.fill(None);
        self.records.clear();
        self.arrays.clear();
        self.embedded.clear();
    }
}

/// # Adding entries
impl Listing<'_> {
    /// A strided view of a storage.
    pub(crate) fn dense(
        &mut self,
        id: Id,
        name: &str,
        dense: Dense,
        requires_grad: bool,
        budget: &mut Budget,
    ) -> Result<()> {
        let storage = match dense.storage {
            StorageRef::Absent => None,
            StorageRef::Object(storage) => Some(self.storage(name, storage, budget)?),
        };
        let fail = |problem: TensorProblem| tensor_error(name, problem);
        let torch_dtype = match (dense.dtype, storage) {
            (Some(dtype), _) => dtype,
            (None, Some(storage)) => storage_dtype(storage.kind),
            (None, None) => storage_dtype(StorageType::Untyped),
        };
        let rank = dense.shape.len();
        if rank > self.limits.rank {
            let limit = self.limits.rank;
            return Err(fail(TensorProblem::Rank { rank, limit }));
        }
        let lazy = (dense.conjugated, dense.negated);
        let offset = dense.offset;
        let (dtype, shape, strides) = in_elements(torch_dtype, dense.shape, dense.strides);
        let layout = match strides {
            None => Layout::contiguous(shape),
            Some(strides) => Layout::strided(shape, strides),
        };
        let layout = layout
            .map_err(|error| fail(error.into()))?
            .with_conjugated(lazy.0 && dtype.is_complex())
            .with_negated(lazy.1);
        let Some(storage) = storage else {
            let record = self.absent_record(name)?;
            return self.entry(
                id,
                name,
                dtype,
                layout,
                View::whole(record),
                requires_grad,
                budget,
            );
        };
        let first = match layout.elements() {
            // Where nothing is, it does not matter where.
            0 => Some(0),
            _ => byte_offset(torch_dtype, offset),
        };
        let span = layout.span_bytes(dtype);
        let end = first
            .zip(span)
            .and_then(|(first, span)| first.checked_add(span));
        let (first, _) = first
            .zip(end.filter(|&end| end <= storage.len))
            .ok_or_else(|| {
                fail(TensorProblem::OutsideStorage {
                    first: first.unwrap_or(u64::MAX),
                    end: end.unwrap_or(u64::MAX),
                    len: storage.len,
                })
            })?;
        let layout = layout.with_byte_order(self.byte_order);
        let view = View::at(storage.record, storage.base + first);
        self.entry(id, name, dtype, layout, view, requires_grad, budget)
    }

    /// A storage that stands alone: all of its elements, in one dimension.
    pub(crate) fn whole_storage(&mut self, id: Id, name: &str, budget: &mut Budget) -> Result<()> {
        let storage = self.storage(name, id, budget)?;
        let dense = Dense {
            storage: StorageRef::Object(id),
            dtype: None,
            offset: 0,
            shape: vec![(storage.len / storage.kind.element_bytes()) as usize],
            strides: None,
            requires_grad: false,
            conjugated: false,
            negated: false,
        };
        self.dense(id, name, dense, false, budget)
    }

    /// The scale and zero point of a quantized tensor, as tensors beside it.
    pub(crate) fn quantizer(
        &mut self,
        prefix: &str,
        quantizer: &Quantizer,
        budget: &mut Budget,
    ) -> Result<()> {
        let &Quantizer::PerTensor { scale, zero_point } = quantizer else {
            return Ok(());
        };
        let scalars = [
            ("scale", Dtype::F64, scale.to_le_bytes()),
            ("zero_point", Dtype::I64, zero_point.to_le_bytes()),
        ];
        for (part, dtype, bytes) in scalars {
            let name = format!("{prefix}{part}");
            let record = self.inline(&name, bytes.as_slice().into())?;
            let layout =
                Layout::contiguous([]).map_err(|error| tensor_error(&name, error.into()))?;
            self.entry(
                Id::NONE,
                &name,
                dtype,
                layout,
                View::whole(record),
                false,
                budget,
            )?;
        }
        Ok(())
    }

    /// A NumPy array.
    pub(crate) fn array(
        &mut self,
        id: Id,
        name: &str,
        array: &Array,
        requires_grad: bool,
        budget: &mut Budget,
    ) -> Result<()> {
        let fail = |problem: TensorProblem| tensor_error(name, problem);
        let rank = array.shape.len();
        if rank > self.limits.rank {
            let limit = self.limits.rank;
            return Err(fail(TensorProblem::Rank { rank, limit }));
        }
        let record = match self.arrays.get(&array.bytes) {
            Some(&record) => record,
            None => {
                let record = self.array_bytes(name, array, budget)?;
                self.arrays.insert(array.bytes, record);
                record
            }
        };
        let layout = if array.fortran {
            let mut stride = 1usize;
            let strides: Vec<usize> = array
                .shape
                .iter()
                .map(|&size| {
                    let here = stride;
                    stride = stride.saturating_mul(size);
                    here
                })
                .collect();
            Layout::strided(array.shape.clone(), strides)
        } else {
            Layout::contiguous(array.shape.clone())
        };
        let layout = layout
            .map_err(|error| fail(error.into()))?
            .with_byte_order(array.byte_order);
        let view = View::whole(record);
        self.entry(id, name, array.dtype, layout, view, requires_grad, budget)
    }

    #[allow(clippy::too_many_arguments)] // What an entry is made of, and no more.
    fn entry(
        &mut self,
        id: Id,
        name: &str,
        dtype: Dtype,
        layout: Layout,
        view: View,
        requires_grad: bool,
        budget: &mut Budget,
    ) -> Result<()> {
        let found = self.builder.len() as u64 + 1;
        if self.builder.len() >= self.limits.tensors {
            return Err(Error::Limit {
                what: "tensors in the file",
                limit: self.limits.tensors as u64,
                found,
            });
        }
        if name.len() > self.limits.name_bytes {
            return Err(Error::Limit {
                what: "bytes of a tensor name",
                limit: self.limits.name_bytes as u64,
                found: name.len() as u64,
            });
        }
        let bytes = ENTRY_BYTES + name.len() as u64 + 16 * layout.shape().len() as u64;
        budget.charge(bytes).map_err(Error::budget)?;
        let added = if self.builder.contains(name) {
            let name = self.free_name(name);
            self.builder.entry(name, dtype, layout, view)
        } else {
            self.builder.entry(name, dtype, layout, view)
        };
        match added {
            Ok(builder) => {
                builder.requires_grad(requires_grad);
            }
            Err(error) => return Err(tensor_error(name, error.into())),
        }
        if id != Id::NONE {
            self.first_names.push((id, found as u32 - 1));
        }
        Ok(())
    }

    /// The name with the first free number behind it.
    fn free_name(&mut self, name: &str) -> String {
        let count = self.taken.entry(name.into()).or_insert(1);
        let mut numbered = String::new();
        loop {
            *count += 1;
            numbered.clear();
            // Writing into a string cannot fail.
            let _ = write!(numbered, "{name}#{count}");
            if !self.builder.contains(&numbered) {
                return numbered;
            }
        }
    }
}

/// # Records
impl Listing<'_> {
    fn storage(&mut self, name: &str, id: Id, budget: &mut Budget) -> Result<Resolved> {
        let arena = self.objects.arena;
        match arena.node(id) {
            Node::Persistent(pid) => {
                if let Storages::Tar(_) = self.storages {
                    return self.tar_storage(name, id);
                }
                let fail = |problem: TensorProblem| tensor_error(name, problem);
                let storage = self.objects.storage_id(pid).map_err(fail)?;
                let found = self
                    .storages
                    .find(&storage, &mut self.entry_name)
                    .map_err(fail)?;
                Ok(Resolved {
                    record: self.record(name, found.place)?,
                    base: found.base,
                    len: found.len,
                    kind: storage.kind,
                })
            }
            Node::Object(_) if matches!(arena.as_object(id), Some((_, Known::LoadFromBytes))) => {
                self.embedded_storage(name, id, budget)
            }
            _ => Err(tensor_error(
                name,
                self.objects
                    .argument("a rebuild function", "a storage", &[id]),
            )),
        }
    }

    fn tar_storage(&mut self, name: &str, id: Id) -> Result<Resolved> {
        let missing = |key| tensor_error(name, TensorProblem::MissingStorage { key });
        let Storages::Tar(tar) = self.storages else {
            return Err(missing(String::new()));
        };
        let number = self.outside_number(id).ok_or_else(|| missing("?".into()))?;
        let number = tar.storage_of.get(&number).copied().unwrap_or(number);
        let storage = *tar
            .storages
            .get(&number)
            .ok_or_else(|| missing(number.to_string()))?;
        Ok(Resolved {
            record: self.record(name, Place::Number(storage.root))?,
            base: storage.base,
            len: storage.len,
            kind: storage.kind,
        })
    }

    /// The number under which the tar layout keeps an object outside of the pickle.
    pub(crate) fn outside_number(&self, id: Id) -> Option<i64> {
        let arena = self.objects.arena;
        let Node::Persistent(pid) = arena.node(id) else {
            return None;
        };
        arena.as_int(pid).or_else(|| {
            let text = arena.string_bytes(self.objects.pickle, pid)?;
            std::str::from_utf8(text).ok()?.trim().parse().ok()
        })
    }

    /// The tensor that the tar layout keeps under a persistent id.
    pub(crate) fn outside_tensor(&self, id: Id) -> Option<Dense> {
        let Storages::Tar(tar) = self.storages else {
            return None;
        };
        let dense = tar.tensors.get(&self.outside_number(id)?)?;
        Some(Dense {
            storage: StorageRef::Object(id),
            ..dense.clone()
        })
    }

    fn record(&mut self, name: &str, place: Place) -> Result<RecordId> {
        let known = match &place {
            Place::Entry(entry) => self.entry_records[*entry],
            place => self.records.get(place).copied(),
        };
        if let Some(record) = known {
            return Ok(record);
        }
        let record = self.storages.record(&place)?.ok_or_else(|| {
            let key = format!("{place:?}");
            tensor_error(name, TensorProblem::MissingStorage { key })
        })?;
        if let Source::Deflated { len, .. } = record.source {
            self.inflated = self.inflated.saturating_add(len);
            if self.inflated > self.limits.inflated_bytes {
                return Err(Error::Limit {
                    what: "bytes that compressed entries inflate to",
                    limit: self.limits.inflated_bytes,
                    found: self.inflated,
                });
            }
        }
        let id = self.add_record(name, record)?;
        match place {
            Place::Entry(entry) => self.entry_records[entry] = Some(id),
            place => {
                self.records.insert(place, id);
            }
        }
        Ok(id)
    }

    fn embedded_storage(&mut self, name: &str, id: Id, budget: &mut Budget) -> Result<Resolved> {
        if let Some(&(ref embedded, record)) = self.embedded.get(&id) {
            return Ok(resolved(embedded, record));
        }
        let args = match self.objects.arena.as_object(id) {
            Some((object, _)) => self.objects.arena.tuple_items(object.args),
            None => None,
        };
        let bytes = *args.and_then(<[Id]>::first).ok_or_else(|| {
            let problem = self.objects.argument("_load_from_bytes", "bytes", &[id]);
            tensor_error(name, problem)
        })?;
        let (embedded, record) = match self.raw_bytes(name, bytes, budget)? {
            Raw::InFile(extent) => {
                let bytes = self.objects.arena.string_bytes(self.objects.pickle, bytes);
                let found = embedded::read(bytes.unwrap_or(&[]), self.limits, budget)?;
                let extent = extent.slice(found.offset, found.len).unwrap_or(extent);
                (found, self.add_record(name, Record::stored(extent))?)
            }
            Raw::Decoded(bytes) => {
                let found = embedded::read(&bytes, self.limits, budget)?;
                let part = &bytes[found.offset as usize..][..found.len as usize];
                let record = self.inline(name, part.into())?;
                (found, record)
            }
        };
        let answer = resolved(&embedded, record);
        self.embedded.insert(id, (embedded, record));
        Ok(answer)
    }

    fn array_bytes(&mut self, name: &str, array: &Array, budget: &mut Budget) -> Result<RecordId> {
        let raw = self.raw_bytes(name, array.bytes, budget)?;
        let len = match &raw {
            Raw::InFile(extent) => extent.len,
            Raw::Decoded(bytes) => bytes.len() as u64,
        };
        let layout = Layout::contiguous(array.shape.clone())
            .map_err(|error| tensor_error(name, error.into()))?;
        let wanted = layout.contiguous_bytes(array.dtype).unwrap_or(u64::MAX);
        if wanted != len {
            return Err(tensor_error(
                name,
                TensorProblem::StorageSize {
                    key: "the array's bytes".to_owned(),
                    declared: wanted,
                    found: len,
                },
            ));
        }
        match raw {
            Raw::InFile(extent) => self.add_record(name, Record::stored(extent)),
            Raw::Decoded(bytes) => self.inline(name, bytes),
        }
    }

    /// The bytes an object stands for: where they lie in the file, or decoded.
    fn raw_bytes(&self, name: &str, id: Id, budget: &mut Budget) -> Result<Raw> {
        let Objects { arena, pickle } = self.objects;
        let decoded = |bytes: &[u8], budget: &mut Budget| {
            budget.charge(bytes.len() as u64).map_err(Error::budget)?;
            Ok(Raw::Decoded(bytes.into()))
        };
        match arena.node(id) {
            Node::Bytes(span) | Node::Str8(span) => match self.pickle_at {
                Some(at) if arena.is_raw(span) => Ok(Raw::InFile(Extent::new(
                    ShardId::FIRST,
                    at + u64::from(span.start),
                    span.len.into(),
                ))),
                _ => decoded(arena.bytes(pickle, span), budget),
            },
            _ => {
                let wrong = || {
                    let problem = self.objects.argument("an array", "bytes", &[id]);
                    tensor_error(name, problem)
                };
                if is_empty_call(&self.objects, id) {
                    return Ok(Raw::Decoded(Arc::default()));
                }
                let text = numpy::encoded_text(&self.objects, id).ok_or_else(wrong)?;
                let text = arena.string_bytes(pickle, text).ok_or_else(wrong)?;
                // Charged for the growing and the final copy.
                budget
                    .charge(2 * text.len() as u64)
                    .map_err(Error::budget)?;
                let mut bytes = Vec::with_capacity(text.len());
                latin1_bytes(text, &mut bytes).ok_or_else(wrong)?;
                let spare = 2 * text.len() as u64 - bytes.len() as u64;
                budget.refund(spare);
                Ok(Raw::Decoded(bytes.into()))
            }
        }
    }

    fn absent_record(&mut self, name: &str) -> Result<RecordId> {
        if let Some(record) = self.absent {
            return Ok(record);
        }
        let record = self.add_record(
            name,
            Record {
                source: Source::Absent {
                    shard: ShardId::FIRST,
                },
                declared_crc32: None,
            },
        )?;
        self.absent = Some(record);
        Ok(record)
    }

    fn inline(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<RecordId> {
        let source = Source::Inline {
            shard: ShardId::FIRST,
            bytes,
        };
        self.add_record(
            name,
            Record {
                source,
                declared_crc32: None,
            },
        )
    }

    fn add_record(&mut self, name: &str, record: Record) -> Result<RecordId> {
        self.builder
            .record(record)
            .map_err(|error: CatalogError| tensor_error(name, error.into()))
    }
}

enum Raw {
    InFile(Extent),
    Decoded(Arc<[u8]>),
}

fn resolved(embedded: &Embedded, record: RecordId) -> Resolved {
    Resolved {
        record,
        base: 0,
        len: embedded.len,
        kind: embedded.kind,
    }
}

/// Whether an object is `bytes()` or `bytearray()` without arguments.
fn is_empty_call(objects: &Objects<'_>, id: Id) -> bool {
    matches!(
        objects.arena.as_object(id),
        Some((object, Known::Bytearray | Known::Plain)) if object.args == Id::EMPTY_TUPLE
    )
}

type InElements = (Dtype, Vec<usize>, Option<Vec<usize>>);

/// Shape and strides in elements of our dtype, which may be half as wide as PyTorch's.
fn in_elements(dtype: TorchDtype, shape: Vec<usize>, strides: Option<Vec<usize>>) -> InElements {
    match dtype {
        TorchDtype::Same(dtype) => match in_padded_rows(dtype, &shape, strides.as_deref()) {
            Some(rows) => (Dtype::U8, rows, None),
            None => (dtype, shape, strides),
        },
        TorchDtype::F4Pair => match in_pairs(&shape, strides.as_deref()) {
            Some((shape, strides)) => (Dtype::F4, shape, strides),
            None => (Dtype::U8, shape, strides),
        },
    }
}

/// The dimensions in bytes of packed elements whose rows are filled up to whole bytes.
///
/// `None` where every row fills its bytes, so that the elements can be told apart by their
/// dtype alone.
fn in_padded_rows(dtype: Dtype, shape: &[usize], strides: Option<&[usize]>) -> Option<Vec<usize>> {
    if dtype.bits() >= 8 {
        return None;
    }
    let per_byte = (8 / dtype.bits()) as usize;
    let (&size, rest) = shape.split_last()?;
    let layout = Layout::strided(shape, strides?).ok()?;
    (size % per_byte != 0 && layout.is_contiguous()).then(|| {
        rest.iter()
            .copied()
            .chain([size.div_ceil(per_byte)])
            .collect()
    })
}

/// The dimensions of packed pairs: along the last one, as safetensors has it.
///
/// `None` where there is none, or where pairs do not lie side by side along it.
fn in_pairs(
    shape: &[usize],
    strides: Option<&[usize]>,
) -> Option<(Vec<usize>, Option<Vec<usize>>)> {
    let doubled = |values: &[usize]| -> Option<Vec<usize>> {
        values.iter().map(|value| value.checked_mul(2)).collect()
    };
    let (&size, rest) = shape.split_last()?;
    let wide = rest.iter().copied().chain([size.checked_mul(2)?]).collect();
    let strides = match strides.map(<[usize]>::split_last) {
        None => None,
        Some(None) => return None,
        Some(Some((&last, rest))) => {
            if last != 1 && size > 1 {
                return None;
            }
            let mut strides = doubled(rest)?;
            strides.push(1);
            Some(strides)
        }
    };
    Some((wide, strides))
}

fn byte_offset(dtype: TorchDtype, elements: u64) -> Option<u64> {
    match dtype {
        TorchDtype::F4Pair => Some(elements),
        TorchDtype::Same(dtype) => {
            let bits = elements.checked_mul(dtype.bits())?;
            (bits % 8 == 0).then_some(bits / 8)
        }
    }
}

pub(crate) fn tensor_error(name: &str, problem: TensorProblem) -> Error {
    // Names can be long, and an error is one line.
    let tensor = match name.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    };
    Error::Tensor { tensor, problem }
}
