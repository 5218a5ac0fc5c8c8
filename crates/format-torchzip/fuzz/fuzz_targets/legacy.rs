//! Arbitrary bytes as a file of the formats before zip: pickles in a row, or a tar archive.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tensorlift_format_torchzip::Format;
use tensorlift_format_torchzip_fuzz::{check, is_any};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if !is_any(bytes, &[Format::Legacy, Format::Tar]) {
        return Corpus::Reject;
    }
    let _ = check(bytes);
    Corpus::Keep
});
