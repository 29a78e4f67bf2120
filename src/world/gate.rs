//! Gates before providers: one per host, as wide as the host bears, the most urgent first, and every other turn to the youngest without
//! a token: a new account does not wait for the thousands that were there before it. And per host and client the time for which the provider asked not to be asked. Whoever waits here holds nothing, and whoever went through has room for all
//! that is to be read and written for one token. A gate of another kind is before the API server: what is only to be told is told by few at once,
//! because it takes longer than a token's own write, and somebody may be waiting for that.

use super::clock;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Tokens under way from a host that nobody has asked yet.
const FIRST_WIDTH: usize = 2;
/// Tokens under way from a host that answers well.
const MOST_WIDTH: usize = 64;
/// Statuses under way at once that tell of tokens which are published already.
const MOST_TOLD: usize = 8;
/// Gates, and cool-downs, that are kept while nobody needs them.
const KEPT: usize = 1024;

/// How an answer speaks of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// It answers: more may be asked of it.
    Well,
    /// It does not keep up: 429, 503, no answer in time.
    Overloaded,
    /// Neither.
    Indifferent,
}

/// How many requests a host bears: twice as many after each round that went well, one after trouble.
#[derive(Debug)]
struct Limiter<T> {
    width: usize,
    under_way: usize,
    /// Answers of this round that were well.
    well: usize,
    /// Counts the troubles: answers to what was asked before the last one do not count for this round.
    epoch: u64,
    /// Who waits, by urgency and then by arrival.
    waiting: BTreeMap<(Timestamp, u64), T>,
    arrivals: u64,
    /// Whether this turn is that of the youngest of those without a token.
    last_first: bool,
}

impl<T> Default for Limiter<T> {
    fn default() -> Self {
        Self { width: FIRST_WIDTH, under_way: 0, well: 0, epoch: 0, waiting: BTreeMap::new(), arrivals: 0, last_first: false }
    }
}

impl<T> Limiter<T> {
    /// Somebody comes, whose token expires at this moment, or who was made then and has none.
    fn arrive(&mut self, deadline: Timestamp, who: T) {
        self.arrivals += 1;
        self.waiting.insert((deadline, self.arrivals), who);
    }

    /// The next one that may go through, if there is room.
    fn admit(&mut self, now: Timestamp) -> Option<T> {
        if self.under_way >= self.width {
            return None;
        }
        let last = self.waiting.range(..=(now, u64::MAX)).next_back().map(|(key, _)| *key).filter(|_| self.last_first);
        let who = match last {
            Some(key) => self.waiting.remove(&key),
            None => self.waiting.pop_first().map(|(_, who)| who),
        };
        self.under_way += usize::from(who.is_some());
        self.last_first ^= who.is_some();
        who
    }

    /// Whether there is room now and nobody waits for it; then it is taken.
    fn admit_at_once(&mut self) -> bool {
        let free = self.under_way < self.width && self.waiting.is_empty();
        self.under_way += usize::from(free);
        free
    }

    /// Somebody is done.
    fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// An answer has come to somebody admitted in this epoch.
    fn learn(&mut self, bearing: Bearing, epoch: u64) {
        match bearing {
            Bearing::Overloaded => (self.width, self.well, self.epoch) = (1, 0, self.epoch + 1),
            Bearing::Well if epoch == self.epoch => self.well += 1,
            Bearing::Well | Bearing::Indifferent => {}
        }
        if self.well >= self.width {
            (self.width, self.well) = ((2 * self.width).min(MOST_WIDTH), 0);
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }
}

type Gate = Arc<Mutex<Limiter<oneshot::Sender<Permit>>>>;

/// The right to one token, until it is dropped.
pub struct Permit {
    /// None once it is given back.
    gate: Option<Gate>,
    epoch: u64,
}

impl Permit {
    /// What was learned of the host.
    pub fn learn(&self, bearing: Bearing) {
        if let Some(gate) = &self.gate {
            lock(gate).learn(bearing, self.epoch);
            open(gate);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            lock(&gate).leave();
            open(&gate);
        }
    }
}

/// The gates of one process.
pub struct Gates {
    hosts: Mutex<HashMap<String, Gate>>,
    cooling: Mutex<HashMap<(String, String), Timestamp>>,
    /// Before the statuses that tell of published tokens.
    telling: Gate,
}

impl Default for Gates {
    fn default() -> Self {
        let telling = Arc::new(Mutex::new(Limiter { width: MOST_TOLD, ..Limiter::default() }));
        Self { hosts: Mutex::default(), cooling: Mutex::default(), telling }
    }
}

impl Gates {
    /// The right to tell of a token that is published, if there is room at once.
    pub fn tell_now(&self) -> Option<Permit> {
        lock(&self.telling).admit_at_once().then(|| Permit { gate: Some(self.telling.clone()), epoch: 0 })
    }

