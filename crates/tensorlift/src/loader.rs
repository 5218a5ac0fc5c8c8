use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorlift_device::Device;
use tensorlift_loader::{
    CancelToken, Control, FileReport, LoadIntoError, LoadOptions, LoadReport, Loaded, LoadedInto,
    ParameterMemory, Placement, Plan, Progress, Setting, Tensor, execute, load_each, load_into,
    plan, probe,
};
use tensorlift_storage::os::{self, ProcessMemory};
use tensorlift_tensor_meta::{Entry, Error, ErrorKind, Result};

use crate::trust::{Expected, HashUnit};
use crate::{Checkpoint, observe};

/// Some names for an error: the first of them, and how many more there are.
pub(crate) fn listed(names: &[impl fmt::Debug]) -> String {
    const MOST: usize = 10;
    let first = &names[..names.len().min(MOST)];
    match names.len() - first.len() {
        0 => format!("{first:?}"),
        more => format!("{first:?} and {more} more"),
    }
}

/// What to load of a checkpoint, where to, and how.
#[must_use = "a loader does nothing before `load`"]
pub struct Loader<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    filters: Vec<Box<Filter<'a>>>,
    /// Whether names were selected, even if none.
    named: bool,
    /// Selected names that do not exist.
    missing: Vec<String>,
    /// Selected names of tensors without bytes.
    without_bytes: Vec<String>,
    pub(crate) placement: Placement,
    pub(crate) options: LoadOptions,
    pub(crate) expected: Option<Expected>,
    pub(crate) control: Control,
    /// What settings gave the options, for the report.
    pub(crate) in_force: Vec<Setting>,
}

/// Whether an entry is wanted.
type Filter<'a> = dyn Fn(&Entry) -> bool + Send + 'a;

/// # What and where to
impl<'a> Loader<'a> {
    pub(crate) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            filters: Vec::new(),
            named: false,
            missing: Vec::new(),
            without_bytes: Vec::new(),
            placement: Placement::default(),
            options: LoadOptions::default(),
            expected: None,
            control: Control::default(),
            in_force: Vec::new(),
        }
    }

    /// Loads only entries for which `wanted` returns true. Default: all. If called twice, both
    /// conditions apply.
    pub fn select(mut self, wanted: impl Fn(&Entry) -> bool + Send + 'a) -> Self {
        self.filters.push(Box::new(wanted));
        self
    }

    /// Loads only the entries of these names.
    ///
    /// The load fails if one of them does not exist or has no bytes, or if nothing is left to load.
    pub fn select_names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names: HashSet<String> = names.into_iter().map(Into::into).collect();
        for name in &names {
            match self.checkpoint.catalog().get(name) {
                None => self.missing.push(name.clone()),
                Some(entry) if !self.checkpoint.has_bytes(entry) => {
                    self.without_bytes.push(name.clone());
                }
                Some(_) => {}
            }
        }
        self.named = true;
        self.select(move |entry| names.contains(entry.name()))
    }

    /// Loads everything to this device. Default: host memory.
    ///
    /// A device may have a group for each tensor, with exactly its bytes, as memory of the
    /// program's own:
    ///
    /// ```
    /// use tensorlift::{Checkpoint, VecDevice, VecGroup, take_group};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let vectors = VecDevice::new().with_exact_groups();
    /// let loaded = checkpoint.loader().place_on(vectors).load()?;
    /// let (groups, mut places) = loaded.into_groups();
    /// places.sort_by_key(|place| place.group);
    /// for (group, place) in groups.into_iter().zip(places) {
    ///     let entry = &checkpoint.catalog().entries()[place.entry];
    ///     if let Ok(VecGroup::F32(values)) = take_group(group) {
    ///         assert_eq!(values.len(), entry.layout().elements(), "{}", entry.name());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn place_on(self, device: impl Device + 'static) -> Self {
        self.place(Placement::on(device))
    }

    /// Loads each entry to the device that the placement assigns.
    ///
    /// A device map by sizes, here of two devices in host memory:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tensorlift::{Checkpoint, Device, DeviceMap, DeviceMapOptions, DeviceMemory, HostDevice};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let memory: [DeviceMemory; 2] = ["0=60KB".parse()?, "cpu=1GiB".parse()?];
    /// let map = DeviceMap::new(checkpoint.catalog(), &memory, &DeviceMapOptions::default())?;
    /// print!("{map}");
    /// let host: Arc<dyn Device> = Arc::new(HostDevice::new());
    /// let placement = map.placement(vec![Arc::clone(&host), host])?;
    /// let loaded = checkpoint.loader().place(placement).load()?;
    /// assert_eq!(loaded.report().groups, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn place(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}

