//! How many connections may wait at the door, in all and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The most that may wait at once; more are closed.
pub(super) const MOST: usize = 1_024;
/// The most of one address: a class may be behind one.
pub(super) const MOST_OF_ONE: usize = 256;

/// Those that wait, by address.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place, held until it is dropped.
pub(super) struct Place {
    places: Places,
    of: IpAddr,
}

impl Places {
    /// A place for somebody at this address, if there is one left.
    pub(super) fn take(&self, of: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&of).copied().unwrap_or_default());
        if all >= MOST || own >= MOST_OF_ONE {
            return None;
        }
        taken.insert(of, own + 1);
        Some(Place { places: self.clone(), of })
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Whoever held it left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_one_and_for_all_and_given_back() {
        let places = Places::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let mut held: Vec<_> = (0..MOST_OF_ONE).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(places.take(address(1)).is_none());
        held.extend((MOST_OF_ONE..MOST).map(|number| places.take(address(u32::try_from(number).unwrap())).unwrap()));
        assert!(places.take(address(2)).is_none());
        held.remove(0);
        held.push(places.take(address(2)).unwrap());
        held.clear();
        assert!(places.taken().is_empty());
    }
}
