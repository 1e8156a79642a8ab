//! Kafka read by the cores themselves: which core reads which partition, and what they share.
//!
//! A partition is a split, pinned to one core; its clock and its offset are its own. What the cores
//! must ask of the cluster goes through [`keeper`], one thread beside them; [`core`] is their loop.
//!
//! Invariant: a split's offset in the checkpoint is that of the first message whose rows are in no
//! epoch before; a row never meets a window that has left (see [`Splits::combined_clock`]).

mod core;
mod keeper;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use pelton_engine::error::Result;
use pelton_engine::job::spec::{Across, KafkaClient, KafkaSource, SourceKind, SourceSpec};

use self::core::Direct;
use self::keeper::Keeper;
use super::build::{Builder, other_source, start_thread};
use super::shared::{Inner, Shared};
use super::{Ingest, Kind};
use crate::kafka::cluster::{Cluster, Control};
use crate::kafka::control::LibrdkafkaControl;
use crate::kafka::librdkafka::Librdkafka;
use crate::kafka::native::Native;
use crate::kafka::{Client, SplitStart, Standing, start};
use crate::source::board::Cut;
use crate::source::state::{SplitState, State};
use crate::source::stream::Waker;

/// A split whose broker says "empty" for so long does not hold the watermark back (SEMANTICS 3).
const IDLE_AFTER: Duration = Duration::from_secs(30);
/// One request asks for this much at most, where cores wait for records: a broker gives up to 1.5 times as
/// much a second as with 4 MiB.
const FETCH_BYTES_MAX: u64 = 16 << 20;
const FETCH_BYTES_MIN: u64 = 1 << 20;
/// Questions and replies that may wait; whoever finds the queue full comes back later.
const QUEUE: usize = 4096;

/// All splits of a job, as of the last barrier of each core.
pub(crate) struct Splits {
    pub all: Vec<SplitCut>,
    /// Of each core: all its splits are caught up; all have ended.
    pub standing: Vec<(bool, bool)>,
    /// The clock by which windows have left, after `cuts` barriers.
    pub floor: Option<i64>,
    pub cuts: u64,
    /// The job's clock is the greatest of all splits (Spark's rule), not the least.
    pub across_max: bool,
    /// A split that said "empty" for so long holds nobody back.
    pub idle_after: Duration,
}

/// Where a split was cut.
#[derive(Clone)]
pub(crate) struct SplitCut {
    pub start: SplitStart,
    pub offset: i64,
    pub leader_epoch: i32,
    pub event_time_max: Option<i64>,
    pub standing: Standing,
}

impl SplitCut {
    pub fn new(start: SplitStart) -> SplitCut {
        let SplitStart { offset, leader_epoch, event_time_max, .. } = start;
        SplitCut { start, offset, leader_epoch, event_time_max, standing: Standing::default() }
    }

    pub fn is_idle(&self, now: Instant, idle_after: Duration) -> bool {
        let is_long = |since| now.saturating_duration_since(since) >= idle_after;
        self.standing.ended || self.standing.empty_since.is_some_and(is_long)
    }
}

impl Splits {
    fn new(splits: &[SplitStart], cores: usize) -> Splits {
        Splits {
            all: splits.iter().cloned().map(SplitCut::new).collect(),
            standing: vec![(false, false); cores],
            floor: None,
            cuts: 0,
            across_max: false,
            idle_after: IDLE_AFTER,
        }
    }

    /// The least clock of the splits that are not idle; a split without a row holds it back. Where all
    /// are idle, the greatest: nothing is expected any more that could be late by it.
    fn combined_clock(&self, now: Instant) -> Option<i64> {
        let is_active = |split: &&SplitCut| !split.is_idle(now, self.idle_after);
        let mut active = self.all.iter().filter(is_active).peekable();
        match active.peek() {
            _ if self.across_max => self.all.iter().filter_map(|split| split.event_time_max).max(),
            None => self.all.iter().filter_map(|split| split.event_time_max).max(),
            Some(_) => active.map(|split| split.event_time_max).min().flatten(),
        }
    }

    /// Whether a barrier would move the clock though no row came: splits that held it back went idle.
    pub fn is_due(&self, now: Instant) -> bool {
        self.combined_clock(now) > self.floor
    }

