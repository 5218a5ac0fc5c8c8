//! `cargo xtask conform`: broken, lying and odd files, each read by a process of its own.

mod reader;
mod table;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tensorlift_fixture_kit::hostile::{self, Case};

use crate::command::{from_root, root};
use crate::watched::{self, Allowance};
use crate::{Result, flags};
use reader::Reader;
use verdict::{Judgement, Limits};

/// Beyond this a process is stopped, to protect the machine.
const MEMORY_CEILING: u64 = 2 << 30;

pub(crate) fn run(flags: &flags::Conform) -> Result<()> {
    let mut cases = hostile::cases();
    if let Some(filter) = &flags.filter {
        cases.retain(|case| case.name.contains(filter));
    }
    if cases.is_empty() {
        return Err("no case has such a name".into());
    }
    let readers = Reader::chosen(flags)?;
    // A folder of our own: the one that was given may hold other files.
    let data = from_root(&flags.data).join("files");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let scratch = data.join("scratch");
    fs::create_dir_all(&scratch)?;

    let limits = Limits {
        seconds: flags.seconds,
        memory: flags.mebibytes << 20,
        idle: idle(&readers, &data, &scratch)?,
    };
    let mut lines = Vec::new();
    for case in &cases {
        let folder = data.join(&case.name);
        let path = case.write(&folder)?;
        let mut judgements = Vec::new();
        for (index, reader) in readers.iter().enumerate() {
            let judgement = match reader.reads(&path) {
                false => Judgement::NotAsked,
                true => judge(reader, case, &path, &folder, &scratch, &limits, index)?,
            };
            judgements.push(judgement);
        }
        lines.push((case, judgements));
        fs::remove_dir_all(&folder)?;
    }

    print!("{}", table::misses(&lines, &readers));
    let counts = table::counts(&lines, &readers);
    print!("{counts}");
    if flags.save {
        let page = root().join("BENCHMARKS.md");
        let text = fs::read_to_string(&page)?;
        fs::write(&page, crate::page::insert(&text, "conform", &counts)?)?;
    }
    let missed = |(_, judgements): &&(&Case, Vec<Judgement>)| {
        judgements
            .iter()
            .zip(&readers)
            .any(|(judgement, reader)| reader.counts && matches!(judgement, Judgement::Missed(_)))
    };
    match lines.iter().filter(missed).count() {
        0 => Ok(()),
        misses => Err(format!(
            "{misses} of {} files are not read as they must be",
            lines.len()
        )
        .into()),
    }
}

/// The memory that each reader takes for next to nothing.
fn idle(readers: &[Reader], data: &Path, scratch: &Path) -> Result<Vec<u64>> {
    use tensorlift_fixture_kit::{CheckpointSpec, Format};
    use tensorlift_tensor_meta::Dtype;

    let mut idle = Vec::new();
    for reader in readers {
        let format = match reader.torch_only {
            true => Format::torch_zip(),
            false => Format::safetensors(),
        };
        let spec = CheckpointSpec::new(format).tensor("one", Dtype::F32, [4]);
        let written = spec.write(&data.join("idle"))?;
        let ended = watched::run(&mut reader.command(&written.path, scratch), allowance(60.0))?;
        let found = verdict::Said::of(&ended);
        if !found.loaded() {
            return Err(format!("{} cannot read a sound file: {found:?}", reader.name).into());
        }
        idle.push(found.peak());
    }
    Ok(idle)
}

fn judge(
    reader: &Reader,
    case: &Case,
    path: &Path,
    folder: &Path,
    scratch: &Path,
    limits: &Limits,
    index: usize,
) -> Result<Judgement> {
    // Some time more, so that the table can tell slow from endless.
    let allowance = allowance(limits.seconds * 5.0);
    let ended = watched::run(&mut reader.command(path, scratch), allowance)?;
    let canary = scratch.join(hostile::CANARY);
    let ran_code = canary.exists();
    if ran_code {
        fs::remove_file(canary)?;
    }
    let judgement = verdict::judge(case, &ended, limits, index, size(folder)?, reader.own_names);
    Ok(match ran_code {
        true => Judgement::Missed("ran code of the file".to_owned()),
        false => judgement,
    })
}

fn allowance(seconds: f64) -> Allowance {
    Allowance {
        time: Duration::from_secs_f64(seconds),
        memory: Some(MEMORY_CEILING),
        interval: Duration::from_millis(2),
    }
}

fn size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            match metadata.is_dir() {
                true => folders.push(path),
                false => size += metadata.len(),
            }
        }
    }
    Ok(size)
}
