//! NumPy's arrays, scalars and dtypes, read off their pickles.

use tensorlift_tensor_meta::{ByteOrder, Dtype};

use crate::pickle::globals::Known;
use crate::pickle::{Arena, Id, Node};
use crate::tensors::TensorProblem;
use crate::tensors::objects::{Described, Objects, Sizes};

/// An array of a plain dtype.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) dtype: Dtype,
    pub(crate) byte_order: ByteOrder,
    pub(crate) shape: Sizes,
    /// Column by column, as Fortran has it.
    pub(crate) fortran: bool,
    pub(crate) bytes: Id,
}

/// The array that an object represents, or `None` for arrays of objects, records, texts and
/// dates.
pub(crate) fn array(
    objects: &Objects<'_>,
    known: Known,
    args: &[Id],
    state: Option<Id>,
) -> Described<Option<Array>> {
    let (dtype, shape, fortran, bytes) = match known {
        Known::NumpyFrombuffer => match *args {
            [bytes, dtype, shape, ref order @ ..] => {
                let order = order.first().copied();
                let fortran = order
                    .and_then(|order| objects.arena.string_bytes(objects.pickle, order))
                    .is_some_and(|order| order == b"F");
                (dtype, shape, fortran, bytes)
            }
            _ => return Err(objects.argument("_frombuffer", "a buffer, dtype and shape", args)),
        },
        _ => match state.and_then(|state| objects.arena.tuple_items(state)) {
            // An old state has no version.
            Some(&[_, shape, dtype, fortran, bytes] | &[shape, dtype, fortran, bytes]) => {
                let fortran = objects.arena.as_bool(fortran).unwrap_or(false);
                (dtype, shape, fortran, bytes)
            }
            _ => return Ok(None),
        },
    };
    let Some((dtype, byte_order)) = plain_dtype(objects, dtype) else {
        return Ok(None);
    };
    if objects.arena.items(bytes).is_some() {
        return Err(TensorProblem::Argument {
            function: "an array",
            expected: "bytes",
            found: objects.arena.type_name(bytes),
        });
    }
    Ok(Some(Array {
        dtype,
        byte_order,
        shape: objects.sizes("an array's shape", shape)?,
        fortran,
        bytes,
    }))
}

/// The dtype that a `numpy.dtype` object represents, if it is supported.
pub(crate) fn plain_dtype(objects: &Objects<'_>, id: Id) -> Option<(Dtype, ByteOrder)> {
    let arena = objects.arena;
    let (object, known) = arena.as_object(id)?;
    if let Known::NumpyType(dtype) = known {
        return Some((dtype, ByteOrder::Little));
    }
    if known != Known::NumpyDtype {
        return None;
    }
    let first = *arena.tuple_items(object.args)?.first()?;
    let mut order = None;
    let dtype = match arena.known(first) {
        Known::NumpyType(dtype) => dtype,
        _ => {
            let mut code = arena.string_bytes(objects.pickle, first)?;
            if let [byte @ (b'<' | b'>' | b'=' | b'|'), rest @ ..] = code {
                order = Some(*byte);
                code = rest;
            }
            by_code(code)?
        }
    };
    if let Some(state) = object.state {
        let items = arena.tuple_items(state)?;
        // Sub-arrays and named fields make it a record.
        let plain = [2, 3, 4].into_iter().all(|at| {
            items
                .get(at)
                .is_none_or(|&item| arena.node(item) == Node::None)
        });
        if !plain {
            return None;
        }
        let byte = items
            .get(1)
            .and_then(|&byte| arena.string_bytes(objects.pickle, byte));
        order = byte.and_then(|byte| byte.first().copied()).or(order);
    }
    let order = match order {
        Some(b'>') => ByteOrder::Big,
        _ => ByteOrder::Little,
    };
    Some((dtype, order))
}

fn by_code(code: &[u8]) -> Option<Dtype> {
    Some(match code {
        b"b1" | b"?" | b"bool" => Dtype::Bool,
        b"i1" | b"int8" => Dtype::I8,
        b"u1" | b"uint8" => Dtype::U8,
        b"i2" | b"int16" => Dtype::I16,
        b"u2" | b"uint16" => Dtype::U16,
        b"i4" | b"int32" => Dtype::I32,
        b"u4" | b"uint32" => Dtype::U32,
        b"i8" | b"int64" => Dtype::I64,
        b"u8" | b"uint64" => Dtype::U64,
        b"f2" | b"float16" => Dtype::F16,
        b"f4" | b"float32" => Dtype::F32,
        b"f8" | b"float64" => Dtype::F64,
        b"c8" | b"complex64" => Dtype::C64,
        b"c16" | b"complex128" => Dtype::C128,
        b"bfloat16" => Dtype::BF16,
        _ => return None,
    })
}

