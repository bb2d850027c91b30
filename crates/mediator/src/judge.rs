//! Judges a destination: first its name by the allow-list, then all of its addresses.
//!
//! Claims: special-addresses
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use egress_common::verdict::Reason;
use egress_policy::{Host, Policy};
use egress_sys::routes::Routes;
use tokio::time::timeout;

use super::reply::Refusal;
use super::resolve::Resolve;
use super::target::Destination;

/// Time for a lookup.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Judges the name, before it is resolved.
///
/// # Errors
/// Fails if the name is not on the allow-list.
pub(super) fn name(policy: &Policy, to: &Destination) -> Result<(), Refusal> {
    if policy.allow.allows(&to.host) {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "allowlist",
        "not_in_allowlist",
        format!("domain not in allowlist: {}", to.host.plain()),
    ))
}

/// Resolves an allowed destination and judges each of its addresses. If one address is denied, the request is denied.
/// The machine's own addresses are read from `routes` for each request, because they can change.
///
/// # Errors
/// Fails if the lookup fails or finds no address, or the policy's guard denies an address.
pub(super) async fn addresses(
    policy: &Policy,
    resolver: &dyn Resolve,
    routes: &Routes,
    to: &Destination,
) -> Result<Vec<SocketAddr>, Refusal> {
    let found = match &to.host {
        Host::Ip(address) => vec![*address],
        Host::Name(name) => match timeout(LOOKUP_LIMIT, resolver.resolve(name)).await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Ok(_) | Err(_)) => return Err(unresolved(name, "no such host")),
            Err(_elapsed) => return Err(unresolved(name, "lookup timed out")),
        },
    };
    for address in &found {
        guard(policy, routes, &to.host, *address)?;
    }
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(address.to_canonical(), to.port))
        .collect())
}

fn guard(policy: &Policy, routes: &Routes, host: &Host, address: IpAddr) -> Result<(), Refusal> {
    // If the kernel returns an error, the address counts as the machine's own.
    let is_own = |address| routes.is_own(address).unwrap_or(true);
    let (layer, word, what) = match policy.guard.check(host, address, is_own) {
        Ok(()) => return Ok(()),
        Err(Reason::PlatformAddress) => (
            "ssrf_metadata",
            "ssrf_metadata",
            "an address of the cloud platform",
        ),
        Err(Reason::OwnAddress) => ("ssrf", "ssrf_own_address", "the machine's own address"),
        Err(_) => ("ssrf", "ssrf_internal_address", "an internal address"),
    };
    let text = match host {
        Host::Ip(_) => format!("SSRF blocked: {address} is {what}"),
        Host::Name(name) => format!("SSRF blocked: {name} resolves to {address}, {what}"),
    };
    Err(Refusal::forbidden(layer, word, text))
}

fn unresolved(name: &str, what: &str) -> Refusal {
    Refusal::forbidden(
        "ssrf",
        "name_not_resolved",
        format!("SSRF check failed: {what}: {name}"),
    )
}
