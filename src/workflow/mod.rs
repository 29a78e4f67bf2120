//! WORKFLOWS: what is decided about steps, schedules and inputs. Pure: time is an argument.

mod graph;
mod schedule;

pub use graph::{Graph, GraphError};
pub use schedule::{Due, Schedule, ScheduleError, run_name};
