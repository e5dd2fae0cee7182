//! The signalling server: sockets, HTTP and the clock around `headwater_rendezvous`, and the player's files.
//!
//! Every connection is a task of its own that parses what it reads and hands it to the hub: the signalling core behind
//! a lock that is never held across an await. What the core answers goes into the bounded queues of the connections; one
//! that does not read its queue is closed and holds nobody up. Who is paired with whom, who may stay, and every limit
//! is decided in the core.
//!
//! The binary `headwater-signal` is command line and logging around [`Server`]; tests start a [`Server`] on port 0.

mod accept;
mod acme;
mod admission;
mod assets;
mod bus;
mod closing;
mod connection;
mod follow;
mod hold;
mod hub;
mod json;
mod locality;
mod metrics;
mod nats;
mod net;
mod options;
mod outbox;
mod proxy;
mod routes;
mod server;
pub mod settings;
mod stats;
mod tls;
mod token;
mod turn;
mod ws;

pub use acme::Acme;
pub use admission::AdmissionOptions;
pub use assets::{Assets, NO_PLAYER};
pub use headwater_rendezvous::tracker::TrackerConfig;
pub use headwater_rendezvous::{AddressLimits, AllowList, Config, Rate};
pub use locality::GeoError;
pub use nats::{Nats, NatsError};
pub use options::{Limits, Options, Timing};
pub use proxy::{Network, NetworkError, ProxyHeader};
pub use server::{BindError, Server};
pub use tls::{TlsError, TlsFiles, TlsSource};
pub use token::{Claims, Keys, KeysError, TokenError};
pub use turn::Turn;
