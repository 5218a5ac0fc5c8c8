use super::parts::archive;
use super::{Case, Group};
use crate::safetensors::raw_file;
use crate::zip::{RawArchive, RawEntry};

/// Adds files that are not checkpoints, under the names of checkpoints.
pub(super) fn add(all: &mut Vec<Case>) {
    for (prefix, file_name) in [
        ("foreign-safetensors", "model.safetensors"),
        ("foreign-bin", "pytorch_model.bin"),
    ] {
        let mut group = Group {
            prefix,
            file_name,
            all,
        };
        for (name, why, bytes) in files() {
            group.refused(name, why, move || bytes.clone());
        }
    }
    let mut group = Group {
        prefix: "foreign-swapped",
        file_name: "pytorch_model.bin",
        all,
    };
    group.either(
        "safetensors-as-bin",
        "a sound safetensors file with the other name",
        || {
            let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
            raw_file(header, &[1, 2])
        },
    );
    group.file_name = "model.safetensors";
    group.either(
        "zip-as-safetensors",
        "a sound PyTorch file with the other name",
        || archive().bytes(),
    );
}

fn files() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 437955512\n";
    let page = "<!DOCTYPE html>\n<html><head><title>401 Unauthorized</title></head><body>Access is restricted</body></html>\n";
    let mut gguf = b"GGUF".to_vec();
    gguf.extend_from_slice(&3u32.to_le_bytes());
    gguf.extend_from_slice(&[0; 64]);
    let numpy = RawArchive {
        entries: vec![RawEntry::stored("arr_0.npy", b"\x93NUMPY\x01\0v\0{}")],
        ..RawArchive::default()
    };
    let document = RawArchive {
        entries: vec![
            RawEntry::deflated("[Content_Types].xml", b"<Types/>"),
            RawEntry::deflated("word/document.xml", b"<document/>"),
        ],
        ..RawArchive::default()
    };
    vec![
        ("empty", "the file is empty", Vec::new()),
        ("one-byte", "the file is one byte", vec![b'x']),
        (
            "lfs-pointer",
            "a Git LFS pointer is in place of the file",
            pointer.into(),
        ),
        ("html", "a web page is in place of the file", page.into()),
        (
            "html-lower-case",
            "a web page without a doctype",
            b"\n<html><body>404</body></html>".to_vec(),
        ),
        (
            "json-error",
            "a service's error is in place of the file",
            br#"{"error":"Repository not found"}"#.to_vec(),
        ),
        (
            "xml",
            "a storage service's error",
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".to_vec(),
        ),
        ("text", "plain text", b"not a checkpoint\n".to_vec()),
        ("gguf", "a GGUF file", gguf),
        (
            "hdf5",
            "an HDF5 file",
            b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0".to_vec(),
        ),
        (
            "png",
            "a picture",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(),
        ),
        (
            "gzip",
            "a gzip stream",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
        (
            "zstd",
            "a zstd frame",
            b"\x28\xb5\x2f\xfd\x04\0\x01\0\0\x99\xe9\xd8\x51".to_vec(),
        ),
        (
            "numpy",
            "a numpy array",
            b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}\n".to_vec(),
        ),
        ("npz", "an archive of numpy arrays", numpy.bytes()),
        (
            "document",
            "a zip archive of something else",
            document.bytes(),
        ),
        (
            "empty-zip",
            "a zip archive without entries",
            RawArchive::default().bytes(),
        ),
        ("zeros", "4,096 zeros", vec![0; 4096]),
        ("ones", "4,096 bytes of 0xff", vec![0xff; 4096]),
        (
            "zip-signature",
            "the signature of a zip archive and nothing of one",
            b"PK\x03\x04 and nothing else".to_vec(),
        ),
        (
            "elf",
            "a program",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
        (
            "onnx",
            "an ONNX model",
            b"\x08\x07\x12\x07pytorch\x1a\x031.0:\0".to_vec(),
        ),
    ]
}
