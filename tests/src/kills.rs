//! The kill harness: the real program on a real disk, ended as it must not be, as often as asked for.
//!
//! One seed is one plan of strikes. What the program leaves is compared with an oracle that works out
//! the answer while it makes the rows ([`workload`]); files are read as they appear, so an epoch that
//! changes after it was visible is seen, too. Rows come from files, or from a peer that sends none twice
//! which was received ([`sender`]).
//!
//! Invariant: nothing of the product is linked in. A SIGKILL keeps what the system's page cache holds:
//! power cuts are the simulation's (`engine/src/simulation`).

mod campaign;
mod life;
mod log;
mod reader;
mod sender;
mod strike;
pub mod workload;

pub use campaign::{Campaign, Outcome};
pub use strike::IN_COMMIT;
