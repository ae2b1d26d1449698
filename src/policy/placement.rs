//! Which ports and which address a new container gets.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

/// Chooses `count` free ports, the first free ones after `last`, going round: a port that has just become free is given
/// out again as late as possible, since somebody may still connect to it. `None` if there are not enough.
pub fn choose_ports(
    range: RangeInclusive<u16>,
    taken: &BTreeSet<u16>,
    last: Option<u16>,
    count: usize,
) -> Option<Vec<u16>> {
    let free = |port: &u16| !taken.contains(port);
    let chosen: Vec<u16> = rotated(range, last).filter(free).take(count).collect();
    (chosen.len() == count).then_some(chosen)
}

/// Chooses a free address in the same way.
pub fn choose_address(
    addresses: impl Iterator<Item = Ipv4Addr> + Clone,
    taken: &BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let after = addresses.clone().filter(|a| last.is_some_and(|last| *a > last));
    after.chain(addresses).find(|a| !taken.contains(a))
}

fn rotated(range: RangeInclusive<u16>, last: Option<u16>) -> impl Iterator<Item = u16> {
    let (first, end) = range.into_inner();
    let from = last.filter(|l| (first..end).contains(l)).map_or(first, |l| l + 1);
    (from..=end).chain(first..from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_go_round_and_run_out() {
        let taken = BTreeSet::from([12]);
        assert_eq!(choose_ports(10..=14, &taken, None, 2), Some(vec![10, 11]));
        assert_eq!(choose_ports(10..=14, &taken, Some(11), 2), Some(vec![13, 14]));
        assert_eq!(choose_ports(10..=14, &taken, Some(13), 2), Some(vec![14, 10]));
        assert_eq!(choose_ports(10..=14, &taken, Some(14), 1), Some(vec![10]));
        assert_eq!(choose_ports(10..=14, &taken, Some(9), 4), Some(vec![10, 11, 13, 14]));
        assert_eq!(choose_ports(10..=14, &taken, None, 5), None);
    }

    #[test]
    fn addresses_go_round_and_run_out() {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let all = [address(2), address(3), address(4)];
        let choose = |taken: &[u8], last: Option<u8>| {
            choose_address(all.iter().copied(), &taken.iter().copied().map(address).collect(), last.map(address))
        };
        assert_eq!(choose(&[], None), Some(address(2)));
        assert_eq!(choose(&[], Some(3)), Some(address(4)));
        assert_eq!(choose(&[4], Some(3)), Some(address(2)));
        assert_eq!(choose(&[2, 3, 4], Some(3)), None);
    }

    proptest! {
        #[test]
        fn chosen_ports_are_free_distinct_and_in_range(
            taken in prop::collection::btree_set(100u16..150, 0..50), last in prop::option::of(90u16..160), count in 1usize..5,
        ) {
            match choose_ports(100..=149, &taken, last, count) {
                Some(ports) => {
                    prop_assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), count);
                    prop_assert!(ports.iter().all(|p| (100..=149).contains(p) && !taken.contains(p)));
                }
                None => prop_assert!(50 - taken.len() < count),
            }
        }
    }
}
