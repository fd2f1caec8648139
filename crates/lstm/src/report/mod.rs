//! Pages to look at: of a run while it trains and after ([`Report`]), of several runs laid over one another ([`overlay`]).
//!
//! A page is one HTML file that needs nothing beside it and no network. The curves come from a run's `metrics.jsonl`, so a resumed run's
//! are whole; what no other file has (the command, the machine) is kept in the page itself and taken over when it is written anew.

pub(crate) mod chart;
pub mod history;
pub mod machine;
mod observer;
pub mod overlay;
pub(crate) mod page;
mod run_page;

pub use observer::Report;
pub use page::write_page;
pub use run_page::{Facts, Level, Results, Session, run_page, write_run_page, write_run_page_to};
