//! What the checkpoints of a case hold.

use serde::Deserialize;
use tensorlift_fixture_kit::presets::{self, BertSizes};
use tensorlift_fixture_kit::{CheckpointSpec, Format};
use tensorlift_tensor_meta::Dtype;

/// A recipe, as definitions write it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Recipe {
    /// A language model in the shape of Llama, BF16.
    Llama {
        layers: usize,
        hidden: usize,
        inner: usize,
        /// The width of keys and values.
        narrow: usize,
        vocabulary: usize,
    },
    /// all-MiniLM-L6-v2: 103 tensors, F32.
    MiniLm,
    /// The same in small.
    #[serde(skip)]
    SmallLm,
    /// Tensors of 16 floats each.
    Tiny { tensors: usize },
    /// Tensors of up to 64 MiB, BF16.
    Large { mebibytes: u64 },
}

impl Recipe {
    pub(crate) fn spec(&self, format: Format) -> CheckpointSpec {
        match *self {
            Recipe::Llama {
                layers,
                hidden,
                inner,
                narrow,
                vocabulary,
            } => {
                let mut spec = CheckpointSpec::new(format).metadata("format", "pt");
                let mut add = |name: String, shape: &[usize]| {
                    spec = std::mem::replace(&mut spec, CheckpointSpec::new(Format::safetensors()))
                        .tensor(name, Dtype::BF16, shape);
                };
                add("model.embed_tokens.weight".into(), &[vocabulary, hidden]);
                for layer in 0..layers {
                    for (part, shape) in [
                        ("input_layernorm", &[hidden][..]),
                        ("mlp.down_proj", &[hidden, inner]),
                        ("mlp.gate_proj", &[inner, hidden]),
                        ("mlp.up_proj", &[inner, hidden]),
                        ("post_attention_layernorm", &[hidden]),
                        ("self_attn.k_proj", &[narrow, hidden]),
                        ("self_attn.o_proj", &[hidden, hidden]),
                        ("self_attn.q_proj", &[hidden, hidden]),
                        ("self_attn.v_proj", &[narrow, hidden]),
                    ] {
                        add(format!("model.layers.{layer}.{part}.weight"), shape);
                    }
                }
                add("model.norm.weight".into(), &[hidden]);
                add("lm_head.weight".into(), &[vocabulary, hidden]);
                spec
            }
            Recipe::MiniLm => presets::mini_lm(format),
            Recipe::SmallLm => {
                let sizes = BertSizes {
                    layers: 2,
                    hidden: 48,
                    inner: 96,
                    vocabulary: 500,
                    positions: 64,
                };
                presets::bert(format, sizes)
            }
            Recipe::Tiny { tensors } => presets::many_tiny(format, tensors),
            Recipe::Large { mebibytes } => presets::large(format, mebibytes << 20),
        }
    }

    /// A model of about this many GiB; small ones stay as they are.
    pub(crate) fn of_gibibytes(&self, gibibytes: f64) -> Self {
        let bytes = |recipe: &Self| recipe.spec(Format::safetensors()).total_bytes() as f64;
        let with_layers = |layers: usize| {
            let mut recipe = self.clone();
            if let Recipe::Llama { layers: all, .. } = &mut recipe {
                *all = layers;
            }
            recipe
        };
        let without = bytes(&with_layers(0));
        let layer = bytes(&with_layers(1)) - without;
        // Only models have layers.
        let layers = (gibibytes * f64::from(1 << 30) - without) / layer.max(1.0);
        with_layers(layers.round().max(1.0) as usize)
    }

    /// The same in small, which runs in no time and measures nothing.
    pub(crate) fn shrunk(&self) -> Self {
        match *self {
            Recipe::Llama { .. } => Recipe::Llama {
                layers: 3,
                hidden: 64,
                inner: 96,
                narrow: 16,
                vocabulary: 500,
            },
            Recipe::MiniLm | Recipe::SmallLm => Recipe::SmallLm,
            Recipe::Tiny { tensors } => Recipe::Tiny {
                tensors: tensors.min(500),
            },
            Recipe::Large { mebibytes } => Recipe::Large {
                mebibytes: mebibytes.min(3),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_make_a_model_as_large_as_asked() {
        let recipe = Recipe::Llama {
            layers: 19,
            hidden: 4096,
            inner: 14336,
            narrow: 1024,
            vocabulary: 32000,
        };
        let bytes = |recipe: Recipe| recipe.spec(Format::safetensors()).total_bytes() >> 20;
        assert_eq!(bytes(recipe.of_gibibytes(8.2)), bytes(recipe.clone()));
        assert!((1800..2300).contains(&bytes(recipe.of_gibibytes(2.0))));
        assert_eq!(Recipe::MiniLm.of_gibibytes(2.0), Recipe::MiniLm);
    }

    #[test]
    fn a_llama_has_nine_tensors_in_a_layer_and_three_beside() {
        let recipe = Recipe::Llama {
            layers: 2,
            hidden: 8,
            inner: 12,
            narrow: 4,
            vocabulary: 10,
        };
        let spec = recipe.spec(Format::safetensors());
        assert_eq!(spec.tensors.len(), 2 * 9 + 3);
        let layer = 2 * 8 + 3 * 8 * 12 + 2 * 8 * 8 + 2 * 4 * 8;
        assert_eq!(spec.total_bytes(), 2 * (2 * layer + 8 + 2 * 10 * 8));
    }
}
