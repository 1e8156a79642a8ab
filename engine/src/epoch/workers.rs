//! Who runs the work of an epoch's end: the caller, with threads of its own or without.

/// Work on one shard.
pub type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs tasks to their end, side by side where it can.
pub trait Workers: Sync {
    fn run(&self, tasks: Vec<Task<'_>>);
}

/// One task after the other, on the caller's thread.
pub(crate) struct OneByOne;

impl Workers for OneByOne {
    fn run(&self, tasks: Vec<Task<'_>>) {
        tasks.into_iter().for_each(|task| task());
    }
}
