//! The files that PyTorch and Python's safetensors wrote have the bytes that these read back.

use std::collections::BTreeMap;

use tensorlift::{Checkpoint, ErrorKind, HostDevice, LoadOptions, Mode, Reader, ReaderKind};
use tensorlift_fixture_kit::committed::{self, Committed, CommittedTensor};

use super::sha256;

/// What a checkpoint holds, as far as a test looks at it: name, dtype, shape, bytes, hash.
type Found = (String, String, Vec<usize>, u64, Option<String>);

fn expected(tensor: &CommittedTensor) -> Found {
    let CommittedTensor {
        name,
        dtype,
        shape,
        bytes,
        sha256,
        ..
    } = tensor.clone();
    (name, dtype, shape, bytes, sha256)
}

/// Loads a checkpoint in every mode that matters, and compares each with what is expected.
fn check(committed: &Committed) {
    let checkpoint = Checkpoint::open(&committed.path)
        .unwrap_or_else(|error| panic!("{}: {error}", committed.name));
    if let Err(error) = checkpoint.require_tensors() {
        // safetensors files without tensors are fine; the others say what they hold.
        assert!(committed.tensors.is_empty(), "{error}");
        return;
    }
    let mut wanted: Vec<Found> = committed.tensors.iter().map(expected).collect();
    for mode in [Mode::Copy, Mode::Map] {
        for threads in [1, 4] {
            for reader in [Reader::Auto, Reader::Direct] {
                let host = HostDevice::new().with_tensor_alignment(threads * 16);
                let options = LoadOptions::default()
                    .mode(mode)
                    .read_threads(threads)
                    .reader(reader)
                    .chunk_bytes(4096);
                let loader = checkpoint.loader().options(options).place_on(host);
                let loaded = loader.load().unwrap();
                let mut found: Vec<Found> = Vec::new();
                for entry in checkpoint.catalog().entries() {
                    let hash = loaded.tensor(entry.name()).ok().map(sha256);
                    found.push((
                        entry.name().to_owned(),
                        entry.dtype().to_string(),
                        entry.shape().to_vec(),
                        if hash.is_some() { entry.byte_len() } else { 0 },
                        hash,
                    ));
                }
                if committed.any_names {
                    found
                        .iter_mut()
                        .chain(&mut wanted)
                        .for_each(|tensor| tensor.0.clear());
                }
                if committed.any_order || committed.any_names {
                    found.sort();
                    wanted.sort();
                }
                assert_eq!(found, wanted, "{} as {mode:?}", committed.name);
                let report = loaded.report();
                assert_eq!(report.wall, report.phases.sum());
                assert_eq!(report.tensors, loaded.tensors().len());
            }
        }
    }
}

#[test]
fn every_tensor_has_the_expected_hash() {
    let all = committed::all();
    assert!(all.len() > 60, "only {} fixtures are listed", all.len());
    for committed in &all {
        check(committed);
    }
}

#[test]
fn metadata_and_flags_are_kept() {
    let mut flagged = 0;
    for committed in committed::all() {
        let Ok(checkpoint) = Checkpoint::open(&committed.path) else {
            continue;
        };
        if !committed.metadata.is_empty() {
            assert_eq!(*checkpoint.catalog().metadata(), committed.metadata);
        }
        if committed.any_names || committed.any_order {
            continue;
        }
        let flags: BTreeMap<&str, bool> = checkpoint
            .catalog()
            .entries()
            .iter()
            .map(|entry| (entry.name(), entry.requires_grad()))
            .collect();
        for tensor in committed
            .tensors
            .iter()
            .filter(|tensor| tensor.requires_grad)
        {
            assert!(
                flags[tensor.name.as_str()],
                "{}: {}",
                committed.name,
                tensor.name
            );
            flagged += 1;
        }
    }
    assert!(flagged > 0, "no fixture has a trained parameter");
}

#[test]
fn a_file_in_memory_is_a_file_on_disk() {
    for name in ["safetensors/dtypes.safetensors", "torch/views.pt"] {
        let committed = committed::one(name);
        let bytes = std::fs::read(&committed.path).unwrap();
        let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
        for mode in [Mode::Copy, Mode::Map] {
            let loaded = checkpoint
                .loader()
                .options(LoadOptions::default().mode(mode))
                .load()
                .unwrap();
            for tensor in &committed.tensors {
                let hash = sha256(loaded.tensor(&tensor.name).unwrap());
                assert_eq!(Some(hash), tensor.sha256, "{name}: {}", tensor.name);
            }
            assert_eq!(loaded.report().files[0].reader, Some(ReaderKind::Memory));
        }
    }
}

#[test]
fn a_selection_is_all_that_is_loaded() {
    let committed = committed::one("tiny-model");
    let checkpoint = Checkpoint::open(&committed.path).unwrap();
    let all = checkpoint.loader().load().unwrap().report().bytes_read;
    let name = "embeddings.LayerNorm.bias";
    let loaded = checkpoint.loader().select_names([name]).load().unwrap();
    assert_eq!(
        (loaded.tensors().len(), loaded.report().bytes_wanted),
        (1, 128)
    );
    assert!(loaded.report().bytes_read < all / 10);
    assert!(loaded.tensor("embeddings.LayerNorm.weight").is_err());

    let error = checkpoint
        .loader()
        .select_names([name, "no.such", "nor.this"])
        .load();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let message = error.to_string();
    assert!(
        message.contains("no.such") && message.contains("nor.this"),
        "{message}"
    );
}

#[test]
fn a_meta_tensor_cannot_be_selected_by_name() {
    let checkpoint = Checkpoint::open(committed::one("torch/meta.pt").path).unwrap();
    let error = checkpoint.loader().select_names(["meta_half"]).load();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("meta_half"), "{error}");
}

#[test]
fn companions_are_found_beside_the_weights() {
    let checkpoint = Checkpoint::open(committed::one("tiny-model").path).unwrap();
    let companions = checkpoint.companions();
    assert!(companions.config.is_some() && companions.tokenizer.is_some());
}
