use std::collections::BTreeMap;

use tensorlift_tensor_meta::Dtype;

use crate::content::{fill_elements, stream};
use crate::elements::{gather, row_major};
use crate::safetensors::SafetensorsOptions;
use crate::torch::{LegacyOptions, ZipOptions};
use crate::{ExpectedTensor, torch};

/// A recipe for a checkpoint: what it holds and how it is written.
///
/// The bytes of the tensors follow from `seed`, so that the same recipe always makes the same
/// checkpoint, and the same tensors in every format.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointSpec {
    /// The tensors, in the order in which they are written.
    pub tensors: Vec<TensorSpec>,
    /// The storages that several tensors view. Tensors without a view have their own.
    pub storages: Vec<SharedStorage>,
    /// The file's metadata; safetensors only.
    pub metadata: BTreeMap<String, String>,
    /// How it is written.
    pub format: Format,
    /// Into how many files; with more than one there is an index file beside them.
    pub shards: usize,
    /// The seed of the bytes.
    pub seed: u64,
}

/// A tensor of a [`CheckpointSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, unique within the recipe.
    pub name: String,
    /// The type of the elements.
    pub dtype: Dtype,
    /// The size of each dimension, in elements.
    pub shape: Vec<usize>,
    /// What it views, or `None` for its own contiguous bytes.
    pub view: Option<StorageView>,
    /// PyTorch's flag.
    pub requires_grad: bool,
    /// Whether PyTorch files hold an `nn.Parameter` in place of a plain tensor.
    pub parameter: bool,
}

/// A storage that several tensors view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedStorage {
    /// The type of its elements, and of all tensors that view it.
    pub dtype: Dtype,
    /// How many there are.
    pub elements: usize,
}

/// How a tensor lies in a [`SharedStorage`]. Written out in full where the format has no views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageView {
    /// The position in [`CheckpointSpec::storages`].
    pub storage: usize,
    /// The first element.
    pub offset: usize,
    /// The distance between neighbours in each dimension, in elements.
    pub strides: Vec<usize>,
    /// PyTorch's lazy conjugate bit; complex types only.
    pub conjugated: bool,
    /// PyTorch's lazy negative bit; float and complex types only.
    pub negated: bool,
}

/// A file format and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors.
    Safetensors(SafetensorsOptions),
    /// What `torch.save` writes since 1.6.
    TorchZip(ZipOptions),
    /// What `torch.save` wrote before.
    TorchLegacy(LegacyOptions),
}

impl Format {
    /// safetensors with the usual options.
    #[must_use]
    pub fn safetensors() -> Self {
        Self::Safetensors(SafetensorsOptions::default())
    }

    /// PyTorch's zip format with the usual options.
    #[must_use]
    pub fn torch_zip() -> Self {
        Self::TorchZip(ZipOptions::default())
    }

    /// PyTorch's legacy format with the usual options.
    #[must_use]
    pub fn torch_legacy() -> Self {
        Self::TorchLegacy(LegacyOptions::default())
    }

    /// Whether a tensor of this dtype can be written so that PyTorch, or safetensors, reads it
    /// back right.
    #[must_use]
    pub fn holds(&self, dtype: Dtype) -> bool {
        match self {
            Self::Safetensors(_) => !matches!(
                dtype,
                Dtype::C32
                    | Dtype::BC32
                    | Dtype::C128
                    | Dtype::QInt8
                    | Dtype::QUInt8
                    | Dtype::QInt32
                    | Dtype::QUInt4x2
                    | Dtype::QUInt2x4
            ),
            Self::TorchZip(options) => torch::holds(dtype, options.byte_order),
            Self::TorchLegacy(_) => torch::legacy_holds(dtype),
        }
    }
}

/// # Describing
impl CheckpointSpec {
    /// A checkpoint without tensors, in one file.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            tensors: Vec::new(),
            storages: Vec::new(),
            metadata: BTreeMap::new(),
            format,
            shards: 1,
            seed: 0,
        }
    }

    /// Adds a tensor with its own contiguous bytes.
    #[must_use]
    pub fn tensor(
        mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: impl Into<Vec<usize>>,
    ) -> Self {
        self.tensors.push(TensorSpec::new(name, dtype, shape));
        self
    }

    /// Adds a second name for the bytes of the tensor `of`.
    ///
    /// # Panics
    /// If there is no such tensor.
    #[must_use]
    pub fn tied(mut self, name: impl Into<String>, of: &str) -> Self {
        let position = self
            .tensors
            .iter()
            .position(|tensor| tensor.name == of)
            .unwrap_or_else(|| panic!("no tensor {of:?} to tie to"));
        if self.tensors[position].view.is_none() {
            let storage = self.storages.len();
            let tensor = &mut self.tensors[position];
            tensor.view = Some(StorageView::new(storage, 0, row_major(&tensor.shape)));
            self.storages.push(SharedStorage {
                dtype: tensor.dtype,
                elements: tensor.elements(),
            });
        }
        let mut tied = self.tensors[position].clone();
        tied.name = name.into();
        self.tensors.push(tied);
        self
    }

    /// Adds a storage for [`view`](Self::view)s; the first one has number 0.
    #[must_use]
    pub fn storage(mut self, dtype: Dtype, elements: usize) -> Self {
        self.storages.push(SharedStorage { dtype, elements });
        self
    }

    /// Adds a tensor that views a storage.
    ///
    /// # Panics
    /// If there is no such storage.
    #[must_use]
    pub fn view(
        mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        view: StorageView,
    ) -> Self {
        let dtype = self.storages[view.storage].dtype;
        let mut tensor = TensorSpec::new(name, dtype, shape);
        tensor.view = Some(view);
        self.tensors.push(tensor);
        self
    }

    /// Adds a line of metadata.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Writes into `shards` files and an index.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Sets the seed of the bytes.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// # Contents
