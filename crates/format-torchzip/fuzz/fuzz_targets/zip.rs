//! Arbitrary bytes as an archive. What is accepted lies where the `zip` crate says.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::{Corpus, fuzz_target};
use tensorlift_format_torchzip::{Format, TorchFile};
use tensorlift_format_torchzip_fuzz::{check, is_any};
use tensorlift_tensor_meta::Source;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if !is_any(bytes, &[Format::Zip]) {
        return Corpus::Reject;
    }
    if let Ok(file) = check(bytes) {
        lies_where_zip_says(bytes, &file);
    }
    Corpus::Keep
});

fn lies_where_zip_says(bytes: &[u8], file: &TorchFile) {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut archive = ZipArchive::with_config(config, Cursor::new(bytes)).expect("an archive");
    let mut data: Vec<(u64, u64, u64)> = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).expect("an entry");
        let start = entry.data_start().expect("data somewhere");
        data.push((start, entry.compressed_size(), entry.size()));
    }
    for record in file.catalog().records() {
        let (extent, len) = match &record.source {
            Source::Stored(extent) => (*extent, extent.len),
            Source::Deflated { extent, len } => (*extent, *len),
            _ => continue,
        };
        let whole = (extent.offset, extent.len, len);
        // Storages within a pickle, and arrays, are parts of an entry.
        let inside = |&(start, compressed, _): &(u64, u64, u64)| {
            start <= extent.offset && extent.end() <= start + compressed
        };
        assert!(
            data.contains(&whole) || data.iter().any(inside),
            "{record:?}"
        );
    }
}
