//! What a server is told when it starts, and its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 for any that is free.
    pub address: SocketAddr,
    /// What clients have to say; `None` only on loopback.
    pub token: Option<String>,
    /// The texts of a model that are written side by side.
    pub rows: usize,
    /// The texts of a model that may wait beside them.
    pub waiting: usize,
    /// The tokens of a text, its prompt among them.
    pub most_tokens: usize,
    /// The bytes of a request.
    pub most_bytes: usize,
    /// How long a request may take, its waiting among it.
    pub time: Duration,
    /// The memory for the states of recent prefixes, of each model.
    pub prefix_bytes: usize,
    /// The folder of runs that the page shows.
    pub runs: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token: None,
            rows: 256,
            waiting: 1024,
            most_tokens: 8192,
            most_bytes: 1 << 20,
            time: Duration::from_secs(300),
            prefix_bytes: 64 << 20,
            runs: None,
        }
    }
}
