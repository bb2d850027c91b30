//! Carries one redirected connection to the mediator and reports what became of it.
pub mod plan;
