use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

/// The most bytes of a file other than weights.
const FILE_BYTES: u64 = 1 << 30;

/// The folder of a model, for components that read files beside the weights.
#[derive(Clone, Debug)]
pub struct BundleFiles {
    /// `None` for weights that are in no folder.
    folder: Option<PathBuf>,
}

/// The tokenizer files that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub tokenizer: Option<Vec<u8>>,
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `tokenizer.model`
    pub model: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<Vec<u8>>,
    /// `vocab.txt`
    pub vocabulary_text: Option<Vec<u8>>,
    /// `vocab.json`
    pub vocabulary: Option<Vec<u8>>,
    /// `merges.txt`
    pub merges: Option<Vec<u8>>,
    /// `chat_template.jinja`
    pub chat_template: Option<Vec<u8>>,
    /// `modules.json`, the parts of a sentence-transformers model.
    pub modules: Option<Vec<u8>>,
}

impl BundleFiles {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The folder, if the weights are in one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The bytes of a file, `None` if there is none; `name` may lead into folders below.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if it cannot be read; [`ErrorKind::LimitExceeded`] beyond 1 GiB.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let path = folder.join(name);
        let failed = |error| Error::new(ErrorKind::Storage, error).with_path(&path);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(failed)?;
        if bytes.len() as u64 > FILE_BYTES {
            let found = format!("expected at most {FILE_BYTES} bytes, found more");
            return Err(Error::new(ErrorKind::LimitExceeded, found).with_path(path));
        }
        Ok(Some(bytes))
    }

    /// A file as JSON, `None` if there is none.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`ErrorKind::Malformed`] if it is not JSON.
    pub fn read_json(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let error = Error::new(ErrorKind::Malformed, error);
            match &self.folder {
                Some(folder) => error.with_path(folder.join(name)),
                None => error,
            }
        })
    }

    /// The tokenizer of `tokenizer.json`, `None` if there is none.
    #[cfg(feature = "tokenizers")]
    pub(super) fn parse_tokenizer(&self) -> Result<Option<tokenizers::Tokenizer>> {
        let name = "tokenizer.json";
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let parsed = tokenizers::Tokenizer::from_bytes(bytes);
        parsed.map(Some).map_err(|error| {
            let folder = self.folder.as_deref().unwrap_or(Path::new(""));
            Error::new(ErrorKind::Malformed, error).with_path(folder.join(name))
        })
    }

    pub(super) fn tokenizer(&self) -> Result<TokenizerFiles> {
        Ok(TokenizerFiles {
            tokenizer: self.read("tokenizer.json")?,
            config: self.read("tokenizer_config.json")?,
            model: self.read("tokenizer.model")?,
            special_tokens: self.read("special_tokens_map.json")?,
            vocabulary_text: self.read("vocab.txt")?,
            vocabulary: self.read("vocab.json")?,
            merges: self.read("merges.txt")?,
            chat_template: self.read("chat_template.jinja")?,
            modules: self.read("modules.json")?,
        })
    }
}
