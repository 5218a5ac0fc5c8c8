use std::num::NonZeroU32;

use crate::{Index, WeightFormat};

/// What the name of a file in a folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    Weights(Weights),
    /// Tensors in a format that is not supported.
    Unsupported,
    /// Nothing: the format depends on the file's bytes.
    Unknown,
    /// A file without tensors.
    Other,
}

/// The name of a file that holds or lists tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) format: WeightFormat,
    pub(crate) stem: Stem,
    /// The name without variant, number and extension.
    pub(crate) base: String,
    pub(crate) extension: String,
    pub(crate) variant: Option<String>,
    pub(crate) shape: Shape,
    /// Whether it looks like the state of a training run.
    pub(crate) training_state: bool,
    /// Whether the extension says nothing, and the bytes told the format.
    pub(crate) sniffed: bool,
}

/// The names that libraries use, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stem {
    /// `model.safetensors`, `pytorch_model.bin`: transformers.
    Model,
    /// `diffusion_pytorch_model`: diffusers.
    Diffusion,
    /// `adapter_model`: PEFT.
    Adapter,
    /// Any other.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Index,
    Single,
    /// `-00001-of-00003`, or `_1_of_3`.
    Part {
        number: u32,
        of: NonZeroU32,
    },
}

/// Extensions of formats with tensors that we cannot read.
const UNSUPPORTED: [&str; 17] = [
    "gguf",
    "ggml",
    "h5",
    "hdf5",
    "keras",
    "msgpack",
    "onnx",
    "tflite",
    "npz",
    "nemo",
    "pt2",
    "distcp",
    "pb",
    "pdparams",
    "pdiparams",
    "caffemodel",
    "mlmodel",
];

/// Extensions of files without tensors, which need not be opened to find out.
const NO_TENSORS: [&str; 25] = [
    "json", "jsonl", "txt", "md", "py", "pyc", "yaml", "yml", "toml", "csv", "tsv", "html", "log",
    "jinja", "spm", "vocab", "lock", "png", "jpg", "jpeg", "gif", "svg", "pdf", "ipynb", "sh",
];

/// How names of training state begin: `optimizer.pt`, `rng_state_0.pth`, `scaler.pt`, and so on.
const TRAINING_STATE: [&str; 8] = [
    "training_args",
    "optimizer",
    "scheduler",
    "scaler",
    "sampler",
    "rng_state",
    "random_states",
    "trainer_state",
];

/// Parses a file name; the variant `wanted` is recognised after any stem, others only after known
/// ones.
pub(crate) fn read(name: &str, wanted: Option<&str>) -> FileName {
    // Hidden files are leftovers: `._model.safetensors` of a copy from a Mac, for one.
    if name.starts_with('.') {
        return FileName::Other;
    }
    let (file, is_index, index_variant) = match split_index(name) {
        Some((file, variant)) => (file, true, variant),
        None => (name, false, None),
    };
    let (stem, extension) = file.rsplit_once('.').unwrap_or((file, ""));
    let extension = extension.to_ascii_lowercase();
    let format = match extension.as_str() {
        "safetensors" => WeightFormat::Safetensors,
        // OpenVINO keeps its weights in a `.bin` of its own kind.
        "bin" if stem.starts_with("openvino_") => return FileName::Unsupported,
        "bin" | "pt" | "pth" | "ckpt" => WeightFormat::Torch,
        other if UNSUPPORTED.contains(&other) => return FileName::Unsupported,
        _ if is_index => return FileName::Other,
        other if NO_TENSORS.contains(&other) => return FileName::Other,
        _ => return FileName::Unknown,
    };
    let known = |base: &str| known_stem(format, &extension, base);
    let (base, variant, part) = split_stem(stem, &extension, wanted, known);
    let shape = match part {
        _ if is_index => Shape::Index,
        Some((number, of)) => Shape::Part { number, of },
        None => Shape::Single,
    };
    FileName::Weights(Weights {
        format,
        stem: known(base),
        training_state: is_training_state(base),
        variant: index_variant.or(variant).map(str::to_owned),
        base: base.to_owned(),
        extension,
        shape,
        sniffed: false,
    })
}

/// A checkpoint that is recognised by its bytes, not by its name.
pub(crate) fn sniffed(name: &str, format: WeightFormat) -> Weights {
    Weights {
        format,
        stem: Stem::Other,
        base: name.to_owned(),
        extension: String::new(),
        variant: None,
        shape: Shape::Single,
        training_state: is_training_state(name),
        sniffed: true,
    }
}

/// Whether the name alone says that a file is an index.
pub(crate) fn is_index(name: &str) -> bool {
    split_index(name).is_some()
}

/// The number of a part and of all parts, where the name has them.
pub(crate) fn part_of(name: &str) -> Option<(u32, u32)> {
    match read(name, None) {
        FileName::Weights(Weights {
            shape: Shape::Part { number, of },
            ..
        }) => Some((number, of.get())),
        _ => None,
    }
}

