//! Succession: which of the engine's containers under one id is the container. A reset makes a second one, which takes the
//! first one's place once it has been started; whatever cuts a reset off leaves both.
//!
//! A copy that somebody made with all of its labels names none that it replaces, and takes nobody's place.

use crate::model::{ContainerId, EngineId, EngineState, Name, Observation, birth};

/// One of the engine's containers under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The engine's id of it.
    pub engine_id: &'a EngineId,
    /// What it is doing.
    pub state: EngineState,
    /// Whose place it is made to take.
    pub replaces: Option<&'a EngineId>,
}

/// The one that is the container, if any is: of those that were ever started and have no successor the one that is known,
/// and the last if none is.
pub fn choose<'a>(known: Option<&EngineId>, candidates: &[Candidate<'a>]) -> Option<&'a EngineId> {
    let started = |c: &&Candidate<'a>| c.state != EngineState::Created;
    let replaced = |old: &Candidate<'a>| {
        let mut heirs = candidates.iter().filter(started).filter(|heir| heir.replaces == Some(old.engine_id));
        // What is up is in use, whatever came of its successor.
        heirs.any(|heir| heir.state.is_up() || !old.state.is_up())
    };
    let mut left = candidates.iter().filter(started).filter(|c| !replaced(c)).map(|c| c.engine_id);
    left.clone().find(|id| known == Some(*id)).or_else(|| left.next_back())
}

/// Whether `heir` has taken the place of `old`.
pub fn has_replaced(heir: &Observation, old: &Observation) -> bool {
    let (id, replaces) = (&heir.engine_id, replaced_by(heir));
    let heir = Candidate { engine_id: id, state: heir.state, replaces: replaces.as_ref() };
    let old = Candidate { engine_id: &old.engine_id, state: old.state, replaces: None };
    choose(Some(old.engine_id), &[heir, old]) == Some(id)
}

/// The engine's id of the one whose place it was made to take.
pub fn replaced_by(heir: &Observation) -> Option<EngineId> {
    heir.labels.get(birth::REPLACES).and_then(|id| EngineId::parse(id).ok())
}

/// What a successor is called until the name is free.
pub fn temporary_name(id: &ContainerId) -> Name {
    Name::from_engine(&format!("{id}-reset"))
}

/// The name that a successor is still to get.
pub fn name_to_get(seen: &Observation) -> Option<Name> {
    let wanted = seen.labels.get(birth::NAME).filter(|_| seen.name == temporary_name(&seen.id))?;
    Some(Name::from_engine(wanted))
}

/// The same, called by that name: it is its own, though the engine does not know yet.
pub fn with_its_name(seen: Observation) -> Observation {
    match name_to_get(&seen) {
        Some(name) => Observation { name, ..seen },
        None => seen,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::macros::datetime;

    use super::*;

    fn engine_id(number: u8) -> EngineId {
        EngineId::parse(&format!("{number:064x}")).unwrap()
    }

    #[test]
    fn the_one_that_is_the_container() {
        use EngineState::{Created, Exited, Paused, Running};
        // What is known, then each with its state and whose place it takes; last, who it is.
        type Row<'a> = (u8, &'a [(u8, EngineState, u8)], u8);
        let rows: [Row<'_>; 15] = [
            (0, &[], 0),
            (0, &[(1, Exited, 0)], 1),
            (1, &[(1, Running, 0)], 1),
            // Never started: nobody's yet.
            (0, &[(1, Created, 0)], 0),
            (1, &[(2, Created, 1)], 0),
            // A reset that was cut off before the start, or after it.
            (1, &[(2, Created, 1), (1, Exited, 0)], 1),
            (1, &[(2, Created, 1), (1, Running, 0)], 1),
            (1, &[(2, Running, 1), (1, Exited, 0)], 2),
            (1, &[(2, Exited, 1), (1, Exited, 0)], 2),
            (0, &[(1, Exited, 0), (2, Paused, 1)], 2),
            // Somebody has started the old one since, and may be working in it.
            (1, &[(2, Exited, 1), (1, Running, 0)], 1),
            // One reset after the other.
            (2, &[(3, Running, 2), (2, Exited, 1), (1, Exited, 0)], 3),
            // Copies take nobody's place.
            (1, &[(2, Running, 0), (1, Exited, 0)], 1),
            (1, &[(2, Running, 9), (1, Exited, 0)], 1),
            (0, &[(2, Running, 0), (1, Exited, 0)], 1),
        ];
        for (known, those, expected) in rows {
            let ids: Vec<_> = (0..10).map(engine_id).collect();
            let id = |number: u8| (number > 0).then(|| &ids[usize::from(number)]);
            let candidates: Vec<_> = those
                .iter()
                .map(|(number, state, replaces)| Candidate {
                    engine_id: &ids[usize::from(*number)],
                    state: *state,
                    replaces: id(*replaces),
                })
                .collect();
            assert_eq!(choose(id(known), &candidates), id(expected), "{known} {those:?}");
        }
    }

    #[test]
    fn a_successor_gets_its_name_when_it_has_none_of_its_own() {
        let id = ContainerId::from_bits(7);
        let mut seen = Observation {
            engine_id: engine_id(1),
            name: temporary_name(&id),
            id,
            image: String::new(),
            state: EngineState::Running,
            exit_code: None,
            created_at: datetime!(2026-03-04 05:06 UTC),
            started_at: None,
            pid: None,
            finished_at: None,
            address: None,
            ports: Vec::new(),
            labels: BTreeMap::new(),
            volumes: BTreeMap::new(),
        };
        assert_eq!(name_to_get(&seen), None);
        seen.labels.insert(birth::NAME.to_owned(), "bell".to_owned());
        assert_eq!(name_to_get(&seen), Some(Name::from_engine("bell")));
        seen.name = Name::from_engine("whistle");
        assert_eq!(name_to_get(&seen), None);
    }
}
