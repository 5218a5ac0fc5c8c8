//! Headers good and bad, through every kind of storage.

mod good;
mod malformed;

use tensorlift_format_safetensors::{Error, read};
use tensorlift_storage::{MemoryStorage, wrap::Chopped};
use tensorlift_tensor_meta::{Catalog, Limits};

/// A file of this header and this many bytes behind it.
fn file(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 7);
    file
}

/// Reads the file as a slice and in small pieces; both must agree.
fn read_both(file: &[u8]) -> Result<Catalog, Error> {
    let whole = MemoryStorage::new(file.to_vec());
    let limits = Limits::default();
    let from_slice = read(&whole, &limits);
    let from_pieces = read(&Chopped::new(whole, 5), &limits);
    match (&from_slice, &from_pieces) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("{from_slice:?} from a slice, {from_pieces:?} from pieces"),
    }
    from_slice
}
