use std::collections::HashMap;
use std::sync::Arc;

use tensorlift_device::Group;
use tensorlift_memory::HugeVec;
use tensorlift_storage::os::ProcessMemory;
use tensorlift_tensor_meta::{Catalog, Error, ErrorKind};

use crate::execute::Filled;
use crate::plan::Plan;
use crate::report::{LoadReport, Phases};
use crate::tensor::Tensor;

/// Names this alike are offered in place of one that is not there (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// The tensors of a load, and what it took.
#[derive(Clone, Debug)]
pub struct Loaded {
    catalog: Arc<Catalog>,
    tensors: HugeVec<Tensor>,
    /// Positions in `tensors` by position in the catalog, where not all entries were loaded.
    positions: Option<HashMap<usize, usize>>,
    report: LoadReport,
}

impl Loaded {
    /// Hands the filled groups of a plan out as tensors.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, plan: &Plan, filled: Filled, report: LoadReport) -> Self {
        let groups: Vec<Arc<dyn Group>> = filled.groups.into_iter().map(Arc::from).collect();
        let tensor = |place: &crate::plan::Place| {
            let group = Arc::clone(&groups[place.group]);
            // Groups fit into memory, so offsets into them do.
            Tensor::new(
                Arc::clone(&catalog),
                place.entry,
                group,
                place.offset as usize,
            )
        };
        let mut tensors = HugeVec::with_capacity(plan.places.len());
        tensors.extend(plan.places.iter().map(tensor));
        let positions = (tensors.len() < catalog.len()).then(|| {
            plan.places
                .iter()
                .enumerate()
                .map(|(index, place)| (place.entry, index))
                .collect()
        });
        Self {
            catalog,
            tensors,
            positions,
            report,
        }
    }

    /// The tensors, in file order.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensors, by value.
    #[must_use]
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.tensors.into_iter().collect()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not in the checkpoint or was not loaded; the error offers
    /// the name most like it.
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
                    "it is in the checkpoint, but not loaded",
                )
                .with_tensor(name)
                .with_remedy("select it when loading; meta tensors have no bytes to load"),
                None => self.unknown(name),
            })
    }

    /// What the load took, and how it was done.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// Completes the report with what is known only now that everything stands.
    pub fn close_report(&mut self, phases: Phases, memory_after: ProcessMemory) {
        self.report.phases = phases;
        self.report.wall = phases.sum();
        self.report.memory_after = memory_after;
    }

    /// All entries of the checkpoint, loaded or not.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    fn unknown(&self, name: &str) -> Error {
        let alike = |other: &&str| strsim::jaro_winkler(name, other);
        let names = self.tensors.iter().map(Tensor::name);
        let nearest = names.max_by(|one, other| alike(one).total_cmp(&alike(other)));
        let found = match nearest.filter(|other| alike(other) >= ALIKE) {
            Some(other) => format!("no tensor has this name; the most alike is {other:?}"),
            None => format!("none of the {} tensors has this name", self.tensors.len()),
        };
        Error::new(ErrorKind::NotFound, found).with_tensor(name)
    }
}

impl IntoIterator for Loaded {
    type Item = Tensor;
    type IntoIter = tensorlift_memory::IntoIter<Tensor>;

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