impl CheckpointSpec {
    /// Every tensor with its bytes, in the order in which a reader lists them: shard by shard,
    /// each in file order. Quantized tensors are followed by `<name>.scale` and
    /// `<name>.zero_point`.
    #[must_use]
    pub fn expected(&self) -> Vec<ExpectedTensor> {
        (0..self.shards)
            .flat_map(|shard| {
                let order = match &self.format {
                    Format::Safetensors(_) | Format::TorchLegacy(_) => {
                        self.positions(shard).collect()
                    }
                    Format::TorchZip(options) => torch::listing_order(self, shard, options),
                };
                order.into_iter().map(move |position| (shard, position))
            })
            .flat_map(|(shard, position)| self.expected_of(shard, position))
            .collect()
    }

    /// The tensor at `position`, and what a reader lists beside it.
    fn expected_of(&self, shard: usize, position: usize) -> Vec<ExpectedTensor> {
        let tensor = &self.tensors[position];
        let torch = !matches!(self.format, Format::Safetensors(_));
        let mut expected = vec![ExpectedTensor {
            name: self.listed_name(tensor),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: self.tensor_bytes(position),
            shard,
            requires_grad: torch && tensor.requires_grad,
        }];
        if matches!(torch::kind(tensor.dtype), Some(torch::Kind::Quantized(_))) {
            for (part, dtype, bytes) in [
                ("scale", Dtype::F64, torch::SCALE.to_le_bytes()),
                ("zero_point", Dtype::I64, torch::ZERO_POINT.to_le_bytes()),
            ] {
                expected.push(ExpectedTensor {
                    name: format!("{}.{part}", expected[0].name),
                    dtype,
                    shape: Vec::new(),
                    bytes: bytes.to_vec(),
                    shard,
                    requires_grad: false,
                });
            }
        }
        expected
    }

    /// The row-major bytes of the tensor at `position`.
    #[must_use]
    pub fn tensor_bytes(&self, position: usize) -> Vec<u8> {
        let tensor = &self.tensors[position];
        let (storage, elements) = self.storage_of(position);
        let mut bytes = vec![0; packed_bytes(elements, tensor.dtype)];
        fill_elements(self.stream(storage), tensor.dtype, 0, &mut bytes);
        match &tensor.view {
            None => bytes,
            Some(view) => gather(&bytes, tensor.dtype, &tensor.shape, view),
        }
    }

    /// The bytes of all tensors together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let sizes = self.tensors.iter().map(|tensor| tensor.bytes() as u64);
        sizes.sum()
    }

    /// The name under which a reader lists the tensor.
    fn listed_name(&self, tensor: &TensorSpec) -> String {
        match &self.format {
            Format::TorchZip(options) => match &options.wrapper {
                Some(wrapper) => format!("{wrapper}.{}", tensor.name),
                None => tensor.name.clone(),
            },
            _ => tensor.name.clone(),
        }
    }

    /// The positions of the tensors in a shard: runs of about the same number.
    pub(crate) fn positions(&self, shard: usize) -> std::ops::Range<usize> {
        let count = self.tensors.len();
        shard * count / self.shards..(shard + 1) * count / self.shards
    }

    /// The storage that a tensor views, numbered across shared and own ones, and its elements.
    pub(crate) fn storage_of(&self, position: usize) -> (usize, usize) {
        let tensor = &self.tensors[position];
        match &tensor.view {
            Some(view) => (view.storage, self.storages[view.storage].elements),
            None => (self.storages.len() + position, tensor.elements()),
        }
    }

    /// The seed of the bytes of a storage.
    pub(crate) fn stream(&self, storage: usize) -> u64 {
        stream(self.seed, storage as u64)
    }
}

impl TensorSpec {
    /// A tensor with its own contiguous bytes.
    #[must_use]
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.into(),
            view: None,
            requires_grad: false,
            parameter: false,
        }
    }

    /// The number of elements.
    ///
    /// # Panics
    /// If it overflows.
    #[must_use]
    pub fn elements(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let product = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        product.expect("recipes have shapes that can be counted")
    }

    /// The bytes of all elements without gaps.
    #[must_use]
    pub fn bytes(&self) -> usize {
        packed_bytes(self.elements(), self.dtype)
    }
}

impl StorageView {
    /// A view without lazy bits.
    #[must_use]
    pub fn new(storage: usize, offset: usize, strides: impl Into<Vec<usize>>) -> Self {
        Self {
            storage,
            offset,
            strides: strides.into(),
            conjugated: false,
            negated: false,
        }
    }
}

/// The bytes of `elements` elements, which must fill whole bytes.
pub(crate) fn packed_bytes(elements: usize, dtype: Dtype) -> usize {
    let bits = elements as u64 * dtype.bits();
    assert_eq!(bits % 8, 0, "{elements} elements of {dtype} fill no bytes");
    (bits / 8) as usize
}
