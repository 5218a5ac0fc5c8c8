//! Signatures of the OpenSSF's Model Signing, made with a key.
//!
//! A signature file is a Sigstore bundle (JSON) around a DSSE envelope, whose payload is an in-toto
//! statement that lists every file of the model with its hash.
//! Sources: the specifications of [DSSE](https://github.com/secure-systems-lab/dsse) and
//! [in-toto](https://github.com/in-toto/attestation/tree/main/spec/v1), and bundles that
//! model-signing 1.1.1 writes.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use serde::Deserialize;
use serde_json::Value;
use tensorlift_loader::{Digest, HashAlgorithm};
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use super::manifest::read_text;
use super::sums::within;
use super::{Expected, ExpectedFile};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// What model-signing passes over in every model.
const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// A model's files as a signature lists them.
#[derive(Clone, Debug)]
pub struct SignedModel {
    /// What the files must hash to; no other file may be there.
    pub expected: Expected,
    /// The files that are there and not passed over by the signature.
    pub present: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignatureBundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Option<KeyHint>,
    #[serde(default)]
    tlog_entries: Vec<Value>,
    #[serde(default)]
    timestamp_verification_data: Value,
    #[serde(default)]
    certificate: Value,
    #[serde(default)]
    x509_certificate_chain: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

#[derive(Deserialize)]
struct Statement {
    _type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
    /// A number with a fraction; the names of parts have their bounds.
    shard_size: Option<f64>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    digest: String,
}

impl SignedModel {
    /// Checks a signature with a public key (PEM, P-256), and lists what it says of the model in
    /// `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the signature is not one by this key, is altered, or breaks its
    /// format; [`ErrorKind::Unsupported`] for another method than a key, another curve, and hash
    /// functions other than SHA-256 and BLAKE3.
    pub fn read(signature: &Path, key: &Path, folder: &Path) -> Result<Self> {
        let key = verifying_key(&read_text(key)?).map_err(|error| error.with_path(key))?;
        let text = read_text(signature)?;
        let named = |error: Error| error.with_path(signature);
        let statement = signed_statement(&text, &key).map_err(named)?;
        let expected = statement.expected(folder).map_err(named)?;
        let serialization = &statement.predicate.serialization;
        let mut ignored: Vec<PathBuf> = GIT_PATHS.iter().map(|name| folder.join(name)).collect();
        ignored.extend(
            serialization
                .ignore_paths
                .iter()
                .map(|path| folder.join(path)),
        );
        ignored.push(signature.to_owned());
        let ignored: Vec<PathBuf> = ignored.iter().map(|path| super::absolute(path)).collect();
        let mut present = Vec::new();
        list(
            &super::absolute(folder),
            serialization.allow_symlinks,
            &ignored,
            &mut present,
        )?;
        if serialization.shard_size.is_some() {
            // A file without bytes has no part to be listed.
            present.retain(|path| std::fs::metadata(path).map_or(true, |file| file.len() > 0));
        }
        Ok(Self { expected, present })
    }
}

/// The key, of which model-signing names the SHA-256 of its PEM text in the bundle.
struct PublicKey {
    key: VerifyingKey,
    hint: String,
}

fn verifying_key(pem: &str) -> Result<PublicKey> {
    let unsupported = |error: String| {
        Error::new(ErrorKind::Unsupported, error)
            .with_remedy("give the public key of a pair on the curve P-256, as PEM")
    };
    let key = VerifyingKey::from_public_key_pem(pem)
        .map_err(|error| unsupported(format!("expected a public key: {error}")))?;
    let text = key
        .to_public_key_pem(LineEnding::LF)
        .map_err(|error| unsupported(error.to_string()))?;
    let hint = HashAlgorithm::Sha256.digest(text.as_bytes()).to_string();
    Ok(PublicKey { key, hint })
}

/// The statement in a bundle, if its signature is right.
fn signed_statement(text: &str, key: &PublicKey) -> Result<Statement> {
    let bundle: SignatureBundle = serde_json::from_str(text)
        .map_err(|error| malformed(format!("expected a Sigstore bundle: {error}")))?;
    same("media type", MEDIA_TYPE, &bundle.media_type)?;
    let material = bundle.verification_material;
    let others = [
        &material.certificate,
        &material.x509_certificate_chain,
        &material.timestamp_verification_data,
    ];
    let Some(hinted) = material.public_key else {
        return Err(by_other_method());
    };
    if others.iter().any(|other| !other.is_null()) || !material.tlog_entries.is_empty() {
        return Err(by_other_method());
    }
    same("hash of the public key", &key.hint, &hinted.hint)?;
    let envelope = bundle.dsse_envelope;
    same("payload type", PAYLOAD_TYPE, &envelope.payload_type)?;
    let [signature] = &envelope.signatures[..] else {
        let found = envelope.signatures.len();
        return Err(malformed(format!("expected one signature, found {found}")));
    };
    same("key id", "", &signature.keyid)?;
    let decode = |what: &str, text: &str| {
        let decoded = STANDARD.decode(text);
        decoded.map_err(|error| malformed(format!("{what}: {error}")))
    };
    let payload = decode("the payload", &envelope.payload)?;
    let signature = Signature::from_der(&decode("the signature", &signature.sig)?)
        .map_err(|error| malformed(format!("the signature: {error}")))?;
    key.key
        .verify(&pre_authentication(&payload), &signature)
        .map_err(|_| malformed("the signature is not one of this key over this list".into()))?;
    serde_json::from_slice(&payload)
        .map_err(|error| malformed(format!("expected an in-toto statement: {error}")))
}

/// What DSSE signs: the type and the payload, each with its length.
fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let (type_len, len) = (PAYLOAD_TYPE.len(), payload.len());
    let mut bytes = format!("DSSEv1 {type_len} {PAYLOAD_TYPE} {len} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Statement {
    /// What it says of the files in a folder.
    fn expected(&self, folder: &Path) -> Result<Expected> {
        same("statement type", STATEMENT_TYPE, &self._type)?;
        same("predicate type", PREDICATE_TYPE, &self.predicate_type)?;
        let Predicate {
            serialization,
            resources,
        } = &self.predicate;
        let algorithm: HashAlgorithm = serialization.hash_type.parse().map_err(|_| {
            let found = &serialization.hash_type;
            Error::new(
                ErrorKind::Unsupported,
                format!("the model is hashed by {found:?}"),
            )
            .with_remedy("sign it with SHA-256")
        })?;
        let mut expected = Expected::new("a signature").complete(true);
        let mut all = Vec::new();
        for resource in resources {
            let Some(digest) = Digest::from_hex(algorithm, &resource.digest) else {
                let found = &resource.digest;
                return Err(malformed(format!(
                    "expected a {algorithm}, found {found:?}"
                )));
            };
            all.extend_from_slice(digest.bytes());
            match serialization.method.as_str() {
                "files" => {
                    let path = within(folder, &resource.name)?;
                    expected.add(&path, ExpectedFile::whole(None, digest));
                }
                "shards" if serialization.shard_size.is_some() => {
                    expected.add_shard(folder, &resource.name, digest)?;
                }
                other => return Err(malformed(format!("unknown method of listing: {other:?}"))),
            }
        }
        let [subject] = &self.subject[..] else {
            let found = self.subject.len();
            return Err(malformed(format!("expected one subject, found {found}")));
        };
        let root = HashAlgorithm::Sha256.digest(&all).to_string();
        same("hash of all hashes", &root, &subject.digest.sha256)?;
        Ok(expected)
    }
}

impl Expected {
    /// Adds a part of a file, named `NAME:START:END`; parts come in any order.
    fn add_shard(&mut self, folder: &Path, name: &str, digest: Digest) -> Result<()> {
        let mut parts = name.rsplitn(3, ':');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let range = number().zip(number()).map(|(end, start)| start..end);
        let Some((range, file)) = range.zip(parts.next()) else {
            return Err(malformed(format!(
                "expected NAME:START:END, found {name:?}"
            )));
        };
        let path = super::absolute(&within(folder, file)?);
        let hashes = &mut self.files.entry(path).or_default().hashes;
        hashes.push((Some(range), digest));
        hashes.sort_by_key(|(range, _)| range.as_ref().map(|range| range.start));
        Ok(())
    }
}

/// All files in a folder and below it, without those that are passed over.
fn list(
    folder: &Path,
    follow_links: bool,
    ignored: &[PathBuf],
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let fail = |error| Error::new(ErrorKind::Storage, error).with_path(folder);
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if ignored.contains(&path) {
            continue;
        }
        let is_link = path.is_symlink();
        if path.is_dir() && !is_link {
            list(&path, follow_links, ignored, files)?;
        } else if is_link && !follow_links {
            return Err(Error::new(
                ErrorKind::Malformed,
                "the signature allows no links, and this is one",
            )
            .with_path(path)
            .with_remedy("put the file in its place, or sign the model with links allowed"));
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn same(what: &str, expected: &str, found: &str) -> Result<()> {
    match expected == found {
        true => Ok(()),
        false => Err(malformed(format!(
            "{what}: expected {expected:?}, found {found:?}"
        ))),
    }
}

fn malformed(found: String) -> Error {
    Error::new(ErrorKind::Malformed, found)
        .with_remedy("fetch the signature and the key again from sources that you trust")
}

fn by_other_method() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the model is signed by another method than a key",
    )
    .with_remedy("check it with model-signing, or sign it with a key")
}
