//! Turns the tensors that the walk finds into the entries of a catalog.

use std::collections::HashMap;
use std::fmt::Write;

use smallvec::smallvec;
use tensorlift_tensor_meta::{
    ByteOrder, Catalog, CatalogBuilder, CatalogError, Dtype, Layout, Limits, RecordId, View,
};

use crate::container::storages::{StorageIndex, Storages};
use crate::error::{Error, Result};
use crate::pickle::globals::{StorageType, TorchDtype};
use crate::pickle::{DescriptionBudget, Id};
use crate::tensors::TensorProblem;
use crate::tensors::embedded::Embedded;
use crate::tensors::numpy::Array;
use crate::tensors::objects::{Objects, Sizes};
use crate::tensors::rebuild::{Dense, storage_dtype};

use super::naming::{Content, Found};
use super::shape::{byte_offset, in_elements};
use super::tree::Tree;

/// What an entry costs in memory, its name and dimensions apart, in bytes.
const ENTRY_BYTES: u64 = 224;

/// A catalog in the making.
pub(super) struct Cataloger<'a> {
    pub(super) limits: &'a Limits,
    pub(super) budget: DescriptionBudget,
    pub(super) builder: CatalogBuilder,
    /// How often a name occurred again.
    taken: HashMap<Box<str>, u32>,
    /// The record of tensors without bytes.
    pub(super) absent: Option<RecordId>,
    /// What the compressed records inflate to, in bytes.
    pub(super) inflated: u64,
    /// The first entry of each tensor object of the first tree.
    first_names: Vec<(Id, u32)>,
}

/// The entries of one tree; each tree numbers its own objects and storage keys.
pub(super) struct TreeCataloger<'c, 'a> {
    pub(super) all: &'c mut Cataloger<'a>,
    pub(super) objects: Objects<'a>,
    pub(super) storages: &'a Storages<'a>,
    byte_order: ByteOrder,
    pub(super) pickle_at: Option<u64>,
    is_first: bool,
    /// The record and the type of each storage that has a place in a list.
    pub(super) listed: Vec<Option<(RecordId, StorageType)>>,
    pub(super) records: HashMap<StorageIndex, RecordId>,
    /// The parts of storages that have keys of their own.
    pub(super) views: HashMap<Box<[u8]>, (StorageIndex, u64, u64, StorageType)>,
    /// By the object of the bytes, and the dtype that they were converted to.
    pub(super) arrays: HashMap<(Id, Dtype), RecordId>,
    pub(super) embedded: HashMap<Id, (Embedded, RecordId)>,
    /// The likely position of the next storage.
    pub(super) next: usize,
}

/// A storage as entries need it.
#[derive(Clone, Copy)]
pub(super) struct Resolved {
    pub(super) record: RecordId,
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) kind: StorageType,
}

