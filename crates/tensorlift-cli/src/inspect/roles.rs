//! What tensors are that quantized layouts store beside a weight, told by names and forms.
//!
//! Sources: what AutoGPTQ, AutoAWQ, bitsandbytes (`QuantState.as_dict`), compressed-tensors,
//! NVIDIA's modelopt and the MXFP4 checkpoints of gpt-oss write.

use tensorlift::{Catalog, Dtype, Entry};

/// What a tensor is in a quantized layout, if it is a part of one.
pub(super) fn role(catalog: &Catalog, entry: &Entry) -> Option<&'static str> {
    let name = entry.name();
    bitsandbytes(name)
        .or_else(|| integers(catalog, entry))
        .or_else(|| compressed(catalog, entry))
        .or_else(|| blocks(catalog, entry))
}

/// Parts that bitsandbytes names after the weight.
fn bitsandbytes(name: &str) -> Option<&'static str> {
    const PARTS: [(&str, &str); 7] = [
        (
            ".quant_state.bitsandbytes__nf4",
            "bitsandbytes: how the NF4 weight was quantized",
        ),
        (
            ".quant_state.bitsandbytes__fp4",
            "bitsandbytes: how the FP4 weight was quantized",
        ),
        (
            ".nested_quant_map",
            "bitsandbytes: the values that quantized scales stand for",
        ),
        (".nested_absmax", "bitsandbytes: scales of quantized scales"),
        (
            ".quant_map",
            "bitsandbytes: the values that 4-bit numbers stand for",
        ),
        (".absmax", "bitsandbytes: a scale for each block"),
        (
            ".SCB",
            "bitsandbytes: a scale for each row of 8-bit integers",
        ),
    ];
    let part = PARTS.iter().find(|(ending, _)| name.ends_with(ending));
    part.map(|(_, role)| *role)
}

/// GPTQ and AWQ, which share the names of their parts.
fn integers(catalog: &Catalog, entry: &Entry) -> Option<&'static str> {
    let (module, part) = entry.name().rsplit_once('.')?;
    let sibling = |part: &str| catalog.get(&format!("{module}.{part}"));
    let (weight, _, scales) = (sibling("qweight")?, sibling("qzeros")?, sibling("scales")?);
    // AWQ packs along the columns, so that it has fewer of them than there are scales.
    let is_awq = weight.shape().last() != scales.shape().last();
    Some(match (part, is_awq) {
        ("qweight", false) => "GPTQ: integers, packed along the rows",
        ("qzeros", false) => "GPTQ: zero points, packed",
        ("scales", false) => "GPTQ: a scale for each group and column",
        ("g_idx", false) => "GPTQ: the group of each row",
        ("qweight", true) => "AWQ: integers, packed along the columns",
        ("qzeros", true) => "AWQ: zero points, packed",
        ("scales", true) => "AWQ: a scale for each group and column",
        _ => return None,
    })
}

/// compressed-tensors and NVFP4.
fn compressed(catalog: &Catalog, entry: &Entry) -> Option<&'static str> {
    let (module, part) = entry.name().rsplit_once('.')?;
    let sibling = |part: &str| catalog.get(&format!("{module}.{part}"));
    let is_float8 = |entry: &Entry| entry.dtype() == Dtype::F8E4M3;
    if let Some(packed) = sibling("weight_packed") {
        let is_nvfp4 =
            packed.dtype() == Dtype::U8 && sibling("weight_scale").is_some_and(is_float8);
        return Some(match part {
            "weight_packed" if is_nvfp4 => "NVFP4: two numbers in each byte",
            "weight_scale" if is_nvfp4 => "NVFP4: a scale for each block of 16",
            "weight_global_scale" => "NVFP4: the scale of all scales",
            "input_global_scale" => "NVFP4: the scale of the inputs' scales",
            "weight_packed" => "compressed-tensors: integers, packed",
            "weight_scale" => "compressed-tensors: scales",
            "weight_shape" => "compressed-tensors: the shape before packing",
            "weight_zero_point" => "compressed-tensors: zero points",
            "weight_g_idx" => "compressed-tensors: the group of each column",
            _ => return None,
        });
    }
    let scale = sibling("weight_scale")?;
    let weight = sibling("weight")?;
    if weight.dtype() == Dtype::U8 && is_float8(scale) {
        return Some(match part {
            "weight" => "NVFP4: two numbers in each byte",
            "weight_scale" => "NVFP4: a scale for each block of 16",
            "weight_scale_2" => "NVFP4: the scale of all scales",
            "input_scale" => "NVFP4: the scale of the inputs",
            _ => return None,
        });
    }
    let is_quantized = matches!(weight.dtype(), Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2);
    match part {
        "weight_scale" if is_quantized => Some("scales of an 8-bit weight"),
        "input_scale" if is_quantized => Some("the scale of the inputs of an 8-bit weight"),
        _ => None,
    }
}

