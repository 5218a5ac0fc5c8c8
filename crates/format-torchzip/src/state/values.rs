//! Objects as values: known ones in a plain form, others by their contents.

use std::collections::{BTreeMap, HashMap};

use serde_pickle::{HashableValue, Value};

use crate::error::{Error, Result};
use crate::pickle::globals::Known;
use crate::pickle::{Arena, DescriptionBudget, Id, Node, Object, display_text, latin1_bytes};
use crate::tensors::numpy::{self, Number};
use crate::tensors::objects::Objects;
use crate::tensors::rebuild::{Quantizer, TensorKind};
use crate::tensors::text::{decimal, push_key_text};

/// The nesting of a value; dropping one recurses, so it is bounded.
const MAX_DEPTH: usize = 256;
/// The memory of a value, in bytes.
const VALUE_BYTES: u64 = size_of::<Value>() as u64;
/// The memory of a pair of a dict: the nodes of a map that is filled in order are half empty.
const PAIR_BYTES: u64 = 2 * (size_of::<HashableValue>() as u64 + VALUE_BYTES);
/// The memory of a dict: a node with room for eleven pairs.
const DICT_BYTES: u64 = 11 * PAIR_BYTES / 2 + BLOCK_BYTES;
/// The allocator's overhead for a text or a list.
const BLOCK_BYTES: u64 = 16;

pub(super) struct ValueBuilder<'a> {
    objects: Objects<'a>,
    names: &'a HashMap<Id, &'a str>,
    budget: DescriptionBudget,
    nodes_left: usize,
    nodes: usize,
    /// The containers around the current node.
    path: Vec<Id>,
}

type Dict = BTreeMap<HashableValue, Value>;

impl<'a> ValueBuilder<'a> {
    /// Builds at most `nodes` objects, shared ones each time they are met, in `memory` bytes.
    pub(super) fn new(
        objects: Objects<'a>,
        names: &'a HashMap<Id, &'a str>,
        nodes: usize,
        memory: u64,
    ) -> Self {
        Self {
            objects,
            names,
            budget: DescriptionBudget::for_file(memory, 0),
            nodes_left: nodes,
            nodes,
            path: Vec::new(),
        }
    }

