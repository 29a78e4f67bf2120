//! Which account of a pool a request is sent with. Pure: what is known of each, and the draw, are given.

use smallvec::SmallVec;

/// What is known of one account when a request is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// What keeps it from being used, if anything does.
    pub obstacle: Option<Obstacle>,
    /// Whether the breaker is open.
    pub broken: bool,
    /// Whether the upstream has asked for patience with it (429).
    pub cooling: bool,
    /// Whether the upstream has refused its token, and there is no other.
    pub refused: bool,
    /// Lower is used first.
    pub priority: u32,
    /// Share.
    pub weight: u32,
    /// From 0.1 to 1.
    pub health: f64,
    /// Requests under way.
    pub in_flight: usize,
}

/// What keeps an account from being used. In the order in which it is told: the first that one of the pool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It has as many requests under way as it may.
    Saturated,
    /// It has no token, or an expired one.
    NoCredential,
    /// It does not allow this upstream.
    HostNotAllowed,
    /// This request was sent with it already.
    Tried,
}

/// Smooth weighted turns: who is drawn how often follows from the weights, without bursts.
#[derive(Clone, Debug, Default)]
pub struct Turns(Vec<f64>);

/// What tells one request from the next.
pub struct Draw<'a> {
    /// A random number.
    pub random: u64,
    /// What requests stay together by, if the route says so and the request has it.
    pub sticky: Option<&'a [u8]>,
}

/// Chooses one account of those that can be used: of the lowest priority number, and before those whose token was refused, or
/// that the upstream has asked for patience with. The breaker never closes the last way: where all that could be used are broken, it is ignored.
///
/// # Errors
/// What keeps all of them, told by the nearest to being usable.
pub fn choose<'a>(
    views: &[View],
    name: impl Fn(usize) -> &'a str,
    turns: &mut Turns,
    draw: &Draw<'_>,
) -> Result<usize, Obstacle> {
    let usable = || (0..views.len()).filter(|index| views[*index].obstacle.is_none());
    if usable().next().is_none() {
        return Err(views.iter().filter_map(|view| view.obstacle).min().unwrap_or(Obstacle::NoCredential));
    }
    let whole = usable().any(|index| !views[index].broken);
    let rank = |index: usize| (whole && views[index].broken, views[index].refused, views[index].cooling, views[index].priority);
    let best = usable().map(rank).min();
    let tier: SmallVec<[usize; 8]> = usable().filter(|index| Some(rank(*index)) == best).collect();
    if let [only] = tier[..] {
        return Ok(only);
    }
    if let Some(key) = draw.sticky {
        return Ok(rendezvous(&tier, views, name, key));
    }
    let turn = turns.next(&tier, views);
    // Power of two: another at random, in case the turn's is busier for its share.
    let place = usize::try_from(draw.random).unwrap_or_default() % (tier.len() - 1);
    let other = tier.iter().copied().filter(|index| *index != turn).nth(place).unwrap_or(turn);
    // Without `+ 1`: with it, the heaviest would be drawn always while nothing is under way, whatever the weights.
    let load = |index: usize| views[index].in_flight as f64 / (f64::from(views[index].weight) * views[index].health);
    Ok(if load(other) < load(turn) { other } else { turn })
}

impl Turns {
    /// The next, as nginx's smooth weighted round robin has it: each gains its weight, the one that has most pays them all.
    fn next(&mut self, tier: &[usize], views: &[View]) -> usize {
        self.0.resize(views.len(), 0.0);
        let share = |index: usize| f64::from(views[index].weight) * views[index].health;
        let whole: f64 = tier.iter().map(|index| share(*index)).sum();
        let mut most = tier[0];
        for &index in tier {
            self.0[index] += share(index);
            if self.0[index] > self.0[most] {
                most = index;
            }
        }
        self.0[most] -= whole;
        most
    }
}

