//! Where each partition's reading begins and ends: from the checkpoint, or as `start` and `end` say.

use std::time::{Duration, Instant};

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::{KafkaEnd, KafkaSource, KafkaStart};

use super::SplitStart;
use super::cluster::{Answer, Control, EARLIEST, LATEST, Named, Topic, Trouble};
use crate::runtime::say;
use crate::source::state::SplitState;

/// A cluster that is just starting gets this time; then the job ends with 69.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Asks the cluster until it answers.
///
/// Errors: `Unavailable` where it does not within [`PATIENCE`], or says no.
pub fn patiently<T>(bootstrap: &[String], mut ask: impl FnMut() -> Answer<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        let (what, fix) = match ask() {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Away(_)) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(AGAIN_AFTER);
                continue;
            }
            Err(Trouble::Away(what)) => (what, "start the broker, or set `bootstrap_servers`"),
            Err(Trouble::Refused(what)) => (what, "set `topics`, `group` or the broker's rights"),
        };
        let servers = bootstrap.join(",");
        return Err(Error::Unavailable {
            what: format!("Kafka at {servers}: {what}"),
            fix: fix.into(),
        });
    }
}

/// The job's partitions in the order of its topics; those of the checkpoint first, in its order.
///
/// `frozen`: read what is there now, no more. Errors: `Unavailable`; `Failed` where a topic is another
/// than the one that the checkpoint is of.
pub fn splits(
    cluster: &mut dyn Control,
    (source, group): (&KafkaSource, &str),
    restored: Option<&[SplitState]>,
    frozen: bool,
) -> Result<Vec<SplitStart>> {
    let bootstrap = &source.bootstrap_servers;
    let topics = patiently(bootstrap, || cluster.topics(&source.topics))?;
    let mut splits: Vec<SplitStart> = Vec::new();
    for state in restored.unwrap_or_default() {
        let split = splits.len();
        splits.push(state.start(split, &topics)?);
    }
    let fresh = splits.len();
    for topic in &source.topics {
        let topic = topics.iter().find(|found| found.name == *topic);
        let Some(topic) = topic else { continue };
        for partition in wanted(source, topic) {
            let known = splits.iter().any(|s| s.partition == partition && *s.topic == *topic.name);
            if !known {
                splits.push(fresh_split(splits.len(), topic, partition));
            }
        }
    }
    if splits.is_empty() {
        return Err(Error::Unavailable {
            what: format!("none of the partitions asked for is in {}", source.topics.join(", ")),
            fix: "leave `partitions` out to read them all".into(),
        });
    }
    let begin = match restored {
        Some(_) => {
            say("reading goes on at the checkpoint's offsets; `start` is for a job without one");
            &KafkaStart::Earliest
        }
        None => &source.start,
    };
    patiently(bootstrap, || {
        let topics = cluster.topics(&source.topics)?;
        place(cluster, &topics, (begin, group), &mut splits[fresh..])?;
        match (&source.end, frozen) {
            (Some(end), _) => bound(cluster, &topics, end, &mut splits),
            (None, true) => bound(cluster, &topics, &KafkaEnd::Latest, &mut splits),
            (None, false) => Ok(()),
        }
    })?;
    Ok(splits)
}

/// The partitions of a topic that the job reads.
pub fn wanted(source: &KafkaSource, topic: &Topic) -> Vec<i32> {
    let all = 0..topic.partitions.len() as i32;
    let asked = |partition: &i32| {
        source.partitions.as_ref().is_none_or(|asked| asked.contains(&(*partition as usize)))
    };
    all.filter(asked).collect()
}

/// A partition that nothing is known of but its name.
pub fn fresh_split(split: usize, topic: &Topic, partition: i32) -> SplitStart {
    SplitStart {
        split,
        topic: topic.name.as_str().into(),
        topic_id: topic.id,
        partition,
        offset: 0,
        leader_epoch: -1,
        end: None,
        event_time_max: None,
    }
}