    pub(super) fn value(&mut self, id: Id) -> Result<Value> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(Error::Limit {
            what: "objects of the state",
            limit: self.nodes as u64,
            found: self.nodes as u64 + 1,
        })?;
        let arena = self.objects.arena;
        Ok(match arena.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(value) => Value::I64(value),
            Node::Float(value) => Value::F64(value),
            Node::BigInt(span) | Node::BigText(span) => {
                // The digits of a long integer take time that grows faster than its bytes.
                self.spend(64 * u64::from(span.len))?;
                Value::String(decimal(&self.objects, id).unwrap_or_default())
            }
            Node::Text(span) => {
                self.spend(BLOCK_BYTES + u64::from(span.len))?;
                let text = display_text(arena.bytes(self.objects.pickle, span));
                Value::String(text.into_owned())
            }
            Node::Str8(span) => {
                self.spend(BLOCK_BYTES + u64::from(span.len))?;
                let bytes = arena.bytes(self.objects.pickle, span);
                match std::str::from_utf8(bytes) {
                    Ok(text) => Value::String(text.to_owned()),
                    Err(_) => Value::Bytes(bytes.to_vec()),
                }
            }
            Node::Bytes(span) => {
                self.spend(BLOCK_BYTES + u64::from(span.len))?;
                Value::Bytes(arena.bytes(self.objects.pickle, span).to_vec())
            }
            Node::Global(number) => self.text(arena.global_at(number).path())?,
            Node::Persistent(_) => match (arena.as_global(id), self.names.get(&id)) {
                (Some(class), _) => self.text(class.path())?,
                (None, Some(name)) => self.tensor_leaf(name)?,
                (None, None) => Value::None,
            },
            _ => self.container(id)?,
        })
    }

    fn container(&mut self, id: Id) -> Result<Value> {
        if self.path.contains(&id) {
            let kind = self.text(self.objects.arena.type_name(id))?;
            return self.dict([("$cycle", kind)]);
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(Error::State(format!(
                "it nests deeper than {MAX_DEPTH} objects"
            )));
        }
        self.path.push(id);
        let arena = self.objects.arena;
        let value = match arena.node(id) {
            Node::Tuple { start, len } => Value::Tuple(self.list(arena.members(start, len))?),
            Node::List(seq) => Value::List(self.list(arena.seq(seq))?),
            Node::Set(seq) => self.set(arena.seq(seq))?,
            Node::Dict(seq) => {
                self.spend(DICT_BYTES)?;
                let mut dict = Dict::new();
                self.add_pairs(arena.seq(seq), &mut dict)?;
                Value::Dict(dict)
            }
            Node::Object(number) => {
                let object = *arena.object_at(number);
                let known = arena.known(object.class);
                match self.plain_object(id, &object, known)? {
                    Some(value) => value,
                    None => self.opaque(id, &object)?,
                }
            }
            _ => Value::None,
        };
        self.path.pop();
        Ok(value)
    }

    fn list(&mut self, ids: &[Id]) -> Result<Vec<Value>> {
        self.spend(BLOCK_BYTES + ids.len() as u64 * VALUE_BYTES)?;
        let mut values = Vec::with_capacity(ids.len());
        for &id in ids {
            values.push(self.value(id)?);
        }
        Ok(values)
    }

    /// A set, or a list where an element cannot be in a set here.
    fn set(&mut self, ids: &[Id]) -> Result<Value> {
        self.spend(DICT_BYTES)?;
        // Until it is built, its elements exist twice.
        self.spend(ids.len() as u64 * PAIR_BYTES)?;
        let values = self.list(ids)?;
        let hashable: Result<_, _> = values.iter().cloned().map(Value::into_hashable).collect();
        Ok(match hashable {
            Ok(set) => Value::Set(set),
            Err(_) => Value::List(values),
        })
    }

    fn add_pairs(&mut self, pairs: &[Id], dict: &mut Dict) -> Result<()> {
        let mut taken = HashMap::new();
        for pair in pairs.chunks_exact(2) {
            self.spend(PAIR_BYTES)?;
            let key = match self.value(pair[0])?.into_hashable() {
                Ok(key) => key,
                Err(_) => {
                    let mut text = String::new();
                    push_key_text(&self.objects, pair[0], 0, 256, &mut text);
                    free_key(text, dict, &mut taken)
                }
            };
            let value = self.value(pair[1])?;
            dict.insert(key, value);
        }
        Ok(())
    }

    /// Objects whose meaning is known, in a plain form.
    fn plain_object(&mut self, id: Id, object: &Object, known: Known) -> Result<Option<Value>> {
        if let Some(&name) = self.names.get(&id) {
            return self.tensor(id, name).map(Some);
        }
        let Objects { arena, pickle } = self.objects;
        let args = arena.tuple_items(object.args).unwrap_or(&[]);
        Ok(Some(match (known, args) {
            (Known::Size, &[sizes]) => match arena.items(sizes) {
                Some(sizes) => Value::Tuple(self.list(sizes)?),
                None => return Ok(None),
            },
            (Known::Size, []) => Value::Tuple(Vec::new()),
            (Known::Deque, args) => {
                let mut values = Vec::new();
                if let Some(items) = args.first().and_then(|&items| arena.items(items)) {
                    values.extend(self.list(items)?);
                }
                values.extend(self.list(arena.seq(object.list))?);
                Value::List(values)
            }
            (Known::Device, args) => self.text(self.joined(args, ":"))?,
            (Known::TextLike, args) => self.text(self.joined(args, "/"))?,
            (Known::GetLayout, _) => match self.objects.layout_name(id) {
                Some(name) => Value::String(format!("torch.{name}")),
                None => return Ok(None),
            },
            (Known::Complex, &[real, imaginary]) => {
                Value::Tuple(vec![self.value(real)?, self.value(imaginary)?])
            }
            (Known::Encode | Known::Bytearray, args) => match self.encoded(id, args)? {
                Some(bytes) => Value::Bytes(bytes),
                None => return Ok(None),
            },
            (Known::NumpyScalar, &[dtype, bytes]) => match self.scalar(dtype, bytes)? {
                Some(number) => number,
                None => return Ok(None),
            },
            (Known::NumpyDtype, &[code, ..]) => match arena.string_bytes(pickle, code) {
                Some(code) => self.text(display_text(code).into_owned())?,
                None => return Ok(None),
            },
            _ => return self.parts(id),
        }))
    }

    /// A tensor that has no entry of its own, but parts that have.
    fn parts(&mut self, id: Id) -> Result<Option<Value>> {
        let Ok(Some(tensor)) = self.objects.tensor(id) else {
            return Ok(None);
        };
        let TensorKind::Parts(parts) = tensor.kind else {
            return Ok(None);
        };
        let mut dict = Dict::new();
        self.spend(DICT_BYTES)?;
        for (name, part) in parts {
            let value = self.value(part)?;
            dict.insert(HashableValue::String(name.to_owned()), value);
        }
        let class = self.text(self.objects.arena.type_name(id))?;
        dict.insert(HashableValue::String("$class".to_owned()), class);
        Ok(Some(Value::Dict(dict)))
    }

    fn tensor(&mut self, id: Id, name: &str) -> Result<Value> {
        if let Ok(Some(tensor)) = self.objects.tensor(id)
            && let TensorKind::Quantized(_, Quantizer::PerTensor { scale, zero_point }) =
                tensor.kind
        {
            return self.dict([
                ("$tensor", Value::String(name.to_owned())),
                ("scale", Value::F64(scale)),
                ("zero_point", Value::I64(zero_point)),
            ]);
        }
        self.tensor_leaf(name)
    }

    fn tensor_leaf(&mut self, name: &str) -> Result<Value> {
        self.spend(BLOCK_BYTES + name.len() as u64)?;
        self.dict([("$tensor", Value::String(name.to_owned()))])
    }

    /// An object of any class: its contents and its class.
    fn opaque(&mut self, id: Id, object: &Object) -> Result<Value> {
        let arena = self.objects.arena;
        self.spend(DICT_BYTES)?;
        let mut dict = Dict::new();
        self.add_pairs(arena.seq(object.dict), &mut dict)?;
        let mut pending: Vec<Id> = arena.states(object).rev().collect();
        while let Some(state) = pending.pop() {
            match (arena.node(state), arena.tuple_items(state)) {
                (Node::Dict(seq), _) => self.add_pairs(arena.seq(seq), &mut dict)?,
                (_, Some(&[first, second]))
                    if pending.len() < 64 && is_slots(arena, first) && is_slots(arena, second) =>
                {
                    pending.extend([second, first]);
                }
                (Node::None, _) => {}
                _ => {
                    let value = self.value(state)?;
                    dict.insert(HashableValue::String("$state".to_owned()), value);
                }
            }
        }
        let mut add = |key: &str, value: Value| {
            dict.insert(HashableValue::String(key.to_owned()), value);
        };
        add("$class", self.text(arena.type_name(id))?);
        let args = arena.tuple_items(object.args).unwrap_or(&[]);
        if !args.is_empty() {
            add("$args", Value::List(self.list(args)?));
        }
        let items = arena.seq(object.list);
        if !items.is_empty() {
            add("$items", Value::List(self.list(items)?));
        }
        Ok(Value::Dict(dict))
    }

    /// Texts and integers as one text.
    fn joined(&self, args: &[Id], between: &str) -> String {
        let mut text = String::new();
        for (number, &arg) in args.iter().enumerate() {
            // A path begins with its root, which is the separator itself.
            if number > 0 && !text.ends_with(between) {
                text.push_str(between);
            }
            push_key_text(&self.objects, arg, 0, 1 << 16, &mut text);
        }
        text
    }

    fn encoded(&mut self, id: Id, args: &[Id]) -> Result<Option<Vec<u8>>> {
        let Objects { arena, pickle } = self.objects;
        let mut bytes = Vec::new();
        if args.is_empty() {
            return Ok(Some(bytes));
        }
        if let Node::Bytes(span) | Node::Str8(span) = arena.node(args[0]) {
            self.spend(BLOCK_BYTES + u64::from(span.len))?;
            bytes.extend_from_slice(arena.bytes(pickle, span));
            return Ok(Some(bytes));
        }
        let text = numpy::encoded_text(&self.objects, id);
        let Some(text) = text.and_then(|text| arena.string_bytes(pickle, text)) else {
            return Ok(None);
        };
        self.spend(text.len() as u64)?;
        Ok(latin1_bytes(text, &mut bytes).map(|()| bytes))
    }

    fn scalar(&mut self, dtype: Id, bytes: Id) -> Result<Option<Value>> {
        let Some((dtype, order)) = numpy::plain_dtype(&self.objects, dtype) else {
            return Ok(None);
        };
        let Objects { arena, pickle } = self.objects;
        let raw = match (arena.string_bytes(pickle, bytes), arena.as_object(bytes)) {
            (Some(raw), _) => Some(raw.to_vec()),
            (None, Some((object, _))) => {
                let args = arena.tuple_items(object.args).unwrap_or(&[]);
                self.encoded(bytes, args)?
            }
            _ => None,
        };
        let number = raw.and_then(|raw| numpy::number(dtype, order, &raw));
        Ok(number.map(|number| match number {
            Number::Bool(value) => Value::Bool(value),
            Number::Int(value) => Value::I64(value),
            Number::Unsigned(value) => Value::String(value.to_string()),
            Number::Float(value) => Value::F64(value),
            Number::Complex(real, imaginary) => {
                Value::Tuple(vec![Value::F64(real), Value::F64(imaginary)])
            }
        }))
    }

    fn dict<const N: usize>(&mut self, pairs: [(&str, Value); N]) -> Result<Value> {
        self.spend(DICT_BYTES)?;
        let pairs = pairs.map(|(key, value)| (HashableValue::String(key.to_owned()), value));
        Ok(Value::Dict(Dict::from(pairs)))
    }

    /// A text that can be longer than its source in the pickle.
    fn text(&mut self, text: String) -> Result<Value> {
        self.spend(BLOCK_BYTES + text.len() as u64)?;
        Ok(Value::String(text))
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.budget.charge(bytes).map_err(Error::budget)
    }
}

/// The text of a key that cannot be represented, with a number appended if it is taken.
fn free_key(text: String, dict: &Dict, taken: &mut HashMap<String, u32>) -> HashableValue {
    let mut key = HashableValue::String(text.clone());
    if dict.contains_key(&key) {
        let number = taken.entry(text.clone()).or_insert(1);
        while dict.contains_key(&key) {
            *number += 1;
            key = HashableValue::String(format!("{text}#{number}"));
        }
    }
    key
}

fn is_slots(arena: &Arena, id: Id) -> bool {
    matches!(
        arena.node(id),
        Node::None | Node::Dict(_) | Node::Tuple { .. }
    )
}
