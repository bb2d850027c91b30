//! The workspace: how the command sees it, and which of its changes are applied.
#![forbid(unsafe_code)]

mod configuration;
mod costs;
mod git_credentials;
mod hostile;
mod links;
mod meanwhile;
mod modes;
mod policy;
mod programs;
mod repositories;
mod rules;
