//! The thread beside the cores that knows the cluster: connects, finds leaders and new partitions,
//! tells the consumer group how far the job is.
//!
//! Invariant: a split goes on only at a leader that still has the records before its offset, in a
//! topic that is still the same; else the job fails, and nothing is passed over (SEMANTICS 7). What
//! may come back is waited for, loudly.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use pelton_engine::error::Result;
use pelton_engine::job::spec::{KafkaSource, KafkaStart};

use super::super::say;
use super::super::shared::Shared;
use super::{SplitCut, core_of};
use crate::kafka::cluster::{Answer, Control, Leader, Named, Topic, Trouble};
use crate::kafka::connection::Connection;
use crate::kafka::native::gone;
use crate::kafka::{Ask, Reply, fetch, start};
use crate::source::stream::Waker;

/// Questions that nobody can answer now are asked again after this, doubled up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_LAST: Duration = Duration::from_secs(1);
/// The thread looks at least this often whether the job has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A group that cannot be told the offsets for so long is worth a word.
const TOLD_AFTER: Duration = Duration::from_secs(3);

pub(super) struct Keeper {
    cluster: Box<dyn Control>,
    source: KafkaSource,
    group: String,
    asked: Receiver<Ask>,
    cores: Vec<(SyncSender<Reply>, Waker)>,
    shared: Arc<Shared>,
    /// Looks for new partitions.
    discovers: bool,
    discover_at: Instant,
    waiting: Vec<Ask>,
    again_at: Instant,
    again_after: Duration,
    /// What was said last of a trouble that lasts.
    trouble: Option<String>,
    /// Offsets that the group was not told yet.
    uncommitted: Option<Vec<(Arc<str>, i32, i64)>>,
    commit_again_at: Instant,
    /// Since when the group cannot be told, and whether that was said.
    untold_since: Option<Instant>,
    untold_said: bool,
}

impl Keeper {
    pub fn new(
        cluster: Box<dyn Control>,
        (source, group): (KafkaSource, String),
        asked: Receiver<Ask>,
        cores: Vec<(SyncSender<Reply>, Waker)>,
        shared: &Arc<Shared>,
        discovers: bool,
    ) -> Keeper {
        let now = Instant::now();
        Keeper {
            cluster,
            discovers,
            discover_at: now + source.discover_interval,
            source,
            group,
            asked,
            cores,
            shared: Arc::clone(shared),
            waiting: Vec::new(),
            again_at: now,
            again_after: AGAIN_FIRST,
            trouble: None,
            uncommitted: None,
            commit_again_at: now,
            untold_since: None,
            untold_said: false,
        }
    }

