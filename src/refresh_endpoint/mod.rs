//! THE REFRESH ENDPOINT: a program whose token was refused asks for another one. Who it is and whether it may have the token
//! (`caller`, by `claims` and `entitlement`, both pure), how many may ask at once (`turnstile`, a `crowd`), one search for all who want
//! the same (`flight`), and the answer (`serve`). Every replica serves it; what is to be done about a token is the leader's.

mod caller;
mod claims;
pub mod crowd;
mod entitlement;
pub mod flight;
pub mod serve;
mod turnstile;
