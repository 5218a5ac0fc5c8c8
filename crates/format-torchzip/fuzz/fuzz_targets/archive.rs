//! Arbitrary pickles and record lengths in sound archives.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tensorlift_format_torchzip_fuzz::{check, framing};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(archive) = framing::archive(input) else {
        return Corpus::Reject;
    };
    let _ = check(&archive);
    Corpus::Keep
});
