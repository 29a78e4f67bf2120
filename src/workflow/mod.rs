//! WORKFLOWS: what is decided about steps, schedules and inputs. Pure: time is an argument.

mod graph;

pub use graph::{Graph, GraphError};
