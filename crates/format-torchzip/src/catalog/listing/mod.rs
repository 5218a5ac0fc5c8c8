//! Turns described tensors into the entries and records of a catalog.

mod records;
mod shape;

use std::collections::HashMap;
use std::fmt::Write;

use smallvec::smallvec;
use tensorlift_tensor_meta::{
    ByteOrder, Catalog, CatalogBuilder, CatalogError, Dtype, Layout, Limits, RecordId, View,
};

use crate::container::storages::{StorageIndex, Storages};
use crate::error::{Error, Result, TensorProblem};
use crate::pickle::globals::StorageType;
use crate::pickle::{Budget, Id};
use crate::tensors::embedded::Embedded;
use crate::tensors::numpy::Array;
use crate::tensors::rebuild::{Dense, Objects, Quantizer, Sizes, StorageRef, storage_dtype};

use shape::{byte_offset, in_elements};

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
    records: HashMap<StorageIndex, RecordId>,
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
    /// Where the next storage likely is.
    next: usize,
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
            next: 0,
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
            shape: smallvec![(storage.len / storage.kind.element_bytes()) as usize],
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
            let strides: Sizes = array
                .shape
                .iter()
                .map(|&size| {
                    let here = stride;
                    stride = stride.saturating_mul(size);
                    here
                })
                .collect();
            Layout::strided(&array.shape, strides)
        } else {
            Layout::contiguous(&array.shape)
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
        let bytes = ENTRY_BYTES + 2 * name.len() as u64 + 16 * layout.shape().len() as u64;
        budget.charge(bytes).map_err(Error::budget)?;
        let added = self.builder.entry(name, dtype, layout.clone(), view);
        let added = match added.map(drop) {
            Err(CatalogError::DuplicateName { .. }) => {
                let name = self.free_name(name);
                self.builder.entry(name, dtype, layout, view).map(drop)
            }
            added => added,
        };
        added.map_err(|error| tensor_error(name, error.into()))?;
        self.builder.requires_grad(requires_grad);
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

pub(crate) fn tensor_error(name: &str, problem: TensorProblem) -> Error {
    // Names can be long, and an error is one line.
    let tensor = match name.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    };
    Error::Tensor { tensor, problem }
}
