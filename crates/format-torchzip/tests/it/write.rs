//! Writes PyTorch files as PyTorch does: pickles opcode by opcode, archives with the `zip`
//! crate.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

/// A pickle in the making.
#[derive(Clone, Default)]
pub(crate) struct Pickle {
    bytes: Vec<u8>,
    memo: u32,
}

#[allow(dead_code)] // Each test uses its own few.
impl Pickle {
    /// Begins a pickle of protocol 2.
    pub(crate) fn new() -> Self {
        Self::default().raw(b"\x80\x02")
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn int(self, value: i64) -> Self {
        match u8::try_from(value) {
            Ok(value) => self.raw(&[b'K', value]),
            Err(_) => self.raw(b"\x8a\x08").raw(&value.to_le_bytes()),
        }
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.raw(b"B")
            .raw(&(bytes.len() as u32).to_le_bytes())
            .raw(bytes)
    }

    pub(crate) fn sizes(self, sizes: &[i64]) -> Self {
        sizes
            .iter()
            .fold(self.raw(b"("), |pickle, &size| pickle.int(size))
            .raw(b"t")
    }

    /// Memorises the top and gives its number.
    pub(crate) fn put(mut self, number: &mut u32) -> Self {
        *number = self.memo;
        self.memo += 1;
        let number = *number;
        self.raw(b"r").raw(&number.to_le_bytes())
    }

    pub(crate) fn get(self, number: u32) -> Self {
        self.raw(b"j").raw(&number.to_le_bytes())
    }

    /// A persistent id: ('storage', torch.{kind}Storage, key, 'cpu', elements).
    pub(crate) fn storage(self, kind: &str, key: &str, elements: i64) -> Self {
        self.raw(b"(")
            .text("storage")
            .global("torch", &format!("{kind}Storage"))
            .text(key)
            .text("cpu")
            .int(elements)
            .raw(b"tQ")
    }

    /// A tensor by `_rebuild_tensor_v2`.
    pub(crate) fn tensor(self, kind: &str, key: &str, elements: i64, view: View<'_>) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage(kind, key, elements)
            .int(view.offset)
            .sizes(view.shape)
            .sizes(view.strides)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// A contiguous vector that is its whole storage.
    pub(crate) fn vector(self, kind: &str, key: &str, elements: i64) -> Self {
        let view = View {
            offset: 0,
            shape: &[elements],
            strides: &[1],
        };
        self.tensor(kind, key, elements, view)
    }

    pub(crate) fn stop(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }
}

/// What a tensor looks at in its storage.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) offset: i64,
    pub(crate) shape: &'a [i64],
    pub(crate) strides: &'a [i64],
}

/// An archive with a pickle and storages under a root folder.
pub(crate) fn archive(root: &str, pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![("data.pkl", pickle), ("byteorder", b"little")];
    let names: Vec<String> = storages
        .iter()
        .map(|(key, _)| format!("data/{key}"))
        .collect();
    for (name, (_, bytes)) in names.iter().zip(storages) {
        entries.push((name, bytes));
    }
    entries.push(("version", b"3\n"));
    entries_under(root, &entries, stored())
}

pub(crate) fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::STORE)
        .with_alignment(64)
}

/// An archive of these entries under a root folder.
pub(crate) fn entries_under(
    root: &str,
    entries: &[(&str, &[u8])],
    options: SimpleFileOptions,
) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer
            .start_file(format!("{root}/{name}"), options)
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An archive whose entries are raw deflate streams, written byte by byte.
pub(crate) fn deflated(root: &str, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let name = format!("{root}/{name}");
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        let packed = encoder.finish().unwrap();
        let raw = RawEntry {
            name: name.as_bytes(),
            method: 8,
            flags: 0,
            crc: crc32fast::hash(bytes),
            size: bytes.len() as u32,
            data: &packed,
            packed_size: packed.len() as u32,
        };
        raw.write(&mut file, &mut directory);
    }
    finish(file, &directory, entries.len() as u16)
}

/// An entry of which every field can lie.
#[derive(Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) crc: u32,
    pub(crate) size: u32,
    pub(crate) packed_size: u32,
    pub(crate) data: &'a [u8],
}

impl RawEntry<'_> {
    /// Writes the local header and data, and the directory's header.
    pub(crate) fn write(&self, file: &mut Vec<u8>, directory: &mut Vec<u8>) {
        let start = file.len() as u32;
        file.extend(b"PK\x03\x04");
        self.common(file);
        file.extend(self.name);
        file.extend(self.data);
        self.list(directory, start);
    }

    /// Writes the directory's header alone, for a local header at `start`.
    pub(crate) fn list(&self, directory: &mut Vec<u8>, start: u32) {
        directory.extend(b"PK\x01\x02\x14\0");
        self.common(directory);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(self.name);
    }

    fn common(&self, out: &mut Vec<u8>) {
        out.extend([20, 0]);
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0]);
        out.extend(self.crc.to_le_bytes());
        out.extend(self.packed_size.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend([0, 0]);
    }
}

/// Puts the directory and the end record behind the entries.
pub(crate) fn finish(mut file: Vec<u8>, directory: &[u8], count: u16) -> Vec<u8> {
    let start = file.len() as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}
