//! Sentence embeddings of a BERT-like model, as sentence-transformers makes them: the mean over
//! all tokens, normalised.
//!
//! ```console
//! cargo run --release --example embeddings -- MODEL_DIR "first text" "second text"
//! ```
//!
//! MODEL_DIR holds weights, `config.json` and `tokenizer.json`.
//! `--json` prints a list of `{"text", "embedding"}`; `--bench` loads the model by candle's own
//! loader too and compares time and peak memory.
//! Weights of any floating-point dtype are computed with in F32.

mod bench;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Serialize;
use tokenizers::Tokenizer;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

struct Arguments {
    folder: PathBuf,
    texts: Vec<String>,
    json: bool,
    bench: bool,
    /// The loader that `--bench` measures in this process.
    only: Option<String>,
}

#[derive(Serialize)]
struct Embedding<'a> {
    text: &'a str,
    embedding: Vec<f32>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    if let Some(loader) = &arguments.only {
        return bench::measure(loader, &arguments.folder);
    }
    if arguments.bench {
        return bench::compare(&arguments.folder);
    }
    let (model, tokenizer) = load(&arguments.folder)?;
    let mut embeddings = Vec::new();
    for text in &arguments.texts {
        let embedding = embed(&model, &tokenizer, text)?;
        embeddings.push(Embedding { text, embedding });
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&embeddings)?);
        return Ok(());
    }
    for (index, one) in embeddings.iter().enumerate() {
        for other in &embeddings[..index] {
            let pairs = one.embedding.iter().zip(&other.embedding);
            let cosine: f32 = pairs.map(|(a, b)| a * b).sum();
            println!("{cosine:.4}  {:?}  {:?}", other.text, one.text);
        }
    }
    Ok(())
}

/// The model and its tokenizer, which are loaded side by side.
fn load(folder: &Path) -> Result<(BertModel, Tokenizer)> {
    thread::scope(|scope| {
        let tokenizer = scope.spawn(|| tokenizer(&folder.join("tokenizer.json")));
        let weights = tensorlift_candle::var_builder(folder, DType::F32, &Device::Cpu)?;
        let model = BertModel::load(weights, &config(folder)?)?;
        let tokenizer = tokenizer.join().map_err(|_| "the tokenizer panicked")??;
        Ok((model, tokenizer))
    })
}

fn config(folder: &Path) -> Result<Config> {
    Ok(serde_json::from_slice(&std::fs::read(
        folder.join("config.json"),
    )?)?)
}

fn tokenizer(path: &Path) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_file(path)?;
    // One text at a time needs no padding.
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The embedding of one text: the mean of its tokens' last hidden states, at length 1.
fn embed(model: &BertModel, tokenizer: &Tokenizer, text: &str) -> Result<Vec<f32>> {
    let encoding = tokenizer.encode(text, true)?;
    let ids = Tensor::new(encoding.get_ids(), &model.device)?.unsqueeze(0)?;
    let types = ids.zeros_like()?;
    let hidden = model.forward(&ids, &types, None)?;
    let mean = hidden.mean(1)?.squeeze(0)?;
    let length = mean.sqr()?.sum_all()?.sqrt()?;
    Ok(mean.broadcast_div(&length)?.to_vec1()?)
}

/// A model by candle's own loader, from the same folder.
fn candle_model(folder: &Path) -> Result<BertModel> {
    let files = [folder.join("model.safetensors")];
    // SAFETY: nobody changes the file while the benchmark runs.
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &Device::Cpu)? };
    Ok(BertModel::load(weights, &config(folder)?)?)
}

fn tensorlift_model(folder: &Path) -> Result<BertModel> {
    let weights = tensorlift_candle::var_builder(folder, DType::F32, &Device::Cpu)?;
    Ok(BertModel::load(weights, &config(folder)?)?)
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self> {
        let usage = "usage: embeddings MODEL_DIR TEXT... [--json] [--bench]";
        let mut arguments = Self {
            folder: PathBuf::new(),
            texts: Vec::new(),
            json: false,
            bench: false,
            only: None,
        };
        let mut positional = Vec::new();
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--json" => arguments.json = true,
                "--bench" => arguments.bench = true,
                "--only" => arguments.only = Some(given.next().ok_or(usage)?),
                option if option.starts_with("--") => return Err(usage.into()),
                _ => positional.push(argument),
            }
        }
        let mut positional = positional.into_iter();
        arguments.folder = positional.next().ok_or(usage)?.into();
        arguments.texts = positional.collect();
        let loads_only = arguments.bench || arguments.only.is_some();
        match arguments.texts.is_empty() && !loads_only {
            true => Err(usage.into()),
            false => Ok(arguments),
        }
    }
}