/// The number in the bytes of a NumPy scalar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Unsigned(u64),
    Float(f64),
    Complex(f64, f64),
}

/// The value of one element.
pub(crate) fn number(dtype: Dtype, order: ByteOrder, bytes: &[u8]) -> Option<Number> {
    let mut wide = [0; 16];
    let len = dtype.byte_len()?;
    let element = wide.get_mut(..len)?;
    if bytes.len() != len {
        return None;
    }
    element.copy_from_slice(bytes);
    if order == ByteOrder::Big {
        for word in element.chunks_exact_mut(dtype.word_bytes()) {
            word.reverse();
        }
    }
    let [low, high] = [&wide[..8], &wide[8..]].map(|half| {
        u64::from_le_bytes([
            half[0], half[1], half[2], half[3], half[4], half[5], half[6], half[7],
        ])
    });
    let single = |bits: u64| f64::from(f32::from_bits(bits as u32));
    Some(match dtype {
        Dtype::Bool => Number::Bool(low & 0xff != 0),
        Dtype::U8 | Dtype::U16 | Dtype::U32 => Number::Int(low as i64),
        Dtype::U64 => i64::try_from(low).map_or(Number::Unsigned(low), Number::Int),
        Dtype::I8 => Number::Int(i64::from(low as i8)),
        Dtype::I16 => Number::Int(i64::from(low as i16)),
        Dtype::I32 => Number::Int(i64::from(low as i32)),
        Dtype::I64 => Number::Int(low as i64),
        Dtype::F16 => Number::Float(half_float(low as u16)),
        Dtype::BF16 => Number::Float(single((low & 0xffff) << 16)),
        Dtype::F32 => Number::Float(single(low)),
        Dtype::F64 => Number::Float(f64::from_bits(low)),
        Dtype::C64 => Number::Complex(single(low & 0xffff_ffff), single(low >> 32)),
        Dtype::C128 => Number::Complex(f64::from_bits(low), f64::from_bits(high)),
        _ => return None,
    })
}

fn half_float(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

/// The bytes that an object represents: raw ones, or a text that `_codecs.encode` would make
/// bytes.
pub(crate) fn encoded_text(objects: &Objects<'_>, id: Id) -> Option<Id> {
    match objects.arena.as_object(id)? {
        (object, Known::Encode) => {
            let text = *objects.arena.tuple_items(object.args)?.first()?;
            matches!(objects.arena.node(text), Node::Text(_) | Node::Str8(_)).then_some(text)
        }
        (object, Known::Bytearray | Known::Plain) => bytes_call(objects.arena, object.args),
        _ => None,
    }
}

/// The text of `bytearray(text, 'latin-1')`, as Python 2's protocols write it.
fn bytes_call(arena: &Arena, args: Id) -> Option<Id> {
    let text = *arena.tuple_items(args)?.first()?;
    matches!(arena.node(text), Node::Text(_)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_each_kind() {
        let cases = [
            (Dtype::Bool, &[1][..], Number::Bool(true)),
            (Dtype::I8, &[0xff], Number::Int(-1)),
            (Dtype::U16, &[0xff, 0xff], Number::Int(65535)),
            (Dtype::U64, &[0xff; 8], Number::Unsigned(u64::MAX)),
            (Dtype::F16, &[0x00, 0x3c], Number::Float(1.0)),
            (Dtype::F16, &[0x01, 0x00], Number::Float(2f64.powi(-24))),
            (Dtype::F16, &[0x00, 0xfc], Number::Float(f64::NEG_INFINITY)),
            (Dtype::BF16, &[0x80, 0x3f], Number::Float(1.0)),
            (
                Dtype::C64,
                &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40],
                Number::Complex(1.0, 2.0),
            ),
        ];
        for (dtype, bytes, expected) in cases {
            assert_eq!(number(dtype, ByteOrder::Little, bytes), Some(expected));
        }
        let big = number(Dtype::I16, ByteOrder::Big, &[0x01, 0x02]);
        assert_eq!(big, Some(Number::Int(0x0102)));
        assert_eq!(number(Dtype::I16, ByteOrder::Little, &[1]), None);
    }
}
