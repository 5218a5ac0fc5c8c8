//! Adding up the reports of the parts of one load.

use super::{FileReport, Hashed, LoadReport, Verified};

impl LoadReport {
    /// Adds the report of another part of the same load.
    pub(crate) fn add(&mut self, part: LoadReport) {
        self.tensors += part.tensors;
        self.bytes_wanted += part.bytes_wanted;
        self.bytes_read += part.bytes_read;
        self.segments += part.segments;
        self.reads += part.reads;
        self.groups += part.groups;
        self.threads = self.threads.max(part.threads);
        self.threads_refused = self.threads_refused.max(part.threads_refused);
        self.peak_staging_bytes = self.peak_staging_bytes.max(part.peak_staging_bytes);
        self.bytes_over_bus += part.bytes_over_bus;
        self.kept.extend(part.kept);
        self.steps.extend(part.steps);
        self.phases.allocate += part.phases.allocate;
        self.phases.read += part.phases.read;
        self.phases.finish += part.phases.finish;
        if let Some(verified) = part.verified {
            self.verified.get_or_insert_default().add(verified);
        }
        if let Some(hashed) = part.hashed {
            self.hashed.get_or_insert_default().add(hashed);
        }
        if self.files.is_empty() {
            self.files = part.files;
            return;
        }
        for (file, part) in self.files.iter_mut().zip(part.files) {
            file.add(part);
        }
    }
}

impl Hashed {
    fn add(&mut self, part: Hashed) {
        self.digests.extend(part.digests);
        self.matched += part.matched;
        self.bytes += part.bytes;
    }
}

impl Verified {
    fn add(&mut self, part: Verified) {
        self.records += part.records;
        self.bytes += part.bytes;
        self.records_in_part += part.records_in_part;
        self.without_sums |= part.without_sums;
    }
}

impl FileReport {
    /// Adds the report of another part of the file; the state before the load is that of the first
    /// part.
    fn add(&mut self, part: FileReport) {
        let (in_place, bounced) = (self.bytes_in_place, self.bytes_bounced);
        let (pulled, read) = (self.pulled_by_device, self.read);
        if self.reader.is_none() {
            *self = part.clone();
        }
        self.bytes_in_place = in_place + part.bytes_in_place;
        self.bytes_bounced = bounced + part.bytes_bounced;
        self.pulled_by_device = pulled | part.pulled_by_device;
        self.read = read + part.read;
    }
}
