//! Judges seats by what holders definitely knew.
//!
//! A holder definitely holds from the moment the grant's answer had arrived to the moment it sent
//! the return. Whatever the server did, more definite holds at one moment than seats bought is an
//! oversell; no clock but the holders' own monotonic one is used.

/// One seat (or several) definitely held, in nanoseconds of one monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The lease.
    pub lease_id: String,
    /// Its fence, whose text order is the order of grants.
    pub fence: String,
    /// Seats.
    pub quantity: u32,
    /// When the request was sent that was granted.
    pub asked_ns: u64,
    /// When the grant had arrived.
    pub from_ns: u64,
    /// When the return was sent.
    pub until_ns: u64,
}

/// The most seats definitely held at one moment.
pub fn most_seats_held_at_once(holds: &[Hold]) -> u64 {
    let mut edges: Vec<(u64, i64)> = Vec::with_capacity(holds.len() * 2);
    for hold in holds.iter().filter(|hold| hold.from_ns < hold.until_ns) {
        edges.push((hold.from_ns, i64::from(hold.quantity)));
        edges.push((hold.until_ns, -i64::from(hold.quantity)));
    }
    // At one instant, what ends goes before what begins: only a true overlap counts.
    edges.sort_unstable();
    let mut now = 0_i64;
    let mut most = 0_i64;
    for (_, change) in edges {
        now += change;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or(0)
}

/// Pairs whose fences contradict real time: a grant that had arrived before another was asked for
/// must have the smaller fence.
pub fn fences_against_real_time(holds: &[Hold]) -> Vec<(Hold, Hold)> {
    let mut by_arrival: Vec<&Hold> = holds.iter().collect();
    by_arrival.sort_by_key(|hold| hold.from_ns);
    let mut by_asking: Vec<&Hold> = holds.iter().collect();
    by_asking.sort_by_key(|hold| hold.asked_ns);
    let mut arrived = by_arrival.into_iter().peekable();
    let mut greatest: Option<&Hold> = None;
    let mut wrong = Vec::new();
    for later in by_asking {
        while let Some(earlier) = arrived.next_if(|hold| hold.from_ns < later.asked_ns) {
            if greatest.is_none_or(|hold| hold.fence < earlier.fence) {
                greatest = Some(earlier);
            }
        }
        if let Some(earlier) = greatest
            && earlier.fence >= later.fence
        {
            wrong.push((earlier.clone(), later.clone()));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(fence: u64, asked: u64, from: u64, until: u64) -> Hold {
        Hold {
            lease_id: format!("lease-{fence}"),
            fence: format!("{fence:016x}"),
            quantity: 1,
            asked_ns: asked,
            from_ns: from,
            until_ns: until,
        }
    }

    #[test]
    fn overlaps_are_counted_and_touching_ends_are_not() {
        assert_eq!(most_seats_held_at_once(&[]), 0);
        assert_eq!(most_seats_held_at_once(&[hold(1, 0, 1, 5), hold(2, 1, 2, 6)]), 2);
        assert_eq!(most_seats_held_at_once(&[hold(1, 0, 1, 5), hold(2, 1, 5, 6)]), 1);
    }

    #[test]
    fn an_oversell_that_was_planted_is_found() {
        let mut holds: Vec<Hold> = (0..20).map(|n| hold(n, n, n + 1, 1_000)).collect();
        assert_eq!(most_seats_held_at_once(&holds), 20);
        holds.push(hold(20, 500, 501, 502));
        assert_eq!(most_seats_held_at_once(&holds), 21);
    }

    #[test]
    fn a_fence_that_went_back_is_found() {
        assert!(fences_against_real_time(&[hold(1, 0, 1, 9), hold(2, 2, 3, 9)]).is_empty());
        assert_eq!(fences_against_real_time(&[hold(2, 0, 1, 9), hold(1, 2, 3, 9)]).len(), 1);
        // Concurrent grants may be fenced either way.
        assert!(fences_against_real_time(&[hold(2, 0, 3, 9), hold(1, 2, 4, 9)]).is_empty());
    }
}