/// # How
impl Loader<'_> {
    /// How to load: see [`LoadOptions`].
    ///
    /// ```
    /// use tensorlift::{Checkpoint, Dtype, DtypePolicy, LoadOptions};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let options = LoadOptions::default().dtype(DtypePolicy::To(Dtype::BF16));
    /// let loaded = checkpoint.loader().options(options).load()?;
    /// assert_eq!(loaded.tensor("pooler.dense.bias")?.dtype(), Dtype::BF16);
    /// // Integers stay as they are, and the report names them.
    /// assert_eq!(loaded.report().kept[0].name, "embeddings.position_ids");
    ///
    /// // Or by a function, for each tensor.
    /// let dtype = DtypePolicy::by(|entry| match entry.name().ends_with("weight") {
    ///     true => Dtype::F8E4M3,
    ///     false => entry.dtype(),
    /// });
    /// let loaded = checkpoint.loader().options(LoadOptions::default().dtype(dtype)).load()?;
    /// assert_eq!(loaded.tensor("pooler.dense.weight")?.dtype(), Dtype::F8E4M3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(mut self, options: LoadOptions) -> Self {
        self.options = options;
        self.in_force.clear();
        self
    }

    /// Changes the options that were given before.
    pub fn change_options(mut self, change: impl FnOnce(LoadOptions) -> LoadOptions) -> Self {
        self.options = change(self.options);
        self
    }

    /// Hashes what is read, and hands nothing out unless it is as expected.
    ///
    /// Of a file that is loaded whole, every byte is read and hashed; of one that is loaded in
    /// part, the tensors that are loaded, if a manifest has their hashes. The hashes that
    /// [`LoadOptions::hashes`] asks for are replaced.
    /// Files of which nothing is expected are told by [`Expected::unverifiable`].
    pub fn expect(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Calls `progress` after each chunk, from the reading threads.
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.control.progress = Some(Arc::new(progress));
        self
    }

    /// Stops and follows the load by this: in place of a token and a function given before.
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    /// Lets `token` stop the load within one chunk.
    pub fn cancel_token(mut self, token: CancelToken) -> Self {
        self.control.cancel = token;
        self
    }
}

