//! Stories of one account in a world made of values.

mod consent;
mod course;
mod demand;
mod doubt;
mod dpop;
mod hands;
mod health;
mod histories;
mod interruption;
mod login;
mod person;
mod provider;
mod trouble;
mod world;