    /// All cores have passed the barrier that was asked for at `now`: where the epoch ends. Where all
    /// splits are idle still, the clock moves on to `clock`, that of the job's other sources.
    pub fn cut(&mut self, now: Instant, clock: Option<i64>) -> Cut {
        let is_idle = self.all.iter().all(|split| split.is_idle(now, self.idle_after));
        let clock = clock.filter(|_| is_idle);
        self.floor = self.floor.max(self.combined_clock(now)).max(clock);
        self.cuts += 1;
        let ended = self.all.iter().all(|split| split.standing.ended);
        Cut { files: Vec::new(), event_time_max: self.floor, ended }
    }

    pub fn state(&self) -> State {
        let state = |split: &SplitCut| SplitState {
            topic: split.start.topic.to_string(),
            topic_id: start::hex(&split.start.topic_id),
            partition: split.start.partition,
            offset: split.offset,
            leader_epoch: split.leader_epoch,
            event_time_max: split.event_time_max,
        };
        State::Kafka { splits: self.all.iter().map(state).collect(), event_time_max: self.floor }
    }
}

/// The core of a split: as [`pelton_hardware::Placement`] places streams, and stable when splits are
/// added, as those of the cores are in its order.
fn core_of(split: usize, cores: usize) -> usize {
    split % cores
}

/// The partitions that a source would read, as `topic/partition`, for `explain`.
///
/// Errors: `Unavailable` where the cluster does not answer.
pub fn partitions(job: &str, source: &SourceSpec) -> Result<Vec<String>> {
    let SourceKind::Kafka(source) = &source.kind else { return Ok(Vec::new()) };
    let mut cluster = control(source, job)?;
    let topics = start::patiently(&source.bootstrap_servers, || cluster.topics(&source.topics))?;
    let of = |topic: &crate::kafka::cluster::Topic| {
        let partitions = start::wanted(source, topic);
        let name = topic.name.clone();
        partitions.into_iter().map(move |partition| format!("{name}/{partition}"))
    };
    Ok(topics.iter().flat_map(of).collect())
}

/// Whoever answers for the cluster that the source reads.
fn control(source: &KafkaSource, group: &str) -> Result<Box<dyn Control>> {
    Ok(match source.client {
        KafkaClient::Native => Box::new(Cluster::new(&source.bootstrap_servers)),
        KafkaClient::Librdkafka => Box::new(LibrdkafkaControl::new(source, group)?),
    })
}