    /// Waits for the right to tell that an account which was made at this moment has its token. Every other turn is that of the youngest.
    pub async fn tell(&self, made: Timestamp) -> Option<Permit> {
        enter(&self.telling, made).await
    }

    /// Waits until a request to this host may be made. Whoever's token expires first goes first; who has none passes
    /// when it was made, and so goes before all whose token still lives.
    pub async fn enter(&self, host: &str, deadline: Timestamp) -> Option<Permit> {
        enter(&self.gate(host), deadline).await
    }

    /// Until when this client is not to ask this host.
    pub fn cooling_until(&self, host: &str, client: &str, now: Timestamp) -> Option<Timestamp> {
        lock(&self.cooling).get(&(host.to_owned(), client.to_owned())).copied().filter(|until| *until > now)
    }

    /// The host has asked this client for patience: what it says to one client stops no other.
    pub fn cool(&self, host: &str, client: &str, until: Timestamp, now: Timestamp) {
        let mut cooling = lock(&self.cooling);
        // Tenants choose hosts and clients: what is kept for them must have an end.
        if cooling.len() >= KEPT {
            cooling.retain(|_, until| *until > now);
        }
        if cooling.len() < 16 * KEPT {
            let longest = cooling.entry((host.to_owned(), client.to_owned())).or_insert(until);
            *longest = until.max(*longest);
        }
    }

