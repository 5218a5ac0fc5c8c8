use std::io::{self, Write};

use tensorlift_tensor_meta::ByteOrder;

use super::state_dict::{Container, Keys, StateDict, StoredStorage};
use crate::content::{CHUNK, fill_elements};
use crate::elements::swap;
use crate::{CheckpointSpec, zip::ArchiveWriter};

/// Options of a writer of PyTorch archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZipOptions {
    /// The folder within the archive that holds everything. Default: `archive`.
    pub root: String,
    /// What holds the tensors. Default: a `dict`.
    pub container: Container,
    /// Whether dots in names become nested containers. Default: no.
    pub nested: bool,
    /// A key that holds the whole state dict, beside `epoch` and `lr`. Default: none.
    pub wrapper: Option<String>,
    /// Whether values other than tensors are between the tensors. Default: no.
    pub extras: bool,
    /// The pickle protocol, from 2 on. Default: 2.
    pub protocol: u8,
    /// The alignment of storages in the archive; 0 leaves padding out. Default: 64.
    pub alignment: u64,
    /// Whether entries are compressed, as by another program. Default: no.
    pub deflated: bool,
    /// The order of the bytes of multi-byte elements. Default: little.
    pub byte_order: ByteOrder,
    /// Whether the archive says so. Archives before PyTorch 2.1 do not. Default: yes.
    pub byte_order_record: ByteOrderRecord,
    /// Whether `.format_version`, `.storage_alignment` and `.data/serialization_id` are there.
    /// PyTorch writes them in its later versions and does not ask for them. Default: yes.
    pub format_records: bool,
}

/// The entry `byteorder`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrderRecord {
    /// It says how the bytes lie.
    #[default]
    Honest,
    /// It is not there, which means little-endian.
    Absent,
}

impl Default for ZipOptions {
    fn default() -> Self {
        Self {
            root: "archive".to_owned(),
            container: Container::Dict,
            nested: false,
            wrapper: None,
            extras: false,
            protocol: 2,
            alignment: 64,
            deflated: false,
            byte_order: ByteOrder::Little,
            byte_order_record: ByteOrderRecord::Honest,
            format_records: true,
        }
    }
}

/// The positions of a shard's tensors in the order of the pickle.
pub(crate) fn listing_order(
    spec: &CheckpointSpec,
    shard: usize,
    options: &ZipOptions,
) -> Vec<usize> {
    state_dict(spec, shard, options).order()
}

/// Writes a shard.
pub(crate) fn write(
    spec: &CheckpointSpec,
    shard: usize,
    options: &ZipOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    assert!(
        options.byte_order == ByteOrder::Little
            || options.byte_order_record == ByteOrderRecord::Honest,
        "an archive without the record is little-endian"
    );
    let (pickle, keys) = state_dict(spec, shard, options).pickle(options.protocol);
    let mut archive = Archive {
        inner: ArchiveWriter::new(out, options.alignment),
        options,
    };
    archive.record("data.pkl", &pickle)?;
    if options.format_records {
        archive.record(".format_version", b"1")?;
        archive.record(
            ".storage_alignment",
            options.alignment.to_string().as_bytes(),
        )?;
    }
    if options.byte_order_record == ByteOrderRecord::Honest {
        let order: &[u8] = match options.byte_order {
            ByteOrder::Little => b"little",
            ByteOrder::Big => b"big",
        };
        archive.record("byteorder", order)?;
    }
    archive.storages(spec, &keys)?;
    archive.record("version", b"3\n")?;
    if options.format_records {
        archive.record(".data/serialization_id", &[b'7'; 40])?;
    }
    archive.inner.finish()?;
    Ok(())
}

fn state_dict<'a>(
    spec: &'a CheckpointSpec,
    shard: usize,
    options: &'a ZipOptions,
) -> StateDict<'a> {
    StateDict {
        spec,
        shard,
        container: options.container,
        nested: options.nested,
        wrapper: options.wrapper.as_deref(),
        extras: options.extras,
        legacy: false,
    }
}

struct Archive<'a> {
    inner: ArchiveWriter<&'a mut dyn Write>,
    options: &'a ZipOptions,
}

impl Archive<'_> {
    fn record(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name = format!("{}/{name}", self.options.root);
        match self.options.deflated {
            true => self.inner.deflated(&name, bytes),
            false => self.inner.entry(&name, bytes),
        }
    }

    fn storages(&mut self, spec: &CheckpointSpec, keys: &Keys) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for (key, storage) in keys {
            let seed = spec.stream(storage.number);
            if self.options.deflated {
                let mut bytes = vec![0; storage.bytes()];
                produce(self.options, seed, *storage, 0, &mut bytes);
                self.record(&format!("data/{key}"), &bytes)?;
                continue;
            }
            let name = format!("{}/data/{key}", self.options.root);
            let options = self.options;
            self.inner
                .stream(&name, storage.bytes() as u64, &mut |sink| {
                    for offset in (0..storage.bytes()).step_by(CHUNK) {
                        let part = &mut chunk[..CHUNK.min(storage.bytes() - offset)];
                        produce(options, seed, *storage, offset, part);
                        sink(part)?;
                    }
                    Ok(())
                })?;
        }
        Ok(())
    }
}

/// The bytes of a storage from `offset` on as they lie in the archive.
fn produce(
    options: &ZipOptions,
    seed: u64,
    storage: StoredStorage,
    offset: usize,
    part: &mut [u8],
) {
    fill_elements(seed, storage.dtype, offset as u64, part);
    if options.byte_order == ByteOrder::Big {
        swap(part, storage.dtype);
    }
}
