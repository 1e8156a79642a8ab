//! A peer whose rows cannot be read again, and the write-ahead log before them.
//!
//! The peer sends a row again unless the log has it: it goes on where the log ends. A record is a row.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Random;
use super::disk::{Disk, Gate};
use super::life::Machine;
use crate::error::{Error, Result};
use crate::wal::{Kind, Log, Replay};

/// Questions for room after which somebody makes some.
const WAITS_FOR_ROOM: u32 = 3;

pub struct Inlet {
    log: Log,
    replay: Option<Replay>,
    /// Behind the last row that was taken.
    position: u64,
    /// Rows that were handed to the log, of which the durable ones may be taken.
    logged: usize,
    /// Where each of those that were not taken ends.
    ends: Vec<u64>,
    waits: u32,
}

impl Inlet {
    /// `taken`: rows that the checkpoint has.
    pub fn open(machine: &Machine, gate: Gate, position: u64, taken: usize) -> Result<Inlet> {
        let disk = Disk { image: machine.log.clone(), gate };
        let (log, replay) = Log::open(Arc::new(disk), position)?;
        let replay = Some(replay).filter(|replay| replay.position() < replay.end());
        let inlet = Inlet { log, replay, position, logged: taken, ends: Vec::new(), waits: 0 };
        inlet.check_received(machine, taken);
        Ok(inlet)
    }

    /// Behind the last row that was taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn trim(&mut self, position: u64) {
        self.log.trim(position);
    }

    /// How many of the rows from `at` to `until` may be taken now.
    ///
    /// Panics where the log gives other rows back than it took.
    pub fn take(
        &mut self,
        machine: &Machine,
        random: &mut Random,
        (at, until): (usize, usize),
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some(replay) = &mut self.replay {
            if at + taken == until {
                return Ok(taken);
            }
            let Some(record) = replay.advance()? else {
                self.replay = None;
                self.logged = at + taken;
                self.position = self.log.durable();
                self.check_received(machine, at + taken);
                break;
            };
            let row = std::str::from_utf8(record.payload).expect("the simulation wrote it");
            assert_eq!(row, (at + taken).to_string(), "the log gives back the next row");
            taken += 1;
            self.position = replay.position();
        }
        if taken > 0 || at == until {
            return Ok(taken);
        }
        self.receive(machine, random, until)?;
        let durable = self.log.durable();
        let ready = self.ends.iter().take_while(|&&end| end <= durable).count().min(until - at);
        self.ends.drain(..ready).for_each(|end| self.position = end);
        Ok(ready)
    }

    /// Rows up to `until` reach the log; most often it makes them durable at once.
    fn receive(&mut self, machine: &Machine, random: &mut Random, until: usize) -> Result<()> {
        for row in self.logged..until {
            let text = row.to_string();
            let at = self.log.append(Kind::Data, 0, row as u64, text.as_bytes());
            self.ends.push(at + (crate::wal::RECORD_HEAD + text.len()) as u64);
        }
        self.logged = self.logged.max(until);
        if random.chance(30) {
            return Ok(());
        }
        match self.log.sync() {
            Ok(()) => {
                machine.received.fetch_max(self.logged, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                self.waits += 1;
                if self.waits.is_multiple_of(WAITS_FOR_ROOM) {
                    machine.disks().iter().for_each(|disk| disk.set_capacity(None));
                }
                Ok(())
            }
            Err(source) => {
                Err(Error::StateIo { what: "cannot write the write-ahead log".into(), source })
            }
        }
    }

    /// With nothing left to be read back, every row that was received is there.
    fn check_received(&self, machine: &Machine, there: usize) {
        let received = machine.received.load(Ordering::Relaxed);
        assert!(
            self.replay.is_some() || there >= received,
            "{received} rows were received, and {there} are left after a crash"
        );
    }
}