/// The name with a `#` in place of each run of digits: names that agree in it may be parts of
/// one checkpoint, as `consolidated.00.pth` and `consolidated.01.pth` are.
pub(crate) fn without_numbers(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            other => text.push(other),
        }
    }
    text
}

/// The position of a part's number within its file name.
fn number_in(name: &str) -> Option<std::ops::Range<usize>> {
    let end = name.rfind("-of-").or_else(|| name.rfind("_of_"))?;
    let before = name[..end].rfind(|c: char| !c.is_ascii_digit());
    let first = before.map_or(0, |before| before + 1);
    (first < end).then_some(first..end)
}

/// The width of the number in a part's name, if it is padded with zeros.
pub(crate) fn padding(name: &str) -> Option<usize> {
    let number = &name[number_in(name)?];
    number.starts_with('0').then_some(number.len())
}

/// The name of another part.
pub(crate) fn with_number(name: &str, number: u32, width: usize) -> String {
    let mut name = name.to_owned();
    if let Some(place) = number_in(&name) {
        name.replace_range(place, &format!("{number:0width$}"));
    }
    name
}

fn is_training_state(base: &str) -> bool {
    let begins = TRAINING_STATE.iter().any(|start| base.starts_with(start));
    begins || base.ends_with("_optim_states")
}

/// `model.safetensors.index.json`, `model.safetensors.index.fp16.json`.
fn split_index(name: &str) -> Option<(&str, Option<&str>)> {
    let name = name.strip_suffix(".json")?;
    match name.strip_suffix(".index") {
        Some(file) => Some((file, None)),
        None => {
            let (file, variant) = name.rsplit_once(".index.")?;
            Some((file, Some(variant)))
        }
    }
}

/// A number, and how many there are.
type PartNumber = (u32, NonZeroU32);

/// `model`, `model.fp16`, `model-00001-of-00002`, `model.fp16-00001-of-00002` and
/// `model-00001-of-00002.fp16`: all are written by one library version or another.
fn split_stem<'a>(
    stem: &'a str,
    extension: &str,
    wanted: Option<&str>,
    known: impl Fn(&str) -> Stem,
) -> (&'a str, Option<&'a str>, Option<PartNumber>) {
    let is_variant = |base: &str, variant: &str| {
        !variant.is_empty() && (known(base) != Stem::Other || wanted == Some(variant))
    };
    if let Some((rest, part)) = split_part(stem) {
        // `model.safetensors-00001-of-00002.safetensors`.
        let rest = match rest.rsplit_once('.') {
            Some((first, last)) if last == extension => first,
            _ => rest,
        };
        return match split_variant(rest, is_variant) {
            Some((base, variant)) => (base, Some(variant), Some(part)),
            None => (rest, None, Some(part)),
        };
    }
    if let Some((numbered, variant)) = stem.rsplit_once('.')
        && let Some((base, part)) = split_part(numbered)
        && is_variant(base, variant)
    {
        return (base, Some(variant), Some(part));
    }
    match split_variant(stem, is_variant) {
        Some((base, variant)) => (base, Some(variant), None),
        None => (stem, None, None),
    }
}

fn split_variant(stem: &str, is_variant: impl Fn(&str, &str) -> bool) -> Option<(&str, &str)> {
    // A variant may contain dots, so each dot is tried.
    stem.match_indices('.')
        .map(|(at, _)| (&stem[..at], &stem[at + 1..]))
        .find(|(base, variant)| is_variant(base, variant))
}

/// The number of a part, after `-`, `_` or `.`, or before it where the name begins with the number.
///
/// Rule: names that differ in padding, separators and order are one series. Widths are not
/// compared: `00001-of-000002` and `1-of-2` both occur. Numbers begin at 0 or 1, which only the
/// whole series shows.
fn split_part(stem: &str) -> Option<(&str, PartNumber)> {
    const SEPARATORS: [char; 3] = ['-', '_', '.'];
    let at_end = || {
        let separated = stem.rsplit_once("-of-");
        let (rest, of) = separated.or_else(|| stem.rsplit_once("_of_"))?;
        let (base, number) = rest.rsplit_once(SEPARATORS)?;
        numbered(base, number, of)
    };
    let at_start = || {
        let separated = stem.split_once("-of-");
        let (number, rest) = separated.or_else(|| stem.split_once("_of_"))?;
        let (of, base) = rest.split_once(SEPARATORS)?;
        numbered(base, number, of)
    };
    at_end().or_else(at_start)
}

fn numbered<'a>(base: &'a str, number: &str, of: &str) -> Option<(&'a str, PartNumber)> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if base.is_empty() || !is_number(number) || !is_number(of) {
        return None;
    }
    let (number, of) = (number.parse().ok()?, of.parse::<NonZeroU32>().ok()?);
    let sane = number <= of.get() && of.get() as usize <= Index::MAX_SHARDS;
    sane.then_some((base, (number, of)))
}

