use tempfile::TempDir;

use super::*;

fn lane(route: &str) -> LaneName {
    LaneName { route: route.to_owned(), shard: 3 }
}

fn run(seqs: std::ops::Range<u64>) -> Run {
    let place = |seq| Place {
        seq,
        segment: seq + 1,
        offset: seq as u32 + 2,
        bytes: seq as u32 + 3,
        records: seq as u32 + 4,
        oldest_us: seq as i64 - 5,
        newest_us: i64::MAX - seq as i64,
    };
    Run { key: seqs.start, places: seqs.map(place).collect() }
}

#[test]
fn what_is_put_in_comes_out_after_a_flush() {
    let dir = TempDir::new().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    assert!(index.probe(1).unwrap(), "sled's flush does not come to sys");
    for seqs in [10..20, 30..46] {
        index.put_run(&lane("a"), &run(seqs)).unwrap();
    }
    index.put_run(&lane("b"), &run(50..51)).unwrap();
    let record = LaneRecord {
        blocks: 1,
        bytes: 2,
        records: 3,
        last: 4,
        retired: vec![(0, 7), (9, 9)],
        before_audit: Some(vec![(0, 5)]),
    };
    let mut changes = Changes::default();
    changes.put_lane(&lane("a"), &record);
    changes.put_lane(&lane("b"), &LaneRecord::default());
    changes.put_segment(8, SegmentRecord { blocks: 5, bytes: 6 });
    changes.put_segment(9, SegmentRecord::default());
    changes.remove_segment(9);
    changes.put_checkpoint((8, 77));
    index.apply(changes).unwrap();
    index.flush().unwrap();
    index.close();

    let mut index = Index::open(dir.path()).unwrap();
    let catalogue = index.catalogue().unwrap();
    assert_eq!(catalogue.lanes, [(lane("a"), record), (lane("b"), LaneRecord::default())]);
    assert_eq!(catalogue.segments, [(8, SegmentRecord { blocks: 5, bytes: 6 })]);
    assert_eq!(catalogue.checkpoint, Some((8, 77)));
    let mut at = |seq| index.run_at(&lane("a"), seq).unwrap().map(|run| (run.key, run.last()));
    assert_eq!([at(9), at(10), at(29), at(u64::MAX)], [None, Some((10, 19)), Some((10, 19)), Some((30, 45))]);
    let found = index.run_after(&lane("a"), 10).unwrap().unwrap();
    assert_eq!(found.places, run(30..46).places);
    assert!(index.run_after(&lane("a"), u64::MAX).unwrap().is_none());
    index.remove_run(&lane("a"), 10).unwrap();
    assert!(index.run_at(&lane("a"), 29).unwrap().is_none());
}

#[test]
fn a_lane_with_more_ranges_than_fit_keeps_the_first() {
    let ranges: Vec<(u64, u64)> = (0..1000).map(|at| (at * 10, at * 10 + 1)).collect();
    let record = LaneRecord { retired: ranges.clone(), before_audit: Some(ranges.clone()), ..LaneRecord::default() };
    let octets = record.encode();
    assert!(17 * octets.len() < SLED_SEGMENT / 4, "{}", octets.len());
    let read = LaneRecord::decode(&octets).unwrap();
    const { assert!(17 * RUN_MAX * PLACE < SLED_SEGMENT / 4) };
    assert_eq!((&read.retired[..], read.before_audit.as_deref()), (&ranges[..RANGES_MAX], Some(&ranges[..RANGES_MAX])));
}

#[test]
fn what_makes_no_sense_is_damage() {
    let good = run(5..9).encode();
    assert!(Run::decode(&5u64.to_be_bytes(), &good).is_ok());
    for (key, value) in [(6, &good[..]), (5, &good[..good.len() - 1]), (5, &[]), (5, &[&good[..], &good[..]].concat())]
    {
        assert!(matches!(Run::decode(&u64::to_be_bytes(key), value), Err(IndexFault::Damaged(_))));
    }
    let record = LaneRecord { retired: vec![(3, 4)], ..LaneRecord::default() };
    let octets = record.encode();
    assert_eq!(LaneRecord::decode(&octets), Some(record));
    assert_eq!(LaneRecord::decode(&octets[..octets.len() - 8]), None);
    let odd = LaneRecord { retired: vec![(4, 3)], ..LaneRecord::default() };
    assert_eq!(LaneRecord::decode(&odd.encode()), None);
}

#[test]
fn a_panic_inside_is_damage_outside() {
    let caller = Caller::start().unwrap();
    let fault = fence(&caller, 1, || -> sled::Result<()> { panic!("at the disco") }).unwrap_err();
    assert_eq!(fault.to_string(), "the index is damaged: panic: at the disco");
    let full = io::Error::from_raw_os_error(28);
    let fault = fence(&caller, 1, move || -> sled::Result<()> { Err(sled::Error::Io(full)) }).unwrap_err();
    assert!(matches!(fault, IndexFault::Io(_)));
}

#[test]
fn a_second_handle_is_a_busy_disk_and_no_damage() {
    let dir = TempDir::new().unwrap();
    let index = Index::open(dir.path()).unwrap();
    assert!(matches!(Index::open(dir.path()), Err(IndexFault::Io(_))));
    index.close();
    assert!(Index::open(dir.path()).is_ok());
}

#[test]
fn an_index_that_does_not_return_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let mut index = Index::open(dir.path()).unwrap();
    index.put_run(&lane("a"), &run(1..2)).unwrap();
    index.stall();
    assert!(matches!(index.flush(), Err(IndexFault::Hung)));
    assert!(index.handles.is_none());
    assert!(matches!(index.put_run(&lane("a"), &run(2..3)), Err(IndexFault::Hung)));
    index.close();
    assert!(
        matches!(Index::open(dir.path()), Err(IndexFault::Io(error)) if error.kind() == io::ErrorKind::ResourceBusy)
    );
}
