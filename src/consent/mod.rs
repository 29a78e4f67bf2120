//! The pages on which a person connects an account: a link that works once, the provider, and what came of it. Any replica
//! serves them; what comes back is deposited for the leader, who alone redeems it.

pub mod desk;
pub mod flow;
pub mod pages;
pub mod serve;
