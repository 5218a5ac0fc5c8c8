//! What stands in place of PyTorch files in builds without the feature `torch`: they are
//! recognised, and refused.

use std::path::Path;

use serde_pickle::Value;
use tensorlift_storage::Storage;
use tensorlift_tensor_meta::{Error, ErrorKind};

use super::{Archive, Beginning, ParseOptions, Parsed};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy;

/// No file has a state.
#[derive(Debug)]
pub(crate) enum State {}

impl State {
    pub(crate) fn value(&self) -> Result<Value, Error> {
        match *self {}
    }

    pub(crate) fn summary(&self) -> String {
        match *self {}
    }
}

pub(crate) fn detect(prefix: &[u8]) -> Option<Beginning> {
    match prefix {
        [b'P', b'K', 3, 4, ..] => Some(Beginning::Archive),
        [0x80, 2..=5, ..] => Some(Beginning::Pickle),
        _ => None,
    }
}

pub(crate) fn archive(_: &dyn Storage) -> Option<Archive> {
    None
}

pub(crate) fn bytes_before_zip(_: &dyn Storage) -> Option<u64> {
    None
}

pub(crate) fn ends_like_zip(_: &dyn Storage) -> bool {
    false
}

pub(crate) fn parse(_: &dyn Storage, _: &Path, _: &ParseOptions<'_>) -> Result<Parsed, Error> {
    let found = "this build of tensorlift reads safetensors alone, and the file begins like a \
                 PyTorch checkpoint";
    Err(Error::new(ErrorKind::Unsupported, found).with_remedy(
        "turn on tensorlift's feature `torch`, or write the file as safetensors: \
         tensorlift convert FILE OUT.safetensors",
    ))
}