/// # Loading
impl Loader<'_> {
    /// What would be read, and into which memory.
    ///
    /// # Errors
    /// If a selected name does not exist, the placement names a missing device, or a PyTorch file
    /// holds no tensor.
    pub fn plan(&self) -> Result<Plan> {
        self.check_names()?;
        let assign = |entry: &Entry| self.selects(entry).then(|| self.placement.device_of(entry));
        let rules = self.placement.rules();
        let catalog = self.checkpoint.catalog();
        let plan = plan(catalog, assign, &rules, &self.planned_options())?;
        if self.named && plan.places.is_empty() {
            let remedy = "select existing names, and conditions that they meet";
            return Err(self.refused("no tensor is selected", &[], remedy));
        }
        Ok(plan)
    }

    /// Which reader each file would get, and why; nothing is read.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and if a file cannot be opened.
    pub fn probe(&self) -> Result<Vec<FileReport>> {
        probe(&self.plan()?, self.checkpoint.shards(), &self.options)
    }

    /// Loads; when it returns, every byte is in place.
    ///
    /// # Errors
    /// The first failure; everything is freed, and no partial result is returned.
    pub fn load(&self) -> Result<Loaded> {
        observe::load(
            self.checkpoint,
            || self.load_all(),
            Loaded::report,
            |error| error,
        )
    }

    fn load_all(&self) -> Result<Loaded> {
        let memory_before = os::memory();
        let clock = Instant::now();
        let plan = tracing::info_span!("plan").in_scope(|| self.plan())?;
        let planned = clock.elapsed();
        let catalog = self.checkpoint.catalog();
        let filled = execute(
            &plan,
            catalog,
            self.checkpoint.shards(),
            self.placement.devices(),
            &self.hashing_options(&plan)?,
            &self.control,
        )
        .map_err(|error| self.with_tensor(error))?;
        let report = filled.outcome.report(&plan, catalog);
        let mut loaded = Loaded::new(Arc::clone(catalog), plan, filled, report);
        self.close(loaded.report_mut(), memory_before, clock, planned);
        Ok(loaded)
    }

    /// Completes the report of a load that began with `clock`, once all tensors exist.
    pub(crate) fn close(
        &self,
        report: &mut LoadReport,
        memory_before: ProcessMemory,
        clock: Instant,
        planned: Duration,
    ) {
        let phases = &mut report.phases;
        phases.plan = planned;
        let before = planned + phases.allocate + phases.read;
        phases.finish = clock.elapsed().saturating_sub(before);
        self.complete(report, memory_before, self.device_names());
    }

    /// Completes a report of which the phases since the checkpoint was opened are known.
    fn complete(
        &self,
        report: &mut LoadReport,
        memory_before: ProcessMemory,
        devices: Vec<String>,
    ) {
        let opened = self.checkpoint.phases();
        let phases = &mut report.phases;
        (phases.resolve, phases.open, phases.parse) = (opened.resolve, opened.open, opened.parse);
        report.wall = phases.sum();
        report.devices = devices;
        report.choice = self.checkpoint.resolution();
        report.settings = self.in_force.clone();
        report.memory_before = memory_before;
        report.memory_after = os::memory();
    }

    fn device_names(&self) -> Vec<String> {
        let devices = self.placement.devices().iter();
        devices.map(|device| device.name()).collect()
    }

    /// Loads into the caller's memory, parameter by parameter, so that addresses stay the same and
    /// a second checkpoint can be loaded into the same memory.
    ///
    /// A parameter is a name and a slice (`&mut [u8]` for any dtype, `&mut [f32]` and the like) or
    /// a group of a device. Its length is that of the tensor's elements, which arrive in row-major
    /// order. Names, lengths and dtypes are checked before the first byte is read.
    /// The placement of the loader is not used.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let mut parameters: Vec<(String, Vec<u8>)> = checkpoint
    ///     .catalog()
    ///     .entries()
    ///     .iter()
    ///     .map(|entry| (entry.name().to_owned(), vec![0; entry.byte_len() as usize]))
    ///     .collect();
    /// // The second time, another checkpoint could take the place of the first.
    /// for checkpoint in [&checkpoint, &checkpoint] {
    ///     let memory = parameters.iter_mut().map(|(name, bytes)| (name.as_str(), bytes));
    ///     let loaded = checkpoint.loader().load_into(memory)?;
    ///     assert!(loaded.missing.is_empty() && loaded.unexpected.is_empty());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`load_into`](tensorlift_loader::load_into()); the error says which parameters may have
    /// been overwritten.
    pub fn load_into<'d, N, M>(
        &self,
        parameters: impl IntoIterator<Item = (N, M)>,
    ) -> Result<LoadedInto, LoadIntoError>
    where
        N: Into<String>,
        M: Into<ParameterMemory<'d>>,
    {
        observe::load(
            self.checkpoint,
            || self.load_all_into(parameters),
            |loaded| &loaded.report,
            |failed| &failed.error,
        )
    }

    fn load_all_into<'d, N, M>(
        &self,
        parameters: impl IntoIterator<Item = (N, M)>,
    ) -> Result<LoadedInto, LoadIntoError>
    where
        N: Into<String>,
        M: Into<ParameterMemory<'d>>,
    {
        let memory_before = os::memory();
        let clock = Instant::now();
        self.check_names()?;
        let checkpoint = self.checkpoint;
        let options = &match self.expected {
            None => self.options.clone(),
            Some(_) => self.hashing_options(&self.plan()?)?,
        };
        let mut loaded = load_into(
            checkpoint.catalog(),
            checkpoint.shards(),
            |entry| self.selects(entry),
            parameters,
            options,
            &self.control,
        )?;
        let phases = &mut loaded.report.phases;
        phases.plan = clock.elapsed().saturating_sub(phases.read);
        let devices = vec!["memory of the caller".to_owned()];
        self.complete(&mut loaded.report, memory_before, devices);
        Ok(loaded)
    }

    /// Loads tensor by tensor: `handle` gets each as soon as its bytes have arrived, in the order
    /// of the files, while the next ones are read.
    ///
    /// Tensors that are read and not handled yet take up to
    /// [`window_bytes`](LoadOptions::window_bytes), so a checkpoint may be larger than memory: to
    /// quantize it, to convert it, to send it on.
    ///
    /// ```
    /// use tensorlift::{Checkpoint, LoadOptions};
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let mut bytes = 0;
    /// let report = checkpoint
    ///     .loader()
    ///     .options(LoadOptions::default().window_bytes(64 << 20))
    ///     .load_each(|tensor| {
    ///         bytes += tensor.as_bytes()?.len();
    ///         Ok(())
    ///     })?;
    /// assert_eq!(bytes as u64, report.bytes_wanted);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first error of `handle` or of the load.
    pub fn load_each(&self, mut handle: impl FnMut(Tensor) -> Result<()>) -> Result<LoadReport> {
        self.load_each_unit(
            |entry| Some(entry.name().to_owned()),
            |tensors| tensors.into_iter().try_for_each(&mut handle),
        )
    }

    /// As [`load_each`](Self::load_each), for all tensors at once for which `unit_of` gives the
    /// same key, such as the number of their layer; those without a key are left out.
    ///
    /// ```
    /// use tensorlift::Checkpoint;
    ///
    /// # fn main() -> tensorlift::Result<()> {
    /// let checkpoint = Checkpoint::open("fixtures/tiny-model")?;
    /// let number_of = |name: &str| -> Option<usize> {
    ///     name.strip_prefix("encoder.layer.")?.split('.').next()?.parse().ok()
    /// };
    /// let mut tensors = Vec::new();
    /// checkpoint.loader().load_each_unit(
    ///     |entry| number_of(entry.name()),
    ///     |layer| {
    ///         tensors.push(layer.len());
    ///         Ok(())
    ///     },
    /// )?;
    /// assert_eq!(tensors, [16, 16]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first error of `handle` or of the load.
    pub fn load_each_unit<K: Eq + Hash>(
        &self,
        unit_of: impl Fn(&Entry) -> Option<K>,
        handle: impl FnMut(Vec<Tensor>) -> Result<()>,
    ) -> Result<LoadReport> {
        observe::load(
            self.checkpoint,
            || self.load_all_units(unit_of, handle),
            |report| report,
            |error| error,
        )
    }

    fn load_all_units<K: Eq + Hash>(
        &self,
        unit_of: impl Fn(&Entry) -> Option<K>,
        handle: impl FnMut(Vec<Tensor>) -> Result<()>,
    ) -> Result<LoadReport> {
        let memory_before = os::memory();
        self.check_names()?;
        let checkpoint = self.checkpoint;
        let unit_of = |entry: &Entry| self.selects(entry).then(|| unit_of(entry)).flatten();
        let options = self.planned_options();
        let options = match &self.expected {
            None => options,
            Some(expected) => {
                options.hashes(expected.ranges(checkpoint, &self.plan()?, HashUnit::Tensor)?)
            }
        };
        let mut report = load_each(
            checkpoint.catalog(),
            checkpoint.shards(),
            &self.placement,
            unit_of,
            &options,
            &self.control,
            handle,
        )?;
        self.complete(&mut report, memory_before, self.device_names());
        Ok(report)
    }

    /// The options, with the hashes that are expected of what the plan loads.
    pub(crate) fn hashing_options(&self, plan: &Plan) -> Result<LoadOptions> {
        let options = self.options.clone();
        Ok(match &self.expected {
            None => options,
            Some(expected) => {
                options.hashes(expected.ranges(self.checkpoint, plan, HashUnit::File)?)
            }
        })
    }

    /// Names the tensor at fault in a file whose hash is not as expected.
    pub(crate) fn with_tensor(&self, error: Error) -> Error {
        match &self.expected {
            None => error,
            Some(expected) => {
                expected.with_tensor(error, self.checkpoint, &self.options, &self.control)
            }
        }
    }

    /// The options, with what the checkpoint asks for.
    fn planned_options(&self) -> LoadOptions {
        let row_major = self.options.row_major || self.checkpoint.is_row_major();
        self.options.clone().row_major(row_major)
    }

    /// Whether all filters include an entry.
    fn selects(&self, entry: &Entry) -> bool {
        self.filters.iter().all(|wanted| wanted(entry))
    }

    /// Rejects a file without tensors, and names that cannot be loaded.
    fn check_names(&self) -> Result<()> {
        self.checkpoint.require_tensors()?;
        if !self.missing.is_empty() {
            let what = "these tensors are not in the checkpoint";
            let remedy = "`tensorlift inspect` lists those that are";
            return Err(self.refused(what, &self.missing, remedy));
        }
        if !self.without_bytes.is_empty() {
            let what = "these tensors have no bytes, as those of PyTorch's meta device";
            let remedy = "save the checkpoint with its weights, or select others";
            return Err(self.refused(what, &self.without_bytes, remedy));
        }
        Ok(())
    }

    fn refused(&self, what: &str, names: &[String], remedy: &'static str) -> Error {
        let mut names = names.to_vec();
        names.sort_unstable();
        let found = match names.is_empty() {
            true => what.to_owned(),
            false => format!("{what}: {}", listed(&names)),
        };
        Error::new(ErrorKind::NotFound, found)
            .with_path(self.checkpoint.choice().chosen.clone())
            .with_remedy(remedy)
    }
}

impl fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("placement", &self.placement)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
