//! A crowd that has an end, and of which nobody may be more than a part.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many, of all and of one.
#[derive(Clone, Copy)]
pub struct Limit {
    /// Of all.
    pub all: usize,
    /// Of one.
    pub of_one: usize,
}

/// Who is there.
pub struct Crowd<K> {
    limit: Limit,
    there: Mutex<(usize, HashMap<K, usize>)>,
}

/// A place in a crowd, until it is dropped.
pub struct Place<K: Eq + Hash> {
    whose: K,
    crowd: Arc<Crowd<K>>,
}

impl<K: Clone + Eq + Hash> Crowd<K> {
    /// Nobody yet.
    pub fn new(limit: Limit) -> Arc<Self> {
        Arc::new(Self { limit, there: Mutex::default() })
    }

    /// A place, where there is one.
    pub fn enter(self: &Arc<Self>, whose: K) -> Option<Place<K>> {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, of_one) = (there.0, there.1.get(&whose).copied().unwrap_or_default());
        if all >= self.limit.all || of_one >= self.limit.of_one {
            return None;
        }
        there.0 += 1;
        there.1.insert(whose.clone(), of_one + 1);
        Some(Place { whose, crowd: self.clone() })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut there = self.crowd.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.0 -= 1;
        if let Some(theirs) = there.1.get_mut(&self.whose) {
            *theirs -= 1;
            if *theirs == 0 {
                there.1.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_does_not_keep_the_others_out() {
        let crowd = Crowd::new(Limit { all: 100, of_one: 30 });
        let greedy: Vec<_> = (0..1000).filter_map(|_| crowd.enter(0)).collect();
        assert_eq!(greedy.len(), 30);
        let modest = crowd.enter(1);
        assert!(modest.is_some());
        let rest: Vec<_> = (2..1000).filter_map(|number| crowd.enter(number)).collect();
        assert_eq!(rest.len(), 69, "there is an end");
        drop((greedy, modest, rest));
        assert!(crowd.enter(0).is_some());
        let there = crowd.there.lock().unwrap();
        assert_eq!((there.0, there.1.len()), (0, 0), "nothing is left of who has gone");
    }
}
