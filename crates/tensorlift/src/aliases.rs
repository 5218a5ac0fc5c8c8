//! Additional names of tied tensors in safetensors files, which store each tensor once.

use std::sync::Arc;

use tensorlift_tensor_meta::{Catalog, CatalogError};

/// A metadata line of many files, which is not the name of a tensor.
const FORMAT: &str = "format";

/// The catalog with the additional names from its metadata.
///
/// If the value of a metadata line is the name of a tensor and its key is not, the key becomes
/// another name of that tensor: `save_model` of Python's safetensors and `tensorlift convert` write
/// such lines for names that they do not store.
pub(crate) fn add(catalog: Arc<Catalog>) -> Result<Arc<Catalog>, CatalogError> {
    let names: Vec<(String, usize)> = catalog
        .metadata()
        .iter()
        .filter(|(key, _)| *key != FORMAT && catalog.get(key).is_none())
        .filter_map(|(key, kept)| Some((key.clone(), catalog.position(kept)?)))
        .collect();
    if names.is_empty() {
        return Ok(catalog);
    }
    Arc::unwrap_or_clone(catalog)
        .with_aliases(names)
        .map(Arc::new)
}

#[cfg(test)]
mod tests {
    use tensorlift_fixture_kit::{CheckpointSpec, Format};
    use tensorlift_tensor_meta::{Dtype, Entry};

    use crate::Checkpoint;

    #[test]
    fn lines_that_name_tensors_are_further_names() {
        let spec = CheckpointSpec::new(Format::safetensors())
            .tensor("a", Dtype::F32, [2])
            .tensor("b", Dtype::F32, [2])
            .tensor("pt", Dtype::F32, [1])
            .metadata("head", "a")
            .metadata("a", "b")
            .metadata("format", "pt")
            .metadata("author", "nobody");
        let checkpoint = Checkpoint::from_bytes(spec.to_bytes()).unwrap();
        let names: Vec<_> = checkpoint
            .catalog()
            .entries()
            .iter()
            .map(Entry::name)
            .collect();
        assert_eq!(names, ["a", "b", "pt", "head"]);
        let loaded = checkpoint.loader().load().unwrap();
        let bytes = |name: &str| loaded.tensor(name).unwrap().as_bytes().unwrap().to_vec();
        assert_eq!(bytes("head"), bytes("a"));
        assert_ne!(bytes("a"), bytes("b"));
        assert_eq!(loaded.report().bytes_wanted, 20);
    }
}