/// Weighted rendezvous hashing: a key stays with its account while that can be used, and only its own keys move when it cannot.
fn rendezvous<'a>(tier: &[usize], views: &[View], name: impl Fn(usize) -> &'a str, key: &[u8]) -> usize {
    let score = |index: usize| {
        // FNV-1a with a finisher: the same in every replica, whatever Rust's own hasher does.
        let mut hash = name(index)
            .bytes()
            .chain([0])
            .chain(key.iter().copied())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(views[index].weight) / unit.ln()
    };
    let mut best = (tier[0], f64::MIN);
    for &index in tier {
        let score = score(index);
        if score > best.1 {
            best = (index, score);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: View =
        View { obstacle: None, broken: false, cooling: false, refused: false, priority: 0, weight: 1, health: 1.0, in_flight: 0 };

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn count(views: &[View], requests: usize) -> Vec<usize> {
        let mut turns = Turns::default();
        let mut counts = vec![0; views.len()];
        for random in 0..requests as u64 {
            let draw = Draw { random, sticky: None };
            counts[choose(views, |index| NAMES[index], &mut turns, &draw).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn at_rest_the_shares_are_the_weights() {
        let views = [View { weight: 3, ..FREE }, FREE];
        assert_eq!(count(&views, 400), [300, 100]);
        let views = [FREE, View { health: 0.5, ..FREE }, FREE];
        assert_eq!(count(&views, 500), [200, 100, 200]);
    }

    #[test]
    fn turns_are_smooth() {
        let views = [View { weight: 2, ..FREE }, FREE];
        let mut turns = Turns::default();
        let draw = Draw { random: 0, sticky: None };
        let drawn: Vec<_> = (0..6).map(|_| choose(&views, |index| NAMES[index], &mut turns, &draw).unwrap()).collect();
        assert_eq!(drawn, [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn the_less_busy_of_two_is_preferred() {
        assert_eq!(count(&[View { in_flight: 9, ..FREE }, FREE], 10), [0, 10]);
        // Nine requests are not many for ten shares.
        assert_eq!(count(&[View { in_flight: 9, weight: 10, ..FREE }, View { in_flight: 1, ..FREE }], 11), [11, 0]);
    }

    #[test]
    fn a_lower_priority_number_goes_first_and_the_rest_only_when_it_cannot() {
        let spare = View { priority: 1, ..FREE };
        assert_eq!(count(&[FREE, spare], 10), [10, 0]);
        let kept = View { obstacle: Some(Obstacle::NoCredential), ..FREE };
        assert_eq!(count(&[kept, spare], 10), [0, 10]);
        assert_eq!(count(&[View { cooling: true, ..FREE }, spare], 10), [0, 10]);
        assert_eq!(count(&[View { broken: true, ..FREE }, spare], 10), [0, 10]);
        assert_eq!(count(&[View { refused: true, ..FREE }, spare], 10), [0, 10]);
        assert_eq!(count(&[View { refused: true, ..FREE }, View { cooling: true, ..FREE }], 10), [0, 10]);
    }

    #[test]
    fn the_last_way_is_never_closed_by_a_breaker_or_by_patience() {
        let broken = View { broken: true, ..FREE };
        assert_eq!(count(&[broken, View { obstacle: Some(Obstacle::NoCredential), ..FREE }], 5), [5, 0]);
        assert_eq!(count(&[View { cooling: true, ..broken }, broken], 5), [0, 5]);
        assert_eq!(count(&[View { cooling: true, ..FREE }], 5), [5]);
    }

    #[test]
    fn where_none_can_be_used_the_nearest_obstacle_is_told() {
        let with = |obstacle| View { obstacle: Some(obstacle), ..FREE };
        let told = |views: &[View]| {
            choose(views, |index| NAMES[index], &mut Turns::default(), &Draw { random: 0, sticky: None }).unwrap_err()
        };
        assert_eq!(told(&[with(Obstacle::Tried), with(Obstacle::Saturated)]), Obstacle::Saturated);
        assert_eq!(told(&[with(Obstacle::HostNotAllowed), with(Obstacle::NoCredential)]), Obstacle::NoCredential);
        assert_eq!(told(&[]), Obstacle::NoCredential);
    }

    #[test]
    fn a_key_stays_with_its_account_and_only_those_of_a_lost_one_move() {
        let mut views = [FREE; 3];
        let of = |views: &[View], key: u32| {
            let key = key.to_be_bytes();
            choose(views, |index| NAMES[index], &mut Turns::default(), &Draw { random: u64::from(key[3]), sticky: Some(&key) })
                .unwrap()
        };
        let before: Vec<_> = (0..3000).map(|key| of(&views, key)).collect();
        for account in 0..3 {
            let share = before.iter().filter(|chosen| **chosen == account).count();
            assert!((900..1100).contains(&share), "{share}");
        }
        views[1].obstacle = Some(Obstacle::NoCredential);
        for (key, was) in before.iter().enumerate() {
            let is = of(&views, u32::try_from(key).unwrap());
            assert!(is != 1 && (*was == 1 || is == *was));
        }
    }
}
