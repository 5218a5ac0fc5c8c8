//! The recipes that tests and benches have in common.

use tensorlift_tensor_meta::Dtype;

use crate::{CheckpointSpec, Format};

/// A few large BF16 tensors of `bytes` in all, as a language model has them.
#[must_use]
pub fn large(format: Format, bytes: u64) -> CheckpointSpec {
    const COLUMNS: usize = 4096;
    // Tensors of up to 64 MiB.
    let rows = (bytes / (2 * COLUMNS as u64)).max(1) as usize;
    let mut spec = CheckpointSpec::new(format);
    let mut done = 0;
    while done < rows {
        let part = (rows - done).min(8192);
        let name = format!("model.layers.{}.weight", spec.tensors.len());
        spec = spec.tensor(name, Dtype::BF16, [part, COLUMNS]);
        done += part;
    }
    spec
}

/// `count` tensors of 16 floats each.
#[must_use]
pub fn many_tiny(format: Format, count: usize) -> CheckpointSpec {
    let mut spec = CheckpointSpec::new(format);
    spec.tensors.reserve(count);
    for index in 0..count {
        let name = format!("layers.{}.block.{}.weight", index / 8, index % 8);
        spec = spec.tensor(name, Dtype::F32, [4, 4]);
    }
    spec
}

/// The tensors of all-MiniLM-L6-v2: 103 of them, 91 MB.
#[must_use]
pub fn mini_lm(format: Format) -> CheckpointSpec {
    const HIDDEN: usize = 384;
    const INNER: usize = 1536;
    let mut spec = CheckpointSpec::new(format)
        .metadata("format", "pt")
        .tensor("embeddings.position_ids", Dtype::I64, [1, 512])
        .tensor(
            "embeddings.word_embeddings.weight",
            Dtype::F32,
            [30522, HIDDEN],
        )
        .tensor(
            "embeddings.position_embeddings.weight",
            Dtype::F32,
            [512, HIDDEN],
        )
        .tensor(
            "embeddings.token_type_embeddings.weight",
            Dtype::F32,
            [2, HIDDEN],
        )
        .tensor("embeddings.LayerNorm.weight", Dtype::F32, [HIDDEN])
        .tensor("embeddings.LayerNorm.bias", Dtype::F32, [HIDDEN]);
    for layer in 0..6 {
        let prefix = format!("encoder.layer.{layer}");
        for (part, out, inn) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ] {
            spec = spec
                .tensor(format!("{prefix}.{part}.weight"), Dtype::F32, [out, inn])
                .tensor(format!("{prefix}.{part}.bias"), Dtype::F32, [out]);
        }
        for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
            spec = spec
                .tensor(format!("{prefix}.{part}.weight"), Dtype::F32, [HIDDEN])
                .tensor(format!("{prefix}.{part}.bias"), Dtype::F32, [HIDDEN]);
        }
    }
    spec.tensor("pooler.dense.weight", Dtype::F32, [HIDDEN, HIDDEN])
        .tensor("pooler.dense.bias", Dtype::F32, [HIDDEN])
}

/// A small checkpoint with tied weights, views and many dtypes, in any format.
#[must_use]
pub fn assorted(format: Format) -> CheckpointSpec {
    use crate::StorageView;

    let mut spec = CheckpointSpec::new(format)
        .storage(Dtype::F32, 24)
        .tensor("embed.weight", Dtype::BF16, [8, 4])
        .tensor("empty", Dtype::F16, [0, 3])
        .tensor("scalar", Dtype::I64, [])
        .view("shared.rows", [2, 6], StorageView::new(0, 6, [6, 1]))
        .view("shared.transposed", [6, 4], StorageView::new(0, 0, [1, 6]))
        .view("shared.expanded", [3, 6], StorageView::new(0, 12, [0, 1]))
        .tied("head.weight", "embed.weight");
    for &dtype in Dtype::ALL {
        if spec.format.holds(dtype) {
            spec = spec.tensor(format!("dtypes.{dtype}"), dtype, [3, 8]);
        }
    }
    spec
}