    /// Runs until every core has ended.
    ///
    /// Errors: a split cannot go on.
    pub fn run(mut self) -> Result<()> {
        loop {
            match self.asked.recv_timeout(LOOK_EVERY) {
                Ok(ask) => self.hear(ask),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit_last();
                    return Ok(());
                }
            }
            while let Ok(ask) = self.asked.try_recv() {
                self.hear(ask);
            }
            self.commit();
            if self.shared.lock().stop {
                // What is still asked is not needed; the last offsets to commit may still come.
                self.waiting.clear();
                continue;
            }
            if !self.waiting.is_empty() && Instant::now() >= self.again_at {
                self.serve()?;
            }
            if self.discovers && Instant::now() >= self.discover_at {
                self.discover_at = Instant::now() + self.source.discover_interval;
                if let Err(trouble) = self.discover() {
                    say(&format!("cannot look for new partitions: {trouble}"));
                }
            }
        }
    }

    fn hear(&mut self, ask: Ask) {
        match ask {
            Ask::Commit { offsets } => self.uncommitted = Some(offsets),
            ask => {
                self.waiting.push(ask);
                // A new question is looked at at once; only answers that fail are paced.
                if self.trouble.is_none() {
                    self.again_at = Instant::now();
                }
            }
        }
    }

    /// Answers what can be answered now.
    fn serve(&mut self) -> Result<()> {
        let topics = match self.cluster.topics(&self.source.topics) {
            Ok(topics) => topics,
            Err(trouble) => {
                self.later(&trouble.to_string());
                return Ok(());
            }
        };
        let mut trouble = None;
        for ask in std::mem::take(&mut self.waiting) {
            match ask {
                Ask::Connect { core, node } => match self.connect(node) {
                    Ok(reply) => self.reply(core, reply),
                    Err(why) => {
                        trouble = Some(why);
                        self.reply(core, Reply::Away { node });
                    }
                },
                Ask::Settle { core, split, offset, leader_epoch } => {
                    match self.leader(&topics, split, offset, leader_epoch)? {
                        Ok(leader) => self.reply(core, Reply::Settled { split, leader }),
                        Err(why) => {
                            trouble = Some(why.to_string());
                            self.waiting.push(Ask::Settle { core, split, offset, leader_epoch });
                        }
                    }
                }
                Ask::Commit { .. } => unreachable!("it does not wait here"),
            }
        }
        match trouble {
            Some(trouble) => self.later(&trouble),
            None => {
                if self.trouble.take().is_some() {
                    say("Kafka answers again");
                }
                self.again_after = AGAIN_FIRST;
            }
        }
        Ok(())
    }

    /// Tries again after a while; tells what is wrong, once.
    fn later(&mut self, trouble: &str) {
        if self.trouble.is_none() {
            say(&format!("{trouble}; trying again"));
        }
        self.trouble = Some(trouble.to_owned());
        self.again_at = Instant::now() + self.again_after;
        self.again_after = (2 * self.again_after).min(AGAIN_LAST);
    }

    fn reply(&self, core: usize, reply: Reply) {
        let (mailbox, waker) = &self.cores[core];
        // A core that has ended needs no reply, and a queue longer than all splits is never full.
        _ = mailbox.try_send(reply);
        waker.wake();
    }

    fn connect(&mut self, node: i32) -> std::result::Result<Reply, String> {
        let address = self.cluster.address(node).ok_or(format!("broker {node} is not there"))?;
        let connected = Connection::open(&address).and_then(|connection| {
            let version = connection.version(fetch::KEY, fetch::VERSIONS)?;
            Ok(Reply::Connected { node, version, stream: connection.into_stream()? })
        });
        connected.map_err(|error| format!("cannot connect to broker {node} at {address}: {error}"))
    }

    /// Who leads a split, if the records before its offset are still those that were read.
    fn leader(
        &mut self,
        topics: &[Topic],
        split: usize,
        offset: i64,
        leader_epoch: i32,
    ) -> Result<Answer<Leader>> {
        let inner = self.shared.lock();
        let splits = inner.splits.as_ref().expect("a Kafka source has splits");
        let start = splits.all[split].start.clone();
        drop(inner);
        let name = format!("{}/{}", start.topic, start.partition);
        let Some(topic) = topics.iter().find(|topic| *topic.name == *start.topic) else {
            return Ok(Err(Trouble::Away(format!("topic \"{}\" is not there", start.topic))));
        };
        if topic.id != start.topic_id {
            return Err(gone(&name, offset, "the topic was deleted and made anew"));
        }
        let Some(&leader) = topic.partitions.get(start.partition as usize) else {
            return Err(gone(&name, offset, "there is no such partition any more"));
        };
        if leader.node < 0 {
            return Ok(Err(Trouble::Away(format!("partition {name} has no leader"))));
        }
        if leader_epoch >= 0 {
            let named = (&*start.topic, start.partition);
            match self.cluster.epoch_end(leader, named, leader_epoch) {
                Ok((epoch, end)) if epoch < 0 || end < offset => {
                    let why = format!(
                        "its log was cut back to offset {end}: what was read is no longer in it"
                    );
                    return Err(gone(&name, offset, &why));
                }
                Ok(_) => {}
                Err(trouble) => return Ok(Err(trouble)),
            }
        }
        Ok(Ok(leader))
    }

    /// Hands partitions that are new to cores, from their beginning on.
    fn discover(&mut self) -> Answer<()> {
        let topics = self.cluster.topics(&self.source.topics)?;
        for topic in &topics {
            for partition in start::wanted(&self.source, topic) {
                self.discover_one(&topics, topic, partition)?;
            }
        }
        Ok(())
    }

    fn discover_one(&mut self, topics: &[Topic], topic: &Topic, partition: i32) -> Answer<()> {
        let inner = self.shared.lock();
        let known = &inner.splits.as_ref().expect("a Kafka source has splits").all;
        let is_known = |split: &SplitCut| {
            *split.start.topic == *topic.name && split.start.partition == partition
        };
        if known.iter().any(is_known) {
            return Ok(());
        }
        let mut fresh = [start::fresh_split(known.len(), topic, partition)];
        drop(inner);
        start::place(&mut *self.cluster, topics, (&KafkaStart::Earliest, &self.group), &mut fresh)?;
        let [fresh] = fresh;
        say(&format!(
            "new partition {}/{partition}, read from offset {}",
            topic.name, fresh.offset
        ));
        let core = core_of(fresh.split, self.cores.len());
        let mut inner = self.shared.lock();
        let splits = inner.splits.as_mut().expect("a Kafka source has splits");
        splits.all.push(SplitCut::new(fresh.clone()));
        drop(inner);
        self.reply(core, Reply::Arrived(fresh));
        Ok(())
    }

    /// Tells the group the offsets of the last committed epoch, best effort.
    fn commit(&mut self) {
        if Instant::now() < self.commit_again_at {
            return;
        }
        let Some(offsets) = self.uncommitted.take() else { return };
        let named: Vec<(Named<'_>, i64)> = offsets
            .iter()
            .map(|(topic, partition, offset)| ((&**topic, *partition), *offset))
            .collect();
        let Err(trouble) = self.cluster.commit(&self.group, &named) else {
            (self.untold_since, self.untold_said) = (None, false);
            return;
        };
        self.uncommitted = Some(offsets);
        self.commit_again_at = Instant::now() + AGAIN_FIRST;
        let since = *self.untold_since.get_or_insert_with(Instant::now);
        // A coordinator that is just being made is away for a moment.
        if since.elapsed() > TOLD_AFTER && !std::mem::replace(&mut self.untold_said, true) {
            say(&format!("group \"{}\" is not told the offsets: {trouble}", self.group));
        }
    }

    /// At the job's end: the last offsets are worth a short wait.
    fn commit_last(&mut self) {
        let begun = Instant::now();
        while self.uncommitted.is_some() && begun.elapsed() < TOLD_AFTER {
            self.commit();
            std::thread::sleep(AGAIN_FIRST / 5);
        }
    }
}
