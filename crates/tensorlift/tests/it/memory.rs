//! What a load allocates, by the plan and by the report.

use tensorlift::{Checkpoint, LoadOptions, Mode};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

#[test]
fn copying_takes_the_checkpoint_once() {
    let spec = CheckpointSpec::new(Format::torch_zip());
    let spec = (0..64).fold(spec, |spec, index| {
        spec.tensor(format!("t{index}"), Dtype::BF16, [64 << 10])
    });
    let bytes = spec.to_bytes();
    let len = bytes.len() as u64;
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let plan = checkpoint.loader().plan().unwrap();
    assert!(
        plan.bytes_to_allocate() <= len,
        "{} of {len}",
        plan.bytes_to_allocate()
    );
    assert_eq!(plan.bytes_wanted, spec.total_bytes());
    let report = checkpoint.loader().load().unwrap().report().clone();
    assert_eq!(report.bytes_read, plan.bytes_to_read);
    assert_eq!(report.peak_staging_bytes, 0);
}

#[test]
fn viewing_takes_nothing() {
    let spec = CheckpointSpec::new(Format::safetensors()).tensor("a", Dtype::F32, [1000]);
    let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
    let plan = checkpoint
        .loader()
        .options(LoadOptions::default().mode(Mode::Map))
        .plan()
        .unwrap();
    assert_eq!(plan.bytes_to_allocate(), 0);
}
