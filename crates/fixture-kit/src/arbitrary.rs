use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tensorlift_tensor_meta::{ByteOrder, Dtype};

use crate::safetensors::SafetensorsOptions;
use crate::torch::{ByteOrderRecord, Container, LegacyOptions, ZipOptions};
use crate::{CheckpointSpec, Format, SharedStorage, StorageView, TensorSpec};

/// Any legal checkpoint of a few small tensors in safetensors or PyTorch's zip format: all
/// dtypes of the format, scalars and empty tensors, odd names, shared and strided storages,
/// several shards, every option.
pub fn arbitrary_spec() -> impl Strategy<Value = CheckpointSpec> {
    prop_oneof![safetensors(), torch_zip()].prop_flat_map(arbitrary_spec_of)
}

/// [`arbitrary_spec`] in one format.
pub fn arbitrary_spec_of(format: Format) -> impl Strategy<Value = CheckpointSpec> {
    let dtypes: Vec<Dtype> = Dtype::ALL
        .iter()
        .copied()
        .filter(|&dtype| format.holds(dtype))
        .collect();
    let shared: Vec<Dtype> = dtypes
        .iter()
        .copied()
        .filter(|dtype| dtype.byte_len().is_some())
        .collect();
    let storages = vec((prop::sample::select(shared), 0..40usize), 0..4);
    let tensors = vec(draft(dtypes), 1..10);
    let metadata = match format {
        Format::Safetensors(_) => btree_map(any::<String>(), any::<String>(), 0..4).boxed(),
        _ => Just(BTreeMap::new()).boxed(),
    };
    let head = (Just(format), metadata, 1..4usize, any::<u64>());
    (head, storages, tensors).prop_map(|((format, metadata, shards, seed), storages, drafts)| {
        let mut spec = CheckpointSpec::new(format).shards(shards).seed(seed);
        spec.metadata = metadata;
        spec.storages = storages
            .into_iter()
            .map(|(dtype, elements)| SharedStorage { dtype, elements })
            .collect();
        let mut names = BTreeSet::new();
        for draft in drafts {
            if names.insert(draft.name.clone()) {
                let tensor = draft.tensor(&spec.storages);
                spec.tensors.push(tensor);
            }
        }
        // A file without a tensor is not a checkpoint.
        spec.shards = spec.shards.min(spec.tensors.len());
        spec
    })
}

/// Any legal options of safetensors.
fn safetensors() -> impl Strategy<Value = Format> {
    let options = (
        prop::sample::select(vec![1, 8, 64, 4096]),
        0..20usize,
        any::<bool>(),
        any::<bool>(),
    );
    options.prop_map(|(alignment, extra_spaces, reversed_header, odd_json)| {
        Format::Safetensors(SafetensorsOptions {
            alignment,
            extra_spaces,
            reversed_header,
            odd_json,
        })
    })
}

/// Any legal options of PyTorch's zip format.
fn torch_zip() -> impl Strategy<Value = Format> {
    let root = prop_oneof![
        3 => Just("archive".to_owned()),
        3 => "[a-zA-Z0-9_]{1,120}",
        1 => "\\PC{1,30}".prop_map(|text| text.replace(['/', '\\'], "_"))
            .prop_filter("a folder name", |text| text != "." && text != ".."),
    ];
    let container = prop_oneof![
        Just(Container::Dict),
        Just(Container::OrderedDict),
        Just(Container::ModuleState),
    ];
    let layout = (root, container, any::<bool>(), any::<bool>(), 2..=5u8);
    let alignment = prop::sample::select(vec![0, 1, 8, 64, 4096]);
    let archive = (
        alignment,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        any::<bool>(),
        any::<bool>(),
    );
    (layout, archive).prop_map(|(layout, archive)| {
        let (root, container, nested, extras, protocol) = layout;
        let (alignment, deflated, big, byte_order_record, format_records) = archive;
        Format::TorchZip(ZipOptions {
            root,
            container,
            nested,
            wrapper: None,
            extras,
            protocol,
            alignment,
            deflated,
            byte_order: if big {
                ByteOrder::Big
            } else {
                ByteOrder::Little
            },
            byte_order_record: if big || byte_order_record {
                ByteOrderRecord::Honest
            } else {
                ByteOrderRecord::Absent
            },
            format_records,
        })
    })
}