impl Builder<'_> {
    pub(super) fn kafka(self, from: Option<State>) -> Result<Ingest> {
        let SourceKind::Kafka(source) = &self.source.kind else {
            unreachable!("the caller matched it");
        };
        let (restored, floor) = match from {
            None => (None, None),
            Some(State::Kafka { splits, event_time_max }) => (Some(splits), event_time_max),
            Some(_) => return Err(other_source("Kafka topics")),
        };
        let group = source.group.clone().unwrap_or_else(|| self.job.name.clone());
        let (frozen, cores) = (self.is_frozen(), self.setup.cpus.len());
        let mut cluster = control(source, &group)?;
        let splits = start::splits(&mut *cluster, (source, &group), restored.as_deref(), frozen)?;
        let mut inner = Inner::new(None, frozen);
        let watermark = self.source.watermark.as_ref();
        let across_max = watermark.is_some_and(|watermark| watermark.across == Across::Max);
        let idle_after = watermark.map_or(IDLE_AFTER, |watermark| watermark.idle_timeout);
        let splits_of = Splits { floor, across_max, idle_after, ..Splits::new(&splits, cores) };
        inner.splits = Some(splits_of);
        let shared = Arc::new(Shared::new(cores, inner));
        let (asks, asked) = sync_channel(QUEUE);
        let (mut threads, mut mailboxes, mut wakes) = (Vec::new(), Vec::new(), Vec::new());
        for core in 0..cores {
            let (waker, woken) = Waker::new()?;
            let (mailbox, replies) = sync_channel(QUEUE);
            let own = splits.iter().filter(|split| core_of(split.split, cores) == core);
            let (own, bytes) = (own.cloned().collect(), self.fetch_bytes());
            let client: Box<dyn Client> = match source.client {
                KafkaClient::Native => {
                    Box::new(Native::new(core, own, (asks.clone(), replies), woken, bytes))
                }
                KafkaClient::Librdkafka => {
                    Box::new(Librdkafka::new((source, &group), own, replies, woken, bytes)?)
                }
            };
            let limits = (self.limits(), self.setup.late_by);
            let (worker, mapping) = (self.worker(&shared, core)?, self.mapping_of_schema());
            let run = Direct::new(worker, client, mapping, self.source, limits);
            let (name, cpu) = (format!("core {core}"), self.setup.cpus[core]);
            threads.push(start_thread(&shared, &name, cpu, move || run.run())?);
            mailboxes.push((mailbox, waker.clone()));
            wakes.push(waker);
        }
        let discovers = source.end.is_none() && !frozen;
        let keeper =
            Keeper::new(cluster, (source.clone(), group), asked, mailboxes, &shared, discovers);
        threads.push(start_thread(&shared, "keeper", None, move || keeper.run())?);
        let commits = source.commit_offsets.then_some(asks);
        Ok(self.ingest(shared, threads, Kind::Kafka { commits }, wakes, None))
    }

    /// What a core asks a broker for at once: a few such answers are in memory.
    fn fetch_bytes(&self) -> usize {
        let limit = self.job.memory_limit.unwrap_or(u64::MAX);
        let share = limit / 64 / self.setup.cpus.len().max(1) as u64;
        share.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits by (clock, how they stand): 'a' active, 'i' idle, 'e' ended.
    fn check(splits: &[(Option<i64>, char)], expected: Option<i64>) {
        let now = Instant::now() + 2 * IDLE_AFTER;
        let all = splits.iter().enumerate().map(|(split, &(event_time_max, stands))| {
            let start = SplitStart {
                split,
                topic: "t".into(),
                topic_id: [0; 16],
                partition: split as i32,
                offset: 0,
                leader_epoch: -1,
                end: None,
                event_time_max,
            };
            let standing = Standing {
                caught_up: stands != 'a',
                ended: stands == 'e',
                empty_since: (stands == 'i').then(|| now - IDLE_AFTER),
            };
            SplitCut { standing, ..SplitCut::new(start) }
        });
        let splits = Splits {
            all: all.collect(),
            standing: Vec::new(),
            floor: None,
            cuts: 0,
            across_max: false,
            idle_after: IDLE_AFTER,
        };
        assert_eq!(splits.combined_clock(now), expected);
    }

    #[test]
    fn the_least_split_that_is_not_idle_is_the_clock() {
        check(&[(Some(5), 'a'), (Some(3), 'a')], Some(3));
        check(&[(Some(5), 'a'), (None, 'a')], None);
        check(&[(Some(5), 'a'), (None, 'i'), (Some(1), 'e')], Some(5));
        check(&[(Some(5), 'i'), (Some(9), 'i'), (None, 'i')], Some(9));
        check(&[(None, 'i')], None);
    }

    #[test]
    fn f58_a_split_that_goes_idle_asks_for_an_epoch_without_rows_once() {
        let now = Instant::now();
        let split = |split, event_time_max, empty_since| {
            let start = SplitStart {
                split,
                topic: "t".into(),
                topic_id: [0; 16],
                partition: split as i32,
                offset: 0,
                leader_epoch: -1,
                end: None,
                event_time_max,
            };
            let standing = Standing { empty_since, ..Standing::default() };
            SplitCut { standing, ..SplitCut::new(start) }
        };
        let mut splits = Splits {
            all: vec![split(0, Some(9), None), split(1, Some(5), Some(now))],
            standing: Vec::new(),
            floor: Some(5),
            cuts: 0,
            across_max: false,
            idle_after: Duration::from_secs(10),
        };
        assert!(!splits.is_due(now + Duration::from_secs(9)));
        let idle = now + Duration::from_secs(10);
        assert!(splits.is_due(idle));
        assert_eq!(splits.cut(idle, Some(20)).event_time_max, Some(9));
        assert!(!splits.is_due(idle), "it moved");
        splits.all[0].standing.empty_since = Some(now);
        assert_eq!(splits.cut(idle, Some(20)).event_time_max, Some(20), "the other sources' clock");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut splits = Splits {
            all: Vec::new(),
            standing: Vec::new(),
            floor: Some(7),
            cuts: 0,
            across_max: false,
            idle_after: IDLE_AFTER,
        };
        assert_eq!(splits.cut(Instant::now(), None).event_time_max, Some(7));
        assert_eq!(splits.cuts, 1);
    }
}
