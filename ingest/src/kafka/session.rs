//! A fetch session with one broker (KIP-227): it remembers what it was asked for and is told what changed, and
//! leaves out of its answers where nothing did.
//!
//! Invariant: what the broker remembers is `held`, whatever order answers and changes came in; where it says
//! that it does not, everything is asked for again. Pure: who asks and who answers is [`super::native`]'s.

use kafka_protocol::ResponseError;

/// Of a request that opens a session, and of answers of brokers that have no room for one.
const NONE: i32 = 0;
const FIRST_EPOCH: i32 = 1;

/// What is asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub leader_epoch: i32,
    pub offset: i64,
    pub bytes_max: i32,
}

/// What a request has to say; partitions by their caller's number.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    pub session: i32,
    pub epoch: i32,
    /// New, or wanted otherwise than before.
    pub asked: Vec<usize>,
    /// Wanted no longer.
    pub forgotten: Vec<usize>,
}

#[derive(Default)]
pub struct Session {
    id: i32,
    /// Of the next request; 0: it says everything.
    epoch: i32,
    /// In the order of their numbers.
    held: Vec<(usize, Wanted)>,
}

impl Session {
    /// The next request, after which these are what the broker holds.
    pub fn ask(&mut self, mut wanted: Vec<(usize, Wanted)>) -> Changes {
        let order: Vec<usize> = wanted.iter().map(|(partition, _)| *partition).collect();
        wanted.sort_unstable_by_key(|(partition, _)| *partition);
        let of = |all: &[(usize, Wanted)], partition: usize| {
            let at = all.binary_search_by_key(&partition, |(partition, _)| *partition);
            at.ok().map(|at| all[at].1)
        };
        let held = if self.epoch == NONE { Vec::new() } else { std::mem::take(&mut self.held) };
        let is_new = |partition: &usize| of(&held, *partition) != of(&wanted, *partition);
        let asked = order.into_iter().filter(is_new).collect();
        let is_gone = |partition: &usize| of(&wanted, *partition).is_none();
        let forgotten = held.iter().map(|(partition, _)| *partition).filter(is_gone).collect();
        self.held = wanted;
        Changes { session: self.id, epoch: self.epoch, asked, forgotten }
    }

    /// The broker has answered the request, in this session.
    pub fn answered(&mut self, id: i32) {
        (self.id, self.epoch) = match (id, self.epoch) {
            // It has no room for sessions: the next request says everything again.
            (NONE, _) => (NONE, NONE),
            (id, i32::MAX) => (id, FIRST_EPOCH),
            (id, epoch) => (id, epoch + 1),
        };
    }

    /// What the broker holds, and answers.
    pub fn held(&self) -> &[(usize, Wanted)] {
        &self.held
    }

    /// Whether an error of a whole answer is about the session, which then begins anew.
    pub fn is_lost(&mut self, error: ResponseError) -> bool {
        let is_lost = matches!(
            error,
            ResponseError::FetchSessionIdNotFound
                | ResponseError::InvalidFetchSessionEpoch
                | ResponseError::FetchSessionTopicIdError
        );
        if is_lost {
            *self = Session::default();
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(offset: i64) -> Wanted {
        Wanted { leader_epoch: 1, offset, bytes_max: 9 }
    }

    fn check(
        session: &mut Session,
        wanted: &[(usize, i64)],
        expected: (i32, i32, &[usize], &[usize]),
    ) {
        let wanted = wanted.iter().map(|&(partition, offset)| (partition, at(offset))).collect();
        let (id, epoch, asked, forgotten) = expected;
        let (asked, forgotten) = (asked.to_vec(), forgotten.to_vec());
        assert_eq!(session.ask(wanted), Changes { session: id, epoch, asked, forgotten });
    }

    #[test]
    fn a_session_is_told_everything_and_then_what_changed() {
        let mut session = Session::default();
        check(&mut session, &[(2, 0), (0, 0), (1, 0)], (0, 0, &[2, 0, 1], &[]));
        session.answered(77);
        check(&mut session, &[(0, 0), (1, 5), (2, 0)], (77, 1, &[1], &[]));
        session.answered(77);
        check(&mut session, &[(1, 5), (2, 0), (3, 0)], (77, 2, &[3], &[0]));
        session.answered(77);
        check(&mut session, &[(3, 0), (1, 5), (2, 0)], (77, 3, &[], &[]));
        assert_eq!(session.held(), [(1, at(5)), (2, at(0)), (3, at(0))]);
        // The leader's epoch counts, too.
        session.answered(77);
        let moved = Wanted { leader_epoch: 2, ..at(5) };
        assert_eq!(session.ask(vec![(1, moved)]).asked, [1]);
    }

    #[test]
    fn a_session_that_is_lost_or_never_was_begins_anew() {
        let mut session = Session::default();
        check(&mut session, &[(0, 0)], (0, 0, &[0], &[]));
        session.answered(0);
        check(&mut session, &[(0, 0)], (0, 0, &[0], &[]));
        session.answered(5);
        check(&mut session, &[(0, 0)], (5, 1, &[], &[]));
        assert!(!session.is_lost(ResponseError::NotLeaderOrFollower));
        assert!(session.is_lost(ResponseError::FetchSessionIdNotFound));
        check(&mut session, &[(0, 3)], (0, 0, &[0], &[]));
    }

    #[test]
    fn epochs_go_round_and_never_say_everything_by_accident() {
        let mut session = Session { id: 5, epoch: i32::MAX, held: Vec::new() };
        session.answered(5);
        check(&mut session, &[], (5, 1, &[], &[]));
    }

    proptest! {
        /// A broker that does as KIP-227 says holds what is wanted, after any history.
        #[test]
        fn the_broker_holds_what_is_wanted(
            rounds in proptest::collection::vec(
                (proptest::collection::btree_map(0usize..6, 0i64..3, 0..6), 0u8..8), 1..40),
        ) {
            let (mut session, mut broker) = (Session::default(), std::collections::BTreeMap::new());
            for (wanted, fate) in rounds {
                let expected: std::collections::BTreeMap<_, _> =
                    wanted.iter().map(|(&partition, &offset)| (partition, at(offset))).collect();
                let Changes { epoch, asked, forgotten, .. } =
                    session.ask(expected.clone().into_iter().collect());
                if epoch == 0 {
                    broker.clear();
                }
                for partition in asked {
                    broker.insert(partition, expected[&partition]);
                }
                for partition in forgotten {
                    broker.remove(&partition);
                }
                prop_assert_eq!(&broker, &expected);
                match fate {
                    0 => prop_assert!(session.is_lost(ResponseError::InvalidFetchSessionEpoch)),
                    1 => session.answered(0),
                    _ => session.answered(3),
                }
            }
        }
    }
}
