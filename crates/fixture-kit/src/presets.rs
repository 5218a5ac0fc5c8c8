//! Recipes that tests and benches share.

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
    let sizes = BertSizes {
        layers: 6,
        hidden: 384,
        inner: 1536,
        vocabulary: 30522,
        positions: 512,
    };
    bert(format, sizes)
}

/// The sizes of a BERT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertSizes {
    /// How many layers.
    pub layers: usize,
    /// The width of embeddings.
    pub hidden: usize,
    /// The width within a layer.
    pub inner: usize,
    /// How many tokens there are.
    pub vocabulary: usize,
    /// The most tokens of a text.
    pub positions: usize,
}

/// A BERT in F32, by the names that transformers gives.
#[must_use]
pub fn bert(format: Format, sizes: BertSizes) -> CheckpointSpec {
    let BertSizes {
        layers,
        hidden,
        inner,
        vocabulary,
        positions,
    } = sizes;
    let mut spec = CheckpointSpec::new(format).metadata("format", "pt").tensor(
        "embeddings.position_ids",
        Dtype::I64,
        [1, positions],
    );
    let mut add = |name: String, shape: &[usize]| {
        spec = std::mem::replace(&mut spec, CheckpointSpec::new(Format::safetensors())).tensor(
            name,
            Dtype::F32,
            shape,
        );
    };
    for (part, rows) in [
        ("word_embeddings", vocabulary),
        ("position_embeddings", positions),
        ("token_type_embeddings", 2),
    ] {
        add(format!("embeddings.{part}.weight"), &[rows, hidden]);
    }
    add("embeddings.LayerNorm.weight".into(), &[hidden]);
    add("embeddings.LayerNorm.bias".into(), &[hidden]);
    for layer in 0..layers {
        let prefix = format!("encoder.layer.{layer}");
        for (part, out, inn) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ] {
            add(format!("{prefix}.{part}.weight"), &[out, inn]);
            add(format!("{prefix}.{part}.bias"), &[out]);
        }
        for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(format!("{prefix}.{part}.weight"), &[hidden]);
            add(format!("{prefix}.{part}.bias"), &[hidden]);
        }
    }
    add("pooler.dense.weight".into(), &[hidden, hidden]);
    add("pooler.dense.bias".into(), &[hidden]);
    spec
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
