use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use tensorlift::LoadOptions;
use tensorlift::trust::Manifest;

use crate::convert::replace;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::target::Target;
use crate::trust::{MANIFEST, files_below};

#[derive(Args)]
pub(crate) struct WriteManifest {
    #[command(flatten)]
    target: Target,
    /// Write it to this file, not to standard output; `verify` finds one that is called
    /// tensorlift-manifest.json in the checkpoint's folder
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// List the SHA-256 of each file too, for other programs; takes longer
    #[arg(long)]
    sha256: bool,
}

impl WriteManifest {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let checkpoint = self.target.open()?;
        let mut others = match checkpoint.choice().route {
            tensorlift::Route::File => Vec::new(),
            _ => files_below(&checkpoint.folder())?,
        };
        let own = self.out.as_ref().and_then(|out| fs::canonicalize(out).ok());
        others.retain(|path| {
            let is_own = own.is_some() && fs::canonicalize(path).ok() == own;
            !is_own && path.file_name().is_none_or(|name| name != MANIFEST)
        });
        let bar = Bar::start();
        let options = LoadOptions::default();
        let manifest = Manifest::of(&checkpoint, &others, self.sha256, &options, &bar.control())?;
        drop(bar);
        let mut text = serde_json::to_string_pretty(&manifest)?;
        text.push('\n');
        match &self.out {
            None => out.write_all(text.as_bytes())?,
            Some(path) => replace(path, &text)?,
        }
        Ok(())
    }
}
