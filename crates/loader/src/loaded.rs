use std::collections::HashMap;
use std::sync::Arc;

use tensorlift_device::Group;
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind};

use crate::execute::Filled;
use crate::plan::{Place, Plan};
use crate::report::LoadReport;
use crate::tensor::Tensor;

/// Names this similar are suggested in place of an unknown one (Jaro-Winkler).
const SIMILAR: f64 = 0.8;

/// The tensors of a load, and its report.
#[derive(Clone, Debug)]
pub struct Loaded {
    catalog: Arc<Catalog>,
    groups: Vec<Arc<dyn Group>>,
    places: Vec<Place>,
    tensors: Vec<Tensor>,
    /// Positions in `tensors` by position in the catalog, where not all entries were loaded.
    positions: Option<HashMap<usize, usize>>,
    report: LoadReport,
}

impl Loaded {
    /// The tensors of a plan whose groups are filled.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, plan: Plan, filled: Filled, report: LoadReport) -> Self {
        let groups: Vec<Arc<dyn Group>> = filled.groups.into_iter().map(Arc::from).collect();
        let places = plan.places;
        let tensor = |place: &Place| {
            let group = Arc::clone(&groups[place.group]);
            Tensor::new(Arc::clone(&catalog), place, group)
        };
        let tensors: Vec<Tensor> = places.iter().map(tensor).collect();
        let positions = (tensors.len() < catalog.len()).then(|| {
            let entries = places.iter().map(|place| place.entry);
            entries.zip(0..).collect()
        });
        Self {
            catalog,
            groups,
            places,
            tensors,
            positions,
            report,
        }
    }

    /// The memory of the tensors and their places in it, for frameworks with their own tensors.
    ///
    /// Unless tensors were cloned before, each group has one owner, and
    /// [`take_group`](tensorlift_device::take_group) gives it back as the type that its device
    /// made.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tensorlift_device::{Device, HostDevice};
    /// # use tensorlift_loader::{Control, LoadOptions, Loaded, LoadReport, Shard, execute, plan};
    /// # use tensorlift_storage::MemoryStorage;
    /// # use tensorlift_tensor_meta::{Catalog, Dtype, Extent, Layout, Record, ShardId, View};
    /// # let shard = Shard::new("in memory", Arc::new(MemoryStorage::new(vec![1u8, 2, 3])));
    /// # let mut builder = Catalog::builder();
    /// # let record = builder.record(Record::stored(Extent::new(ShardId::FIRST, 0, 3)))?;
    /// # builder.entry("t", Dtype::U8, Layout::contiguous([3])?, View::whole(record))?;
    /// # let catalog = Arc::new(builder.finish());
    /// # let host: Arc<dyn Device> = Arc::new(HostDevice::new());
    /// # let options = LoadOptions::default();
    /// # let plan = plan(&catalog, |_| Some(0), &[host.rules()], &options)?;
    /// # let filled = execute(&plan, &catalog, &[shard], &[host], &options, &Control::default())?;
    /// # let loaded = Loaded::new(catalog.clone(), plan, filled, LoadReport::default());
    /// let (groups, places) = loaded.into_groups();
    /// for place in places {
    ///     let entry = &catalog.entries()[place.entry];
    ///     let bytes = &groups[place.group].as_host().unwrap()[place.offset as usize..];
    ///     assert_eq!((entry.name(), &bytes[..3]), ("t", &[1, 2, 3][..]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_groups(self) -> (Vec<Arc<dyn Group>>, Vec<Place>) {
        (self.groups, self.places)
    }

    /// The tensors, in file order.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensors, by value.
    #[must_use]
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not in the checkpoint or was not loaded; the error suggests
    /// the most similar name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, Error> {
        let entry = self.catalog.position(name);
        let position = entry.and_then(|entry| match &self.positions {
            None => Some(entry),
            Some(positions) => positions.get(&entry).copied(),
        });
        position
            .map(|position| &self.tensors[position])
            .ok_or_else(|| match entry {
                Some(_) => Error::new(
                    ErrorKind::NotFound,
                    "the tensor is in the checkpoint, but was not loaded",
                )
                .with_tensor(name)
                .with_remedy("select it when loading; meta tensors have no bytes to load"),
                None => self.unknown(name),
            })
    }

    /// How the load ran.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The report, for values that are known once all tensors exist.
    pub fn report_mut(&mut self) -> &mut LoadReport {
        &mut self.report
    }

    /// All entries of the checkpoint, loaded or not.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    fn unknown(&self, name: &str) -> Error {
        let similarity = |other: &&str| strsim::jaro_winkler(name, other);
        let names = self.tensors.iter().map(Tensor::name);
        let nearest = names.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
        let found = match nearest.filter(|other| similarity(other) >= SIMILAR) {
            Some(other) => format!("no tensor has this name; the most similar is {other:?}"),
            None => "no tensor has this name".to_owned(),
        };
        Error::new(ErrorKind::NotFound, found).with_tensor(name)
    }
}

impl IntoIterator for Loaded {
    type Item = Tensor;
    type IntoIter = std::vec::IntoIter<Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl<'a> IntoIterator for &'a Loaded {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.iter()
    }
}
