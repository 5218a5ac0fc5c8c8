use std::io::{self, Write};

use super::state_dict::{Container, StateDict};
use crate::CheckpointSpec;
use crate::content::{CHUNK, fill_elements};
use crate::pickle::Writer;

/// Options of a writer of the legacy format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyOptions {
    /// What holds the tensors. Default: a `dict`.
    pub container: Container,
    /// The pickle protocol. Default: 2.
    pub protocol: u8,
    /// Whether the list of keys, and the storages with it, runs backwards. Default: no.
    pub reversed_keys: bool,
}

impl Default for LegacyOptions {
    fn default() -> Self {
        Self {
            container: Container::Dict,
            protocol: 2,
            reversed_keys: false,
        }
    }
}

/// The number that legacy files begin with, as a pickled integer.
pub(crate) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The three pickles before the one of the object: magic number, protocol version, machine.
#[must_use]
pub fn preamble(protocol: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut magic = Writer::new(protocol);
    magic.long(&MAGIC);
    out.extend(magic.finish());
    let mut version = Writer::new(protocol);
    version.int(1001);
    out.extend(version.finish());
    let mut machine = Writer::new(protocol);
    machine.empty_dict().mark();
    machine.text("protocol_version").int(1001);
    machine.text("little_endian").bool(true);
    machine.text("type_sizes").empty_dict().mark();
    for (name, size) in [("short", 2), ("int", 4), ("long", 4)] {
        machine.text(name).int(size);
    }
    machine.set_items().set_items();
    out.extend(machine.finish());
    out
}

/// The pickle that lists the storages in the order in which their bytes follow.
#[must_use]
pub fn key_list(protocol: u8, keys: &[&str]) -> Vec<u8> {
    let mut list = Writer::new(protocol);
    list.empty_list().mark();
    for key in keys {
        list.text(key);
    }
    list.appends();
    list.finish()
}

/// Writes a shard.
pub(crate) fn write(
    spec: &CheckpointSpec,
    shard: usize,
    options: &LegacyOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let state_dict = StateDict {
        spec,
        shard,
        container: options.container,
        nested: false,
        wrapper: None,
        extras: false,
        legacy: true,
    };
    let (pickle, mut keys) = state_dict.pickle(options.protocol);
    if options.reversed_keys {
        keys.reverse();
    }
    out.write_all(&preamble(options.protocol))?;
    out.write_all(&pickle)?;
    let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
    out.write_all(&key_list(options.protocol, &names))?;
    let mut chunk = vec![0; CHUNK];
    for (_, storage) in &keys {
        out.write_all(&(storage.elements as u64).to_le_bytes())?;
        let (seed, len) = (spec.stream(storage.number), storage.bytes());
        for offset in (0..len).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min(len - offset)];
            fill_elements(seed, storage.dtype, offset as u64, part);
            out.write_all(part)?;
        }
    }
    Ok(())
}
