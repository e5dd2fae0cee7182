//! placeholder

pub mod backoff;
pub mod http;
pub mod key;
pub mod node;
pub mod signalling;
pub mod store;
pub mod transport;
