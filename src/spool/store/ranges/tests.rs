use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn ranges_are_a_set(ops in prop::collection::vec((any::<bool>(), 0..60u64, 0..6u64), 0..40)) {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        for (adds, first, more) in ops {
            if adds {
                ranges.insert(first, first + more);
                set.extend(first..=first + more);
            } else {
                ranges.remove(first);
                set.remove(&first);
            }
        }
        for seq in 0..70 {
            prop_assert_eq!(ranges.contains(seq), set.contains(&seq));
            if !set.contains(&seq) {
                prop_assert_eq!(ranges.last_below(seq), set.range(..seq).next_back().copied());
                prop_assert_eq!(ranges.first_above(seq), set.range(seq..).next().copied());
            }
        }
        let all = ranges.to_vec();
        // None touches the next.
        prop_assert!(all.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{:?}", all);
        prop_assert_eq!(Ranges::from(all), ranges);
    }
}

#[test]
fn ranges_reach_to_the_ends() {
    let mut ranges = Ranges::default();
    ranges.insert(0, u64::MAX);
    ranges.insert(u64::MAX, u64::MAX);
    assert_eq!(ranges.to_vec(), [(0, u64::MAX)]);
    ranges.remove(0);
    ranges.remove(u64::MAX);
    assert_eq!(ranges.to_vec(), [(1, u64::MAX - 1)]);
}
