//! WORKFLOWS: what is decided about steps, schedules and inputs. Pure: time is an argument.

mod graph;
mod input;
mod input_effort;
mod input_schema;
mod schedule;

pub use graph::{Graph, GraphError};
pub use input::{DEEPEST, InputError, LARGEST, check, digest};
pub use input_schema::InputSchema;
pub use schedule::{Due, Schedule, ScheduleError, run_name};
