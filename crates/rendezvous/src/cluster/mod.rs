//! Several nodes that serve the same swarms: what they tell each other, and what each knows of the others.
//!
//! A node tells the others how many members of a swarm it has, while it has any, and hears the same from them
//! ([`Directory`]). With that it knows how large the whole swarm is, and draws the node that it asks for neighbours in
//! proportion to what is there. Peers are paired by the node that has the one that is chosen; signals, answers and whatever
//! else is for one peer go to that peer's node alone.
//!
//! Messages may be lost, and nodes may vanish, at any time: what is held about another node ends when it is not heard any more,
//! what was asked is asked again, and a node that hears nobody serves its own members as if it were alone.

mod directory;
mod message;

pub(crate) use directory::Change;
pub use directory::{Directory, DirectoryOutput, LEARNING};
pub use message::{Figures, NodeId, NodeMessage, Offered, SwarmHash, Told, UnreadableNode, read, write};
