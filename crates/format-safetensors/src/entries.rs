//! The entries of a header, each checked as it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Pair;

use safetensors::Dtype as FormatDtype;
use serde::Deserialize;
use serde::de::{IntoDeserializer, value::Error as ValueError};
use tensorlift_tensor_meta::{
    Catalog, CatalogBuilder, CatalogError, Dtype, Entry, Extent, Layout, LayoutError, Limits,
    Record, ShardId, View,
};

use crate::Error;
use crate::tokens::Tokens;

/// The length of a short description of a tensor; an estimate that only saves reallocation.
const ENTRY_BYTES: usize = 80;

/// The entries of a header that is being read.
pub(crate) struct Entries<'a> {
    limits: &'a Limits,
    /// Where the tensors' bytes begin in the file.
    first_byte: u64,
    pub(crate) builder: CatalogBuilder,
    last_dtype: Option<(Box<str>, Dtype)>,
    /// Reused for each tensor; no longer than the limit.
    shape: Vec<usize>,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(limits: &'a Limits, first_byte: u64) -> Self {
        let mut builder = Catalog::builder();
        let expected = (first_byte as usize / ENTRY_BYTES).min(limits.tensors);
        builder.reserve(expected, expected);
        Self {
            limits,
            first_byte,
            builder,
            last_dtype: None,
            shape: Vec::new(),
        }
    }

    pub(crate) fn read(&mut self, tokens: &mut Tokens<'_>) -> Result<(), Error> {
        let mut has_metadata = false;
        tokens.map(|tokens, name| {
            if name != "__metadata__" {
                return self.tensor(tokens, &name);
            }
            match std::mem::replace(&mut has_metadata, true) {
                true => Err(repeated(tokens, &name)),
                false => self.metadata(tokens),
            }
        })?;
        tokens.end()
    }

    /// Reads the description of a tensor.
    fn tensor(&mut self, tokens: &mut Tokens<'_>, name: &str) -> Result<(), Error> {
        let (mut dtype, mut rank, mut offsets) = (None, None, None);
        tokens.map(|tokens, field| {
            let again = match &*field {
                "dtype" => dtype.replace(tokens.text()?).is_some(),
                "shape" => rank.replace(self.read_shape(tokens)?).is_some(),
                "data_offsets" => offsets.replace(read_pair(tokens)?).is_some(),
                _ => tokens.unknown().map(|()| false)?,
            };
            match again {
                true => Err(repeated(tokens, &field)),
                false => Ok(()),
            }
        })?;
        let missing = |field: &'static str| Error::MissingField {
            at: tokens.at(),
            tensor: self.shown(name),
            field,
        };
        let dtype: Cow<'_, str> = dtype.ok_or_else(|| missing("dtype"))?;
        let rank = rank.ok_or_else(|| missing("shape"))?;
        let offsets = offsets.ok_or_else(|| missing("data_offsets"))?;
        self.check_limits(name, rank)?;
        let dtype = self.dtype(name, &dtype)?;
        self.add(name, dtype, offsets)
    }

    /// Keeps no more dimensions than the limit, and returns how many there are.
    fn read_shape(&mut self, tokens: &mut Tokens<'_>) -> Result<usize, Error> {
        self.shape.clear();
        let mut rank = 0;
        tokens.list(|tokens| {
            rank += 1;
            let size = tokens.number()?;
            if rank <= self.limits.rank {
                // More elements than an address can count are found by the check of the product.
                self.shape.push(usize::try_from(size).unwrap_or(usize::MAX));
            }
            Ok(())
        })?;
        Ok(rank)
    }

    fn check_limits(&self, name: &str, rank: usize) -> Result<(), Error> {
        let limits = self.limits;
        for (what, found, limit) in [
            ("number of tensors", self.builder.len() + 1, limits.tensors),
            ("dimensions", rank, limits.rank),
            ("bytes of the name", name.len(), limits.name_bytes),
        ] {
            if found > limit {
                // A name that is too long is not shown.
                let tensor = (name.len() <= limits.name_bytes).then(|| name.to_owned());
                return Err(Error::Limit {
                    tensor,
                    what,
                    found,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Adds a tensor of the shape that was read last.
    fn add(&mut self, name: &str, dtype: Dtype, (begin, end): (u64, u64)) -> Result<(), Error> {
        let shape = &self.shape;
        // A zero does not save a product that overflows before it: the reference implementation
        // multiplies in this order.
        let product = |product: usize, &size: &usize| product.checked_mul(size);
        if shape.iter().try_fold(1, product).is_none() {
            let shape = shape.clone();
            let overflow = LayoutError::ShapeOverflow { shape };
            return Err(CatalogError::from(overflow).into());
        }
        let layout = Layout::contiguous(shape).map_err(CatalogError::from)?;
        let Some(expected) = layout.contiguous_bytes(dtype) else {
            return Err(CatalogError::NoSize {
                name: name.to_owned(),
                dtype,
                shape: shape.clone(),
            }
            .into());
        };
        let offset = self.first_byte.checked_add(begin);
        let ends = self.first_byte.checked_add(end).is_some();
        let (Some(offset), true, true) = (offset, ends, end.checked_sub(begin) == Some(expected))
        else {
            return Err(Error::WrongSize {
                tensor: name.to_owned(),
                dtype,
                shape: shape.clone(),
                expected,
                begin,
                end,
            });
        };
        let extent = Extent::new(ShardId::FIRST, offset, expected);
        let record = self.builder.record(Record::stored(extent))?;
        self.builder
            .entry(name, dtype, layout, View::whole(record))?;
        Ok(())
    }

    /// The dtype of a name, which is usually that of the previous tensor.
    fn dtype(&mut self, tensor: &str, name: &str) -> Result<Dtype, Error> {
        if let Some((known, dtype)) = &self.last_dtype
            && **known == *name
        {
            return Ok(*dtype);
        }
        let known =
            FormatDtype::deserialize(IntoDeserializer::<ValueError>::into_deserializer(name));
        let Some(dtype) = known.ok().and_then(crate::from_format) else {
            return Err(Error::UnknownDtype {
                tensor: tensor.to_owned(),
                found: name.to_owned(),
            });
        };
        self.last_dtype = Some((name.into(), dtype));
        Ok(dtype)
    }

    /// Checks that the entries follow each other without gap or overlap, and returns where they
    /// end within the tensors' bytes.
    pub(crate) fn check_order(&self) -> Result<u64, Error> {
        let entries = self.builder.catalog().entries();
        let place = |entry: &Entry| (entry.extent().offset, entry.extent().len);
        if entries.is_sorted_by_key(place) {
            return self.check_gaps(entries.iter());
        }
        let mut order: Vec<&Entry> = entries.iter().collect();
        order.sort_unstable_by_key(|entry| place(entry));
        self.check_gaps(order.into_iter())
    }

    fn check_gaps<'e>(&self, order: impl Iterator<Item = &'e Entry>) -> Result<u64, Error> {
        let mut expected = self.first_byte;
        for entry in order {
            let extent = entry.extent();
            if extent.offset != expected {
                return Err(Error::Misplaced {
                    tensor: entry.name().to_owned(),
                    expected: expected - self.first_byte,
                    found: extent.offset - self.first_byte,
                });
            }
            expected = extent.end();
        }
        Ok(expected - self.first_byte)
    }

    /// Reads the `__metadata__` map; some writers leave an empty one as null.
    fn metadata(&mut self, tokens: &mut Tokens<'_>) -> Result<(), Error> {
        if tokens.null() {
            return Ok(());
        }
        let limit = self.limits.metadata_entries;
        let (mut pairs, mut found) = (BTreeMap::new(), 0);
        tokens.map(|tokens, key| {
            found += 1;
            let value = tokens.text()?;
            if found > limit {
                return Ok(());
            }
            match pairs.entry(key.into_owned()) {
                Pair::Occupied(pair) => Err(repeated(tokens, pair.key())),
                Pair::Vacant(pair) => {
                    pair.insert(value.into_owned());
                    Ok(())
                }
            }
        })?;
        if found > limit {
            return Err(Error::Limit {
                tensor: None,
                what: "lines of metadata",
                found,
                limit,
            });
        }
        for (key, value) in pairs {
            self.builder.metadata(key, value);
        }
        Ok(())
    }

    /// A name for an error: cut at the limit.
    fn shown(&self, name: &str) -> String {
        let mut len = name.len().min(self.limits.name_bytes);
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        name[..len].to_owned()
    }
}

/// Reads a list of two numbers.
fn read_pair(tokens: &mut Tokens<'_>) -> Result<(u64, u64), Error> {
    let (mut pair, mut len) = ([0; 2], 0);
    let at = tokens.at();
    tokens.list(|tokens| {
        let number = tokens.number()?;
        if let Some(place) = pair.get_mut(len) {
            *place = number;
        }
        len += 1;
        Ok(())
    })?;
    match len {
        2 => Ok((pair[0], pair[1])),
        found => Err(Error::OffsetCount { at, found }),
    }
}

fn repeated(tokens: &Tokens<'_>, key: &str) -> Error {
    Error::Repeated {
        at: tokens.at(),
        key: key.chars().take(100).collect(),
    }
}
