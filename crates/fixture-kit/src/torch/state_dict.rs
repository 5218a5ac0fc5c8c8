use std::collections::{HashMap, HashSet};

use tensorlift_tensor_meta::Dtype;

use super::{Kind, SCALE, ZERO_POINT, kind};
use crate::elements::row_major;
use crate::pickle::Writer;
use crate::{CheckpointSpec, spec::packed_bytes};

/// What holds the tensors in the pickle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Container {
    /// A `dict`.
    #[default]
    Dict,
    /// A `collections.OrderedDict`.
    OrderedDict,
    /// An `OrderedDict` with the attribute `_metadata`, as `module.state_dict()` returns it.
    ModuleState,
}

/// The arguments of a tensor in a pickle, true or not.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPickle {
    /// Module and name of the storage class.
    pub storage: (String, String),
    /// The key of the storage: its file name in the archive.
    pub key: String,
    /// The declared elements of the storage; bytes for untyped ones.
    pub count: i64,
    /// The first element.
    pub offset: i64,
    /// The size of each dimension.
    pub size: Vec<i64>,
    /// The stride of each dimension.
    pub stride: Vec<i64>,
    /// PyTorch's flag.
    pub requires_grad: bool,
    /// The lazy conjugate bit.
    pub conjugated: bool,
    /// The lazy negative bit.
    pub negated: bool,
    /// PyTorch's name of the dtype, where the storage is untyped.
    pub dtype: Option<String>,
    /// Scale and zero point of quantized tensors.
    pub quantized: Option<(f64, i64)>,
    /// Whether it is an `nn.Parameter`.
    pub parameter: bool,
}

impl TensorPickle {
    /// A contiguous float32 tensor over the whole storage `key`.
    #[must_use]
    pub fn float(key: &str, size: &[usize]) -> Self {
        let count = size.iter().product::<usize>() as i64;
        Self {
            storage: ("torch".into(), "FloatStorage".into()),
            key: key.into(),
            count,
            offset: 0,
            size: signed(size),
            stride: signed(&row_major(size)),
            requires_grad: false,
            conjugated: false,
            negated: false,
            dtype: None,
            quantized: None,
            parameter: false,
        }
    }

    /// Pushes the tensor.
    pub fn write(&self, writer: &mut Writer) {
        self.write_with(writer, |writer, tensor| tensor.write_storage(writer));
    }

    /// Pushes the tensor, its storage pushed by `storage`.
    pub fn write_with(&self, writer: &mut Writer, storage: impl FnOnce(&mut Writer, &Self)) {
        if self.parameter {
            writer.global_once("torch._utils", "_rebuild_parameter");
        }
        let function = match (&self.dtype, &self.quantized) {
            (_, Some(_)) => "_rebuild_qtensor",
            (Some(_), None) => "_rebuild_tensor_v3",
            (None, None) => "_rebuild_tensor_v2",
        };
        writer.global_once("torch._utils", function).mark();
        storage(writer, self);
        writer.int(self.offset);
        for values in [&self.size, &self.stride] {
            writer.mark();
            for &value in values {
                writer.int(value);
            }
            writer.tuple();
        }
        if let Some((scale, zero_point)) = self.quantized {
            writer.global_once("torch", "per_tensor_affine");
            writer.float(scale).int(zero_point).tuple_of(3);
        }
        // The tensor inside a parameter says no, the parameter says yes.
        writer.bool(self.requires_grad && !self.parameter);
        empty_hooks(writer);
        if let Some(dtype) = &self.dtype {
            writer.global_once("torch", dtype);
        }
        if self.conjugated || self.negated {
            writer.empty_dict().mark();
            for (bit, set) in [("conj", self.conjugated), ("neg", self.negated)] {
                if set {
                    writer.text(bit).bool(true);
                }
            }
            writer.set_items();
        }
        writer.tuple().reduce();
        if self.parameter {
            writer.bool(self.requires_grad);
            empty_hooks(writer);
            writer.tuple_of(3).reduce();
        }
    }

