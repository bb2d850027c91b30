//! Names to addresses.
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// A lookup under way.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds all addresses of a name that has been allowed.
pub trait Resolve: Send + Sync {
    /// Starts a lookup of `name`.
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a>;
}

/// The machine's own resolver, as every program on it sees names.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_machines_own_names_are_seen() {
        let found = SystemResolver.resolve("localhost").await.unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
