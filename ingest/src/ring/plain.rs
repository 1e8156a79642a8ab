//! Reads at the moment they are asked for, with `pread`: where io_uring is refused.
//!
//! Lacks overlap on purpose: bytes arrive in the cache right before they are decoded, and the
//! kernel's read-ahead hides the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{HEADROOM_BYTES, PIECE_BYTES, Ring};

pub struct Plain {
    slots: Vec<Slot>,
}

struct Slot {
    memory: Box<[u8]>,
    asked: Option<(Arc<File>, u64, usize)>,
}

impl Plain {
    pub fn new(slots: usize) -> Plain {
        let slot = || Slot { memory: vec![0; HEADROOM_BYTES + PIECE_BYTES].into(), asked: None };
        Plain { slots: (0..slots).map(|_| slot()).collect() }
    }
}

impl Ring for Plain {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn start(&mut self, slot: usize, file: &Arc<File>, offset: u64, len: usize) -> io::Result<()> {
        assert!(len <= PIECE_BYTES, "a read of {len} bytes does not fit a slot");
        let before = self.slots[slot].asked.replace((Arc::clone(file), offset, len));
        assert!(before.is_none(), "slot {slot} is in flight");
        Ok(())
    }

    fn finish(&mut self, slot: usize) -> io::Result<usize> {
        let slot = &mut self.slots[slot];
        let (file, offset, len) = slot.asked.take().expect("only a started slot is finished");
        let into = &mut slot.memory[HEADROOM_BYTES..][..len];
        read_full(len, |done| file.read_at(&mut into[done..], offset + done as u64))
    }

    fn memory(&mut self, slot: usize) -> &mut [u8] {
        let slot = &mut self.slots[slot];
        assert!(slot.asked.is_none(), "a slot in flight is not to be touched");
        &mut slot.memory
    }

    fn abandon(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.asked = None);
    }
}

/// Reads until `len` bytes are there or the file ends; an interrupted read is read again.
pub(super) fn read_full(
    len: usize,
    mut read: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < len {
        match read(done) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