    /// Pushes the storage.
    pub fn write_storage(&self, writer: &mut Writer) {
        writer.mark().text_once("storage");
        writer.global_once(&self.storage.0, &self.storage.1);
        writer.text_once(&self.key).text_once("cpu").int(self.count);
        writer.tuple().persistent_id();
    }
}

/// The pickle of a shard.
pub(crate) struct StateDict<'a> {
    pub(crate) spec: &'a CheckpointSpec,
    pub(crate) shard: usize,
    pub(crate) container: Container,
    pub(crate) nested: bool,
    pub(crate) wrapper: Option<&'a str>,
    pub(crate) extras: bool,
    pub(crate) legacy: bool,
}

/// The storages of a shard in the order of their first use, by key.
pub(crate) type Keys = Vec<(String, StoredStorage)>;

/// A storage that a shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredStorage {
    pub(crate) number: usize,
    pub(crate) dtype: Dtype,
    pub(crate) elements: usize,
}

impl StoredStorage {
    pub(crate) fn bytes(self) -> usize {
        packed_bytes(self.elements, self.dtype)
    }
}

enum Node {
    Tensor(usize),
    Branch(Vec<(String, Node)>),
}

impl StateDict<'_> {
    /// The pickle and the storages it refers to.
    pub(crate) fn pickle(&self, protocol: u8) -> (Vec<u8>, Keys) {
        let mut writer = Writer::new(protocol);
        let mut storages = Storages::default();
        if let Some(wrapper) = self.wrapper {
            writer.empty_dict().memoize();
            writer.mark().text("epoch").int(3).text(wrapper);
        }
        self.branch(&mut writer, &self.tree(), &mut storages, true);
        if self.wrapper.is_some() {
            writer.text("lr").float(1e-3).set_items();
        }
        (writer.finish(), storages.keys)
    }

    /// The positions of the tensors, depth first.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut pending: Vec<Node> = self
            .tree()
            .into_iter()
            .rev()
            .map(|(_, node)| node)
            .collect();
        while let Some(node) = pending.pop() {
            match node {
                Node::Tensor(position) => order.push(position),
                Node::Branch(nodes) => {
                    pending.extend(nodes.into_iter().rev().map(|(_, node)| node));
                }
            }
        }
        order
    }

    fn tree(&self) -> Vec<(String, Node)> {
        let tensors = &self.spec.tensors[self.spec.positions(self.shard)];
        let names: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        // Where a tensor has the name that a container would need, the dots stay in the key.
        let blocked = |name: &str| {
            let mut dots = name.match_indices('.');
            dots.any(|(dot, _)| names.contains(&name[..dot]))
        };
        let mut root = Vec::new();
        for position in self.spec.positions(self.shard) {
            let name = &self.spec.tensors[position].name;
            if self.nested && !blocked(name) {
                insert(&mut root, name, position);
            } else {
                root.push((name.clone(), Node::Tensor(position)));
            }
        }
        root
    }

    fn branch(
        &self,
        writer: &mut Writer,
        nodes: &[(String, Node)],
        storages: &mut Storages,
        root: bool,
    ) {
        match self.container {
            Container::Dict => writer.empty_dict(),
            Container::OrderedDict | Container::ModuleState => ordered_dict(writer),
        };
        writer.memoize();
        writer.mark();
        for (index, (key, node)) in nodes.iter().enumerate() {
            writer.text(key);
            match node {
                Node::Branch(nodes) => self.branch(writer, nodes, storages, false),
                Node::Tensor(position) => {
                    self.tensor(*position, storages)
                        .write_with(writer, |writer, tensor| {
                            self.storage(writer, tensor);
                        });
                }
            }
            if self.extras && root && index == 0 {
                writer.text("__extras__").empty_list().mark();
                writer.int(3).float(0.5).text("text").none().bool(true);
                writer.long(&[255; 9]).empty_tuple().appends();
            }
        }
        writer.set_items();
        if self.container == Container::ModuleState && root {
            writer.empty_dict().text("_metadata");
            ordered_dict(writer).text("").empty_dict();
            writer.text("version").int(1).op(b's').op(b's').op(b's');
            writer.build();
        }
    }

    fn storage(&self, writer: &mut Writer, tensor: &TensorPickle) {
        if !self.legacy {
            return tensor.write_storage(writer);
        }
        // Legacy ids end with view metadata, which is None in every file of the last years.
        writer.mark().text_once("storage");
        writer.global_once(&tensor.storage.0, &tensor.storage.1);
        writer.text_once(&tensor.key).text_once("cpu");
        writer.int(tensor.count).none().tuple().persistent_id();
    }

    fn tensor(&self, position: usize, storages: &mut Storages) -> TensorPickle {
        let tensor = &self.spec.tensors[position];
        let dtype = tensor.dtype;
        let (number, elements) = self.spec.storage_of(position);
        let stored = StoredStorage {
            number,
            dtype,
            elements,
        };
        let kind = kind(dtype).unwrap_or_else(|| panic!("PyTorch cannot hold {dtype}"));
        let (storage, name, count) = match kind {
            Kind::Typed(class) | Kind::Quantized(class) => (("torch", class), None, elements),
            Kind::Untyped(name) => {
                let class = ("torch.storage", "UntypedStorage");
                (class, Some(name.to_owned()), stored.bytes())
            }
        };
        let mut shape = tensor.shape.clone();
        if dtype == Dtype::F4 {
            // PyTorch counts pairs.
            *shape.last_mut().expect("F4 tensors have a dimension") /= 2;
        }
        let (offset, strides, conjugated, negated) = match &tensor.view {
            None => (0, row_major(&shape), false, false),
            Some(view) => (
                view.offset,
                view.strides.clone(),
                view.conjugated,
                view.negated,
            ),
        };
        TensorPickle {
            storage: (storage.0.to_owned(), storage.1.to_owned()),
            key: storages.key(stored, self.legacy),
            count: count as i64,
            offset: offset as i64,
            size: signed(&shape),
            stride: signed(&strides),
            requires_grad: tensor.requires_grad,
            conjugated,
            negated,
            dtype: name,
            quantized: matches!(kind, Kind::Quantized(_)).then_some((SCALE, ZERO_POINT)),
            parameter: tensor.parameter,
        }
    }
}