impl<'a> Cataloger<'a> {
    pub(super) fn new(limits: &'a Limits, budget: DescriptionBudget) -> Self {
        Self {
            limits,
            budget,
            builder: Catalog::builder(),
            taken: HashMap::new(),
            absent: None,
            inflated: 0,
            first_names: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.builder.len()
    }

    /// The catalog, the first entry of each tensor object of the first tree, and what is left of
    /// the budget.
    pub(super) fn finish(self) -> (Catalog, Vec<(Id, u32)>, DescriptionBudget) {
        (self.builder.finish(), self.first_names, self.budget)
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

impl<'c, 'a> TreeCataloger<'c, 'a> {
    pub(super) fn new(all: &'c mut Cataloger<'a>, tree: &Tree<'a>, is_first: bool) -> Self {
        // Most storages are one tensor each.
        let storages = tree.storages.entries();
        let expected = storages.min(all.limits.tensors);
        all.builder.reserve(expected, expected);
        Self {
            all,
            objects: tree.objects,
            storages: tree.storages,
            byte_order: tree.byte_order,
            pickle_at: tree.pickle_at,
            is_first,
            listed: vec![None; storages],
            records: HashMap::new(),
            views: HashMap::new(),
            arrays: HashMap::new(),
            embedded: HashMap::new(),
            next: 0,
        }
    }
}

/// # Adding entries
impl TreeCataloger<'_, '_> {
    /// Adds a tensor that the walk found.
    pub(super) fn add(&mut self, tensor: &Found<'_>, content: Content) -> Result<()> {
        match content {
            Content::Dense(dense) => self.dense(tensor, dense),
            Content::Array(array) => self.array(tensor, &array),
            Content::Storage(id) => match self.outside_tensor(id) {
                Some(dense) => self.dense(tensor, dense),
                None => self.whole_storage(tensor, id),
            },
            Content::Scale(scale) => self.number(tensor, Dtype::F64, scale.to_le_bytes()),
            Content::ZeroPoint(zero) => self.number(tensor, Dtype::I64, zero.to_le_bytes()),
        }
    }

    /// A strided view of a storage.
    fn dense(&mut self, tensor: &Found<'_>, dense: Dense) -> Result<()> {
        let fail = |problem: TensorProblem| Error::tensor(tensor.name, problem);
        let storage = match dense.storage {
            None => None,
            Some(storage) => Some(self.storage(tensor.name, storage)?),
        };
        let torch_dtype = match (dense.dtype, storage) {
            (Some(dtype), _) => dtype,
            (None, Some(storage)) => storage_dtype(storage.kind),
            (None, None) => storage_dtype(StorageType::Untyped),
        };
        if let Some(wanted) = tensor.converted_to.filter(|&wanted| wanted != torch_dtype) {
            return Err(fail(conversion(torch_dtype, wanted)));
        }
        self.check_rank(tensor, dense.shape.len())?;
        let (conjugated, negated, offset) = (dense.conjugated, dense.negated, dense.offset);
        let (dtype, shape, strides) = in_elements(torch_dtype, dense.shape, dense.strides);
        let layout = match strides {
            None => Layout::contiguous(shape),
            Some(strides) => Layout::strided(shape, strides),
        };
        let layout = layout
            .map_err(|error| fail(error.into()))?
            .with_conjugated(conjugated && dtype.is_complex())
            .with_negated(negated);
        let Some(storage) = storage else {
            let record = self.all.absent_record(tensor.name)?;
            return self.entry(tensor, dtype, layout, View::whole(record));
        };
        let first = match layout.elements() {
            // An empty tensor needs no position.
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
        self.entry(tensor, dtype, layout, view)
    }

    /// A storage without a tensor: all of its elements, in one dimension.
    fn whole_storage(&mut self, tensor: &Found<'_>, id: Id) -> Result<()> {
        let storage = self.storage(tensor.name, id)?;
        let dense = Dense {
            storage: Some(id),
            dtype: None,
            offset: 0,
            shape: smallvec![(storage.len / storage.kind.element_bytes()) as usize],
            strides: None,
            requires_grad: false,
            conjugated: false,
            negated: false,
        };
        self.dense(tensor, dense)
    }

    /// A number beside a tensor.
    fn number(&mut self, tensor: &Found<'_>, dtype: Dtype, bytes: [u8; 8]) -> Result<()> {
        let record = self.all.inline(tensor.name, bytes.as_slice().into())?;
        let layout = Layout::contiguous([]);
        let layout = layout.map_err(|error| Error::tensor(tensor.name, error.into()))?;
        self.entry(tensor, dtype, layout, View::whole(record))
    }

    /// A NumPy array.
    fn array(&mut self, tensor: &Found<'_>, array: &Array) -> Result<()> {
        self.check_rank(tensor, array.shape.len())?;
        let own = TorchDtype::Same(array.dtype);
        let dtype = match tensor.converted_to {
            None => array.dtype,
            Some(wanted) if wanted == own => array.dtype,
            // NumPy has no BF16, so PyTorch writes such tensors as F32.
            Some(TorchDtype::Same(Dtype::BF16)) if array.dtype == Dtype::F32 => Dtype::BF16,
            Some(wanted) => return Err(Error::tensor(tensor.name, conversion(own, wanted))),
        };
        let key = (array.bytes, dtype);
        let record = match self.arrays.get(&key) {
            Some(&record) => record,
            None => {
                let record = self.array_record(tensor.name, array, dtype)?;
                self.arrays.insert(key, record);
                record
            }
        };
        let layout = match array.fortran {
            true => Layout::strided(&array.shape, fortran_strides(&array.shape)),
            false => Layout::contiguous(&array.shape),
        };
        let layout = layout.map_err(|error| Error::tensor(tensor.name, error.into()))?;
        let layout = layout.with_byte_order(array.byte_order);
        self.entry(tensor, dtype, layout, View::whole(record))
    }

    fn check_rank(&self, tensor: &Found<'_>, rank: usize) -> Result<()> {
        let limit = self.all.limits.rank;
        match rank > limit {
            true => Err(Error::tensor(
                tensor.name,
                TensorProblem::Rank { rank, limit },
            )),
            false => Ok(()),
        }
    }

    fn entry(
        &mut self,
        tensor: &Found<'_>,
        dtype: Dtype,
        layout: Layout,
        view: View,
    ) -> Result<()> {
        let (name, all) = (tensor.name, &mut *self.all);
        let position = all.builder.len();
        let checks = [
            ("tensors in the file", all.limits.tensors, position + 1),
            ("bytes of a tensor name", all.limits.name_bytes, name.len()),
        ];
        for (what, limit, found) in checks {
            if found > limit {
                return Err(Error::Limit {
                    what,
                    limit: limit as u64,
                    found: found as u64,
                });
            }
        }
        let bytes = ENTRY_BYTES + 2 * name.len() as u64 + 16 * layout.shape().len() as u64;
        all.budget.charge(bytes).map_err(Error::budget)?;
        let added = all.builder.entry(name, dtype, layout.clone(), view);
        let added = match added.map(drop) {
            Err(CatalogError::DuplicateName { .. }) => {
                let name = all.free_name(name);
                all.builder.entry(name, dtype, layout, view).map(drop)
            }
            added => added,
        };
        added.map_err(|error| Error::tensor(name, error.into()))?;
        all.builder.requires_grad(tensor.requires_grad);
        if let Some(id) = tensor.object.filter(|_| self.is_first) {
            all.first_names.push((id, position as u32));
        }
        Ok(())
    }
}

/// The strides of an array that is kept column by column.
fn fortran_strides(shape: &[usize]) -> Sizes {
    let mut stride = 1usize;
    shape
        .iter()
        .map(|&size| {
            let here = stride;
            stride = stride.saturating_mul(size);
            here
        })
        .collect()
}

/// A wrapper asks for another dtype than the file holds, and dtypes are not converted here.
fn conversion(found: TorchDtype, wanted: TorchDtype) -> TensorProblem {
    TensorProblem::Conversion {
        found: found.to_string(),
        wanted: wanted.to_string(),
    }
}