/// Finds the first offset of each split.
pub fn place(
    cluster: &mut dyn Control,
    topics: &[Topic],
    (start, group): (&KafkaStart, &str),
    splits: &mut [SplitStart],
) -> Answer<()> {
    let committed = match start {
        KafkaStart::Committed if !splits.is_empty() => {
            let named: Vec<Named<'_>> = splits.iter().map(|s| (&*s.topic, s.partition)).collect();
            cluster.committed(group, &named)?
        }
        _ => vec![None; splits.len()],
    };
    for (split, committed) in splits.iter_mut().zip(committed) {
        split.offset = match (start, committed) {
            (_, Some(offset)) => offset,
            (KafkaStart::Earliest | KafkaStart::Committed, None) => {
                offset_at(cluster, topics, split, EARLIEST)?
            }
            (KafkaStart::Latest, None) => offset_at(cluster, topics, split, LATEST)?,
            (KafkaStart::Timestamp(ms), None) => offset_at(cluster, topics, split, *ms)?,
            (KafkaStart::Offsets(offsets), None) => match offset_of(offsets, split) {
                Some(offset) => offset,
                None => offset_at(cluster, topics, split, EARLIEST)?,
            },
        };
    }
    Ok(())
}

fn bound(
    cluster: &mut dyn Control,
    topics: &[Topic],
    end: &KafkaEnd,
    splits: &mut [SplitStart],
) -> Answer<()> {
    for split in splits {
        let end = match end {
            KafkaEnd::Latest => offset_at(cluster, topics, split, LATEST)?,
            KafkaEnd::Timestamp(ms) => offset_at(cluster, topics, split, *ms)?,
            KafkaEnd::Offsets(offsets) => match offset_of(offsets, split) {
                Some(offset) => offset,
                None => offset_at(cluster, topics, split, LATEST)?,
            },
        };
        split.end = Some(end);
    }
    Ok(())
}

fn offset_of(offsets: &[(String, i32, i64)], split: &SplitStart) -> Option<i64> {
    let found = offsets.iter().find(|(t, p, _)| **t == *split.topic && *p == split.partition);
    found.map(|(.., offset)| *offset)
}

/// The first offset at or behind a time; the log's end where there is none yet.
fn offset_at(
    cluster: &mut dyn Control,
    topics: &[Topic],
    split: &SplitStart,
    time: i64,
) -> Answer<i64> {
    let named = (&*split.topic, split.partition);
    let topic = topics.iter().find(|topic| *topic.name == *split.topic);
    let leader = topic.and_then(|topic| topic.partitions.get(split.partition as usize));
    let leader = leader
        .filter(|leader| leader.node >= 0)
        .ok_or_else(|| Trouble::Away(format!("partition {}/{} has no leader", named.0, named.1)))?;
    let found = cluster.offsets(leader.node, &[(named, time)])?[0];
    match found {
        -1 => Ok(cluster.offsets(leader.node, &[(named, LATEST)])?[0]),
        found => Ok(found),
    }
}

impl SplitState {
    /// Where the checkpoint says to go on, in the topic that it is of.
    fn start(&self, split: usize, topics: &[Topic]) -> Result<SplitStart> {
        let SplitState { topic, partition, offset, .. } = self;
        let found = topics.iter().find(|found| found.name == *topic);
        let name = format!("{topic}/{partition}");
        let Some(found) = found else {
            let why = "the job does not read this topic any more, and its rows are in the state";
            return Err(super::native::gone(&name, *offset, why));
        };
        let unknown = hex(&[0; 16]);
        if ![&unknown, &self.topic_id].contains(&&hex(&found.id)) && self.topic_id != unknown {
            return Err(super::native::gone(&name, *offset, "the topic was deleted and made anew"));
        }
        if found.partitions.len() <= *partition as usize {
            return Err(super::native::gone(&name, *offset, "there is no such partition"));
        }
        Ok(SplitStart {
            split,
            topic: topic.as_str().into(),
            topic_id: found.id,
            partition: *partition,
            offset: *offset,
            leader_epoch: self.leader_epoch,
            end: None,
            event_time_max: self.event_time_max,
        })
    }
}

/// A topic's id as text.
pub fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
