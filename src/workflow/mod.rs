//! ONE KIND, FOUR VERBS, for runs of workflows: what is to be run is understood (definition, graph, request, input), what is seen
//! is judged (`decide`, `progress` with `attempt` and `ending`: pure), requests are made and answers read (scope, request, coze,
//! answer: pure), and what came of it is said (report). `schedule` says when runs begin by themselves.

mod answer;
#[cfg(test)]
mod answer_tests;
mod attempt;
mod coze;
mod decide;
#[cfg(test)]
mod decide_tests;
mod definition;
#[cfg(test)]
mod definition_tests;
#[cfg(feature = "operator")]
pub mod driver;
mod ending;
mod failure;
mod graph;
mod history;
mod input;
mod input_effort;
mod input_schema;
#[cfg(feature = "operator")]
mod keep;
#[cfg(feature = "operator")]
pub mod limits;
mod progress;
mod report;
mod request;
#[cfg(test)]
mod request_tests;
mod schedule;
mod scope;
mod seen;
#[cfg(feature = "operator")]
pub mod sender;
mod tick;
#[cfg(feature = "operator")]
pub mod understand;
#[cfg(feature = "operator")]
mod work;

pub use answer::{Answer, Done, Judged, Verified};
pub use coze::{Question, Stream};
pub use decide::{Next, decide};
pub use definition::{CallPlan, Definition, DefinitionError, StepPlan};
pub use failure::Failure;
pub use graph::{Graph, GraphError};
pub use history::{Ended, expiry, is_outdated, surplus};
pub use input::{DEEPEST, InputError, LARGEST, LARGEST_INLINE, LARGEST_SPEC, check, digest};
pub use input_schema::InputSchema;
pub use progress::progress;
pub use request::{Call, CozePlan, RequestPlan};
pub use schedule::{Due, Schedule, ScheduleError, run_name};
pub use scope::{Outputs, named, scope, with_remote};
pub use seen::{AccountState, Identity, Kept, Outcome, Prepared, Seen, Task, Turn, Unclear, Work};
pub use tick::{Tick, tick};
