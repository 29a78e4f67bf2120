//! oauth-operator.
pub mod account;
pub mod api;
pub mod oauth;