#[derive(Default)]
struct Storages {
    by_number: HashMap<usize, usize>,
    keys: Keys,
}

impl Storages {
    fn key(&mut self, storage: StoredStorage, legacy: bool) -> String {
        let next = self.keys.len();
        let index = *self.by_number.entry(storage.number).or_insert(next);
        if index == next {
            // Legacy keys are addresses.
            let key = if legacy {
                format!("{}", 94_650_000_000_000 + 64 * (next * 7919 % 10_007))
            } else {
                next.to_string()
            };
            self.keys.push((key, storage));
        }
        self.keys[index].0.clone()
    }
}

/// Puts a tensor under its name, split at the dots.
fn insert(root: &mut Vec<(String, Node)>, name: &str, position: usize) {
    let segments: Vec<&str> = name.split('.').collect();
    let (last, path) = segments.split_last().expect("split yields one at least");
    let mut nodes = root;
    for segment in path {
        let index = nodes.iter().position(|(key, _)| key == segment);
        let index = index.unwrap_or_else(|| {
            nodes.push(((*segment).to_owned(), Node::Branch(Vec::new())));
            nodes.len() - 1
        });
        let Node::Branch(branch) = &mut nodes[index].1 else {
            unreachable!("no tensor has the name of a container");
        };
        nodes = branch;
    }
    nodes.push(((*last).to_owned(), Node::Tensor(position)));
}

fn ordered_dict(writer: &mut Writer) -> &mut Writer {
    writer.global_once("collections", "OrderedDict");
    writer.empty_tuple().reduce()
}

fn empty_hooks(writer: &mut Writer) {
    ordered_dict(writer);
}

fn signed(values: &[usize]) -> Vec<i64> {
    let signed = values.iter().map(|&value| i64::try_from(value));
    signed
        .collect::<Result<_, _>>()
        .expect("sizes fit into i64")
}