fn known_stem(format: WeightFormat, extension: &str, base: &str) -> Stem {
    match (format, base) {
        (WeightFormat::Torch, _) if extension != "bin" => Stem::Other,
        (WeightFormat::Safetensors, "model") | (WeightFormat::Torch, "pytorch_model") => {
            Stem::Model
        }
        (_, "diffusion_pytorch_model") => Stem::Diffusion,
        (_, "adapter_model") => Stem::Adapter,
        _ => Stem::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(name: &str, wanted: Option<&str>) -> Weights {
        match read(name, wanted) {
            FileName::Weights(weights) => weights,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn known_names_are_taken_apart() {
        // Format, stem, base, variant, shape.
        for line in [
            "model.safetensors = Safetensors Model model - Single",
            "model.SAFETENSORS = Safetensors Model model - Single",
            "model.fp16.safetensors = Safetensors Model model fp16 Single",
            "model.safetensors.index.json = Safetensors Model model - Index",
            "model.safetensors.index.fp16.json = Safetensors Model model fp16 Index",
            "model.fp16.safetensors.index.json = Safetensors Model model fp16 Index",
            "model-00002-of-00003.safetensors = Safetensors Model model - 2 of 3",
            "model.fp16-00002-of-00003.safetensors = Safetensors Model model fp16 2 of 3",
            "model-00002-of-00003.fp16.safetensors = Safetensors Model model fp16 2 of 3",
            "model.v1.0.safetensors = Safetensors Model model v1.0 Single",
            "my.model.safetensors = Safetensors Other my.model - Single",
            "pytorch_model.bin = Torch Model pytorch_model - Single",
            "pytorch_model.pt = Torch Other pytorch_model - Single",
            "model.bin = Torch Other model - Single",
            "diffusion_pytorch_model.fp16.bin = Torch Diffusion diffusion_pytorch_model fp16 Single",
            "adapter_model.safetensors = Safetensors Adapter adapter_model - Single",
            "v1-5-pruned.ckpt = Torch Other v1-5-pruned - Single",
            "a-1-of-00003.safetensors = Safetensors Other a - 1 of 3",
            "a-0-of-3.safetensors = Safetensors Other a - 0 of 3",
            "model.00002-of-000003.safetensors = Safetensors Model model - 2 of 3",
            "pytorch_model_2_of_3.bin = Torch Model pytorch_model - 2 of 3",
            "model.safetensors-00002-of-00003.safetensors = Safetensors Model model - 2 of 3",
            "a-4-of-3.safetensors = Safetensors Other a-4-of-3 - Single",
            "a-1-of-99999999999.bin = Torch Other a-1-of-99999999999 - Single",
        ] {
            let (name, expected) = line.split_once(" = ").unwrap();
            let read = weights(name, None);
            let Weights {
                format, stem, base, ..
            } = &read;
            let variant = read.variant.as_deref().unwrap_or("-");
            let shape = match read.shape {
                Shape::Part { number, of } => format!("{number} of {of}"),
                other => format!("{other:?}"),
            };
            let found = format!("{format:?} {stem:?} {base} {variant} {shape}");
            assert_eq!(found, expected, "{name}");
            assert!(!read.training_state, "{name}");
        }
    }

    #[test]
    fn a_wanted_variant_is_seen_everywhere() {
        let read = weights("unet.fp16.safetensors", Some("fp16"));
        assert_eq!(
            (&*read.base, read.variant.as_deref()),
            ("unet", Some("fp16"))
        );
        assert_eq!(weights("unet.fp16.safetensors", None).variant, None);
    }

    #[test]
    fn training_state_is_told_apart() {
        for name in [
            "training_args.bin",
            "optimizer.pt",
            "optimizer.bin",
            "scheduler.pt",
            "scaler.pt",
            "rng_state.pth",
            "rng_state_0.pth",
            "optimizer_1.bin",
            "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        ] {
            assert!(weights(name, None).training_state, "{name}");
        }
    }

    #[test]
    fn other_files_are_no_weights() {
        for name in [
            "config.json",
            "search.index.json",
            "._model.safetensors",
            "a.txt",
        ] {
            assert_eq!(read(name, None), FileName::Other, "{name}");
        }
        for name in [
            "bin",
            "model_best.pth.tar",
            "a.th",
            "a.pkl",
            "a.t7",
            "a.ot",
            "a.zip",
            "tokenizer.model",
        ] {
            assert_eq!(read(name, None), FileName::Unknown, "{name}");
        }
        for name in [
            "a.gguf",
            "tf_model.h5",
            "tf_model.h5.index.json",
            "flax_model.msgpack",
            "openvino_model.bin",
            "__0_0.distcp",
            "model.pt2",
        ] {
            assert_eq!(read(name, None), FileName::Unsupported, "{name}");
        }
    }

    #[test]
    fn names_are_alike_but_for_numbers() {
        let alike = |a: &str, b: &str| without_numbers(a) == without_numbers(b);
        assert!(alike("consolidated.00.pth", "consolidated.01.pth"));
        assert!(alike("model-1-of-2.bin", "model-00002-of-00002.bin"));
        assert!(!alike("model.bin", "model1.bin"));
        assert!(!alike("a1.pt", "b1.pt"));
    }
}