/// MXFP4 as gpt-oss stores it.
fn blocks(catalog: &Catalog, entry: &Entry) -> Option<&'static str> {
    let name = entry.name();
    let is_bytes = |name: &str| {
        catalog
            .get(name)
            .is_some_and(|entry| entry.dtype() == Dtype::U8)
    };
    if let Some(module) = name.strip_suffix("_blocks") {
        let is_pair = is_bytes(name) && is_bytes(&format!("{module}_scales"));
        return is_pair.then_some("MXFP4: blocks of 32 numbers, two in each byte");
    }
    let module = name.strip_suffix("_scales")?;
    let is_pair = is_bytes(name) && is_bytes(&format!("{module}_blocks"));
    is_pair.then_some("MXFP4: an exponent for each block of 32")
}

#[cfg(test)]
mod tests {
    use tensorlift::Checkpoint;
    use tensorlift_fixture_kit::{CheckpointSpec, Format};

    use super::*;

    #[test]
    fn parts_of_quantized_layouts_are_named() {
        let tensors: [(&str, Dtype, &[usize], Option<&str>); 22] = [
            ("g.qweight", Dtype::I32, &[8, 32], Some("GPTQ: integers")),
            ("g.qzeros", Dtype::I32, &[2, 4], Some("GPTQ: zero")),
            ("g.scales", Dtype::F16, &[2, 32], Some("GPTQ: a scale")),
            ("g.g_idx", Dtype::I32, &[64], Some("GPTQ: the group")),
            ("g.bias", Dtype::F16, &[32], None),
            ("a.qweight", Dtype::I32, &[64, 4], Some("AWQ: integers")),
            ("a.qzeros", Dtype::I32, &[2, 4], Some("AWQ: zero")),
            ("a.scales", Dtype::F16, &[2, 32], Some("AWQ: a scale")),
            ("b.weight", Dtype::U8, &[64, 1], None),
            (
                "b.weight.absmax",
                Dtype::U8,
                &[4],
                Some("bitsandbytes: a scale"),
            ),
            (
                "b.weight.quant_map",
                Dtype::F32,
                &[16],
                Some("bitsandbytes: the values"),
            ),
            (
                "b.weight.quant_state.bitsandbytes__nf4",
                Dtype::U8,
                &[90],
                Some("bitsandbytes: how"),
            ),
            (
                "c.weight_packed",
                Dtype::I32,
                &[8, 4],
                Some("compressed-tensors: integers"),
            ),
            (
                "c.weight_scale",
                Dtype::BF16,
                &[8, 1],
                Some("compressed-tensors: scales"),
            ),
            (
                "c.weight_shape",
                Dtype::I64,
                &[2],
                Some("compressed-tensors: the shape"),
            ),
            ("n.weight", Dtype::U8, &[8, 8], Some("NVFP4: two")),
            (
                "n.weight_scale",
                Dtype::F8E4M3,
                &[8, 1],
                Some("NVFP4: a scale"),
            ),
            (
                "n.weight_scale_2",
                Dtype::F32,
                &[],
                Some("NVFP4: the scale"),
            ),
            (
                "m.proj_blocks",
                Dtype::U8,
                &[2, 3, 16],
                Some("MXFP4: blocks"),
            ),
            (
                "m.proj_scales",
                Dtype::U8,
                &[2, 3],
                Some("MXFP4: an exponent"),
            ),
            ("m.other_scales", Dtype::U8, &[2, 3], None),
            ("plain.weight", Dtype::F32, &[2], None),
        ];
        let spec = CheckpointSpec::new(Format::safetensors());
        let spec = tensors.iter().fold(spec, |spec, (name, dtype, shape, _)| {
            spec.tensor(*name, *dtype, shape.to_vec())
        });
        let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
        for (name, _, _, expected) in tensors {
            let entry = checkpoint.catalog().get(name).unwrap();
            let found = role(checkpoint.catalog(), entry);
            match expected {
                None => assert_eq!(found, None, "{name}"),
                Some(expected) => assert!(found.unwrap().starts_with(expected), "{name} {found:?}"),
            }
        }
    }
}
