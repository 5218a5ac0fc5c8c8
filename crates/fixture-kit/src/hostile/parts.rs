//! The sound files that the hostile ones differ from.

use tensorlift_tensor_meta::Dtype;

use crate::ExpectedTensor;
use crate::pickle::Writer;
use crate::torch::TensorPickle;
use crate::zip::{RawArchive, RawEntry};

/// The name of a case, why it is there, and what it pushes.
pub(super) type Odd = (&'static str, &'static str, fn(&mut Writer));

/// The bytes of the tensor that most cases hold: 1, 2, 3 and 4 as float32.
pub(super) fn weight_bytes() -> Vec<u8> {
    [1f32, 2., 3., 4.]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// The tensor that most cases hold.
pub(super) fn weight() -> Vec<ExpectedTensor> {
    vec![expected("weight", Dtype::F32, &[2, 2], weight_bytes())]
}

pub(super) fn expected(
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    bytes: Vec<u8>,
) -> ExpectedTensor {
    ExpectedTensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        bytes,
        shard: 0,
        requires_grad: false,
    }
}

/// The arguments of that tensor, over the storage `0`.
pub(super) fn weight_pickle() -> TensorPickle {
    TensorPickle::float("0", &[2, 2])
}

/// The pickle `{"weight": …, "extra": …}`, where `extra` pushes the second value.
pub(super) fn state_with(protocol: u8, extra: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(protocol);
    writer.empty_dict().mark().text("weight");
    weight_pickle().write(&mut writer);
    writer.text("extra");
    extra(&mut writer);
    writer.set_items();
    writer.finish()
}

/// The pickle `{"weight": …}`, where `tensor` pushes the value.
pub(super) fn state_of(tensor: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(2);
    writer.empty_dict().mark().text("weight");
    tensor(&mut writer);
    writer.set_items();
    writer.finish()
}

/// The pickle of the state dict with the one tensor.
pub(super) fn state() -> Vec<u8> {
    state_of(|writer| weight_pickle().write(writer))
}

/// An archive of this pickle, the storage `0` and the usual records.
pub(super) fn archive_of(pickle: &[u8]) -> RawArchive {
    RawArchive {
        entries: vec![
            RawEntry::stored("archive/data.pkl", pickle),
            RawEntry::stored("archive/byteorder", b"little"),
            RawEntry::stored("archive/data/0", &weight_bytes()),
            RawEntry::stored("archive/version", b"3\n"),
        ],
        ..RawArchive::default()
    }
}

/// The position of the pickle among the entries of [`archive_of`].
pub(super) const PICKLE: usize = 0;
/// The position of the byte order record.
pub(super) const BYTE_ORDER: usize = 1;
/// The position of the storage.
pub(super) const STORAGE: usize = 2;

/// The sound archive.
pub(super) fn archive() -> RawArchive {
    archive_of(&state())
}

/// The bytes of an archive of this pickle.
pub(super) fn file_of(pickle: &[u8]) -> Vec<u8> {
    archive_of(pickle).bytes()
}

/// About `count` places to cut a file of `len` bytes: all near its ends, some between.
pub(super) fn cuts(len: usize, count: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..len.min(12))
        .chain(len.saturating_sub(12)..len)
        .collect();
    cuts.extend((0..len).step_by((len / count.max(1)).max(1)));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}