    fn gate(&self, host: &str) -> Gate {
        let mut hosts = lock(&self.hosts);
        // Tenants choose the hosts: what is kept for them must have an end.
        if hosts.len() >= KEPT {
            hosts.retain(|_, gate| Arc::strong_count(gate) > 1 || !lock(gate).is_idle());
        }
        hosts.entry(host.to_owned()).or_default().clone()
    }
}

async fn enter(gate: &Gate, deadline: Timestamp) -> Option<Permit> {
    let (admitted, turn) = oneshot::channel();
    lock(gate).arrive(deadline, admitted);
    open(gate);
    turn.await.ok()
}

/// Lets through whoever there is room for. One who has stopped waiting gives the room back at once.
fn open(gate: &Gate) {
    loop {
        let (turn, epoch) = {
            let mut limiter = lock(gate);
            let Some(turn) = limiter.admit(clock::now()) else { return };
            (turn, limiter.epoch)
        };
        // The permit of one who is gone comes back; its room goes to the next here and now, however many are gone.
        if let Err(mut permit) = turn.send(Permit { gate: Some(gate.clone()), epoch }) {
            permit.gate = None;
            lock(gate).leave();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole before its lock is let go.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn widths(bearings: impl IntoIterator<Item = Bearing>) -> Vec<usize> {
        let mut limiter = Limiter::<()>::default();
        let mut widths = vec![limiter.width];
        for bearing in bearings {
            limiter.learn(bearing, limiter.epoch);
            widths.push(limiter.width);
        }
        widths
    }

    #[test]
    fn the_width_doubles_after_each_round_that_went_well_up_to_sixty_four() {
        let widths = widths(std::iter::repeat_n(Bearing::Well, 200));
        assert_eq!(widths[..7], [2, 2, 4, 4, 4, 4, 8]);
        assert_eq!(widths.last(), Some(&64));
    }

    #[test]
    fn trouble_narrows_it_to_one_and_indifference_changes_nothing() {
        assert_eq!(widths([Bearing::Well, Bearing::Well, Bearing::Overloaded, Bearing::Well]), [2, 2, 4, 1, 2]);
        assert_eq!(widths([Bearing::Indifferent; 5]), [2; 6]);
    }

    #[test]
    fn what_was_asked_before_the_trouble_does_not_widen_it_again() {
        let mut limiter = Limiter::<()> { width: 64, under_way: 64, ..Limiter::default() };
        limiter.learn(Bearing::Overloaded, 0);
        (0..63).for_each(|_| limiter.learn(Bearing::Well, 0));
        assert_eq!(limiter.width, 1);
        limiter.learn(Bearing::Well, 1);
        assert_eq!(limiter.width, 2);
    }

    #[test]
    fn the_most_urgent_goes_first_and_equals_in_the_order_they_came() {
        let mut limiter = Limiter { width: 1, ..Limiter::default() };
        for (deadline, who) in [(300, "an hour left"), (10, "about to expire"), (0, "new"), (10, "about to expire, later")] {
            limiter.arrive(second(deadline), who);
        }
        let mut order = vec![];
        while let Some(who) = limiter.admit(second(0)) {
            order.push(who);
            assert_eq!(limiter.admit(second(0)), None, "one at a time");
            limiter.leave();
        }
        assert_eq!(order, ["new", "about to expire", "about to expire, later", "an hour left"]);
    }

    #[test]
    fn who_comes_last_without_a_token_does_not_wait_for_all_who_came_before() {
        let mut limiter = Limiter { width: 1, ..Limiter::default() };
        limiter.arrive(second(1000), 1000);
        (0..100).for_each(|moment| limiter.arrive(second(moment), moment));
        let mut turn = |now: i64| {
            let who = limiter.admit(second(now));
            limiter.leave();
            who
        };
        assert_eq!([turn(100), turn(100), turn(100), turn(100)], [Some(0), Some(99), Some(1), Some(98)]);
        let rest: Vec<_> = std::iter::from_fn(|| turn(100)).collect();
        assert_eq!((rest.len(), rest.last()), (97, Some(&1000)), "everybody has a turn, and who has a token the last one");
    }

    #[tokio::test]
    async fn one_who_stops_waiting_takes_no_room() {
        let gates = Gates::default();
        let first = gates.enter("a", second(1)).await.unwrap();
        let second_permit = gates.enter("a", second(1)).await.unwrap();
        let mut gone = Box::pin(gates.enter("a", second(1)));
        assert!(futures::poll!(&mut gone).is_pending(), "two at first");
        drop(gone);
        let mut next = Box::pin(gates.enter("a", second(2)));
        assert!(futures::poll!(&mut next).is_pending());
        first.learn(Bearing::Well);
        assert!(futures::poll!(&mut next).is_pending(), "who has an answer is not done");
        drop(first);
        let third = next.await.unwrap();
        assert!(futures::poll!(Box::pin(gates.enter("b", second(1)))).is_ready(), "another host has a gate of its own");
        drop(second_permit);
        drop(third);
        assert!(lock(&gates.gate("a")).is_idle());
    }

    #[tokio::test]
    async fn any_number_of_those_who_stopped_waiting_is_passed_over() {
        let gates = Gates::default();
        let (first, other) = (gates.enter("a", second(1)).await.unwrap(), gates.enter("a", second(1)).await.unwrap());
        let mut gone: Vec<_> = (0..100_000).map(|_| Box::pin(gates.enter("a", second(1)))).collect();
        for waiting in &mut gone {
            assert!(futures::poll!(waiting).is_pending());
        }
        drop(gone);
        let mut next = Box::pin(gates.enter("a", second(2)));
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        assert!(futures::poll!(&mut next).is_ready(), "and whoever still waits comes through");
        drop(other);
    }

    #[tokio::test]
    async fn so_many_tell_at_once_and_the_youngest_goes_second() {
        let gates = Gates::default();
        let telling: Vec<_> = std::iter::from_fn(|| gates.tell_now()).collect();
        assert_eq!(telling.len(), MOST_TOLD);
        let mut waiting: Vec<_> = [10, 30, 40, 20].map(|made| Box::pin(gates.tell(second(made)))).into();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        let mut told = vec![];
        for permit in telling.into_iter().take(4) {
            drop(permit);
            for (number, one) in waiting.iter_mut().enumerate().filter(|(number, _)| !told.contains(number)) {
                if let std::task::Poll::Ready(permit) = futures::poll!(one) {
                    told.push(number);
                    // It goes on telling.
                    std::mem::forget(permit);
                    break;
                }
            }
            assert!(gates.tell_now().is_none(), "whoever waits goes before whoever comes");
        }
        assert_eq!(told, [0, 2, 3, 1]);
    }

    #[test]
    fn one_client_s_patience_is_no_other_s() {
        let gates = Gates::default();
        gates.cool("a", "client", second(30), second(0));
        assert_eq!(gates.cooling_until("a", "client", second(29)), Some(second(30)));
        gates.cool("a", "client", second(10), second(5));
        assert_eq!(gates.cooling_until("a", "client", second(29)), Some(second(30)), "the longest wish counts");
        assert_eq!(gates.cooling_until("a", "client", second(30)), None);
        assert_eq!(gates.cooling_until("a", "other", second(1)), None);
        assert_eq!(gates.cooling_until("b", "client", second(1)), None);
    }
}
