//! Sums that are checked while bytes are read.

use tensorlift_device::HostDevice;
use tensorlift_loader::{LoadOptions, Verify};
use tensorlift_tensor_meta::{
    Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, Source, View,
};

use super::{Sample, naive, pattern};

/// Records of 4 bytes in one shard, in turn stored and deflated, and their sums.
fn sample(records: usize, sum: impl Fn(usize, u32) -> u32) -> Sample {
    let mut builder = Catalog::builder();
    let mut shard = Vec::new();
    for index in 0..records {
        let bytes = pattern(4, index as u64);
        let offset = shard.len() as u64;
        let source = if index % 2 == 0 {
            shard.extend(&bytes);
            Source::Stored(Extent::new(ShardId::FIRST, offset, 4))
        } else {
            let deflated = naive::deflate(&bytes);
            shard.extend(&deflated);
            let extent = Extent::new(ShardId::FIRST, offset, deflated.len() as u64);
            Source::Deflated { extent, len: 4 }
        };
        let declared_crc32 = Some(sum(index, crc32fast::hash(&bytes)));
        let record = builder
            .record(Record::new(source).crc32(declared_crc32))
            .unwrap();
        let layout = Layout::contiguous([4usize]).unwrap();
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![shard],
    }
}

fn options() -> LoadOptions {
    LoadOptions::default().verify(Verify::Crc32)
}

#[test]
fn every_record_is_summed() {
    let sample = sample(20_000, |_, sum| sum);
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &options());
    let verified = loaded.unwrap().report().verified.unwrap();
    assert_eq!((verified.records, verified.bytes), (20_000, 80_000));
    assert_eq!(verified.records_in_part, 0);
}

#[test]
fn a_wrong_sum_names_its_tensor() {
    for wrong in [6, 7] {
        let sample = sample(10, |index, sum| if index == wrong { !sum } else { sum });
        let failed = sample.load(&sample.shards(), HostDevice::new(), &options());
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.tensor(), Some(&*format!("t{wrong}")));
    }
}