impl Arbitrary for LegacyOptions {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let container = prop_oneof![Just(Container::Dict), Just(Container::OrderedDict)];
        (container, 2..=3u8, any::<bool>())
            .prop_map(|(container, protocol, reversed_keys)| Self {
                container,
                protocol,
                reversed_keys,
            })
            .boxed()
    }
}

/// Numbers from which a tensor is made once it is known which storages there are.
#[derive(Clone, Debug)]
struct Draft {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    storage: prop::sample::Index,
    shared: bool,
    offset: prop::sample::Index,
    strides: Vec<usize>,
    bits: (bool, bool),
    requires_grad: bool,
    parameter: bool,
}

fn draft(dtypes: Vec<Dtype>) -> impl Strategy<Value = Draft> {
    let name = prop_oneof![
        6 => "[a-z]{1,6}(\\.[a-z0-9_]{1,6}){0,3}",
        1 => "[a-c]{1,2}(\\.[a-c]{0,1}){0,3}",
        1 => any::<String>(),
    ]
    .prop_filter("reserved", |name| {
        name != "__metadata__" && name != "__extras__" && !name.starts_with("__extras__.")
    });
    let shape = prop_oneof![
        1 => Just(Vec::new()),
        6 => vec(0..6usize, 1..4),
        2 => vec(1..3usize, 4..7),
        1 => vec(200..2000usize, 1),
    ];
    let body = (name, prop::sample::select(dtypes), shape);
    let view = (
        any::<prop::sample::Index>(),
        prop::bool::weighted(0.4),
        any::<prop::sample::Index>(),
        vec(0..9usize, 6),
        (prop::bool::weighted(0.3), prop::bool::weighted(0.3)),
    );
    (body, view, any::<bool>(), any::<bool>()).prop_map(
        |((name, dtype, shape), (storage, shared, offset, strides, bits), grad, parameter)| Draft {
            name,
            dtype,
            shape,
            storage,
            shared,
            offset,
            strides,
            bits,
            requires_grad: grad,
            parameter,
        },
    )
}

impl Draft {
    fn tensor(self, storages: &[SharedStorage]) -> TensorSpec {
        let mut tensor = if self.shared && !storages.is_empty() {
            let storage = self.storage.index(storages.len());
            self.viewing(storage, storages[storage])
        } else {
            let mut shape = self.shape;
            if self.dtype.byte_len().is_none() {
                // Rows of 8 fill whole bytes whatever the width; a scalar cannot.
                match shape.last_mut() {
                    Some(last) => *last = last.next_multiple_of(8),
                    None => shape.push(8),
                }
            }
            TensorSpec::new(self.name, self.dtype, shape)
        };
        let trains = is_float(tensor.dtype);
        tensor.requires_grad = self.requires_grad && trains;
        tensor.parameter = self.parameter && trains;
        tensor
    }

    /// A view that stays within the storage: dimensions shrink until it does.
    fn viewing(&self, storage: usize, shared: SharedStorage) -> TensorSpec {
        let offset = self.offset.index(shared.elements + 1);
        let mut room = (shared.elements - offset).saturating_sub(1);
        let mut shape = self.shape.clone();
        let strides: Vec<usize> = self
            .strides
            .iter()
            .copied()
            .cycle()
            .take(shape.len())
            .collect();
        for (size, &stride) in shape.iter_mut().zip(&strides) {
            if *size > 1 && stride > 0 {
                *size = (*size).min(1 + room / stride);
                room -= (*size - 1) * stride;
            }
        }
        if offset == shared.elements {
            // No elements are left at the end of the storage.
            match shape.first_mut() {
                Some(first) => *first = 0,
                None => shape.push(0),
            }
        }
        let strides = strides.into_iter().chain([1]).take(shape.len());
        let mut view = StorageView::new(storage, offset, strides.collect::<Vec<_>>());
        view.conjugated = self.bits.0 && matches!(shared.dtype, Dtype::C64 | Dtype::C128);
        view.negated = self.bits.1 && has_sign(shared.dtype);
        let mut tensor = TensorSpec::new(self.name.clone(), shared.dtype, shape);
        tensor.view = Some(view);
        tensor
    }
}

fn is_float(dtype: Dtype) -> bool {
    let floats = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64];
    floats.contains(&dtype) || matches!(dtype, Dtype::C64 | Dtype::C128)
}

/// The types for which PyTorch sets its negative bit.
fn has_sign(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::C64 | Dtype::C128)
}
