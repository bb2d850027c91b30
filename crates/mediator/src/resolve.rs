//! Resolves names to addresses.
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// The future of a lookup.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Resolves an allowed name to its addresses.
pub trait Resolve: Send + Sync {
    /// Returns all addresses of `name`.
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a>;
}

/// The resolver of the C library, with the machine's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let found = look_up(name).await?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        })
    }
}

#[cfg(not(target_env = "musl"))]
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

/// The lookup with musl, whose resolver ignores `LOCALDOMAIN`. A trailing dot keeps the resolver from
/// adding the machine's search domains. The dot also keeps the resolver from using `/etc/hosts`, so
/// this function reads that file.
#[cfg(target_env = "musl")]
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let own = in_hosts(&hosts, name);
    if !own.is_empty() {
        return Ok(own);
    }
    let absolute = format!("{}.", name.trim_end_matches('.'));
    let found = tokio::net::lookup_host((absolute, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Returns the addresses of a name in the text of a file like `/etc/hosts` (hosts(5)).
#[cfg(any(test, target_env = "musl"))]
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    };
    text.lines().filter_map(line).collect()
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

    #[test]
    fn names_of_a_hosts_file_are_whole_words() {
        let text = "# 192.0.2.9 a.test\n192.0.2.1\ta.test b.test # c.test\n::1 A.TEST\nx a.test\n192.0.2.2 aa.test\n";
        let found = |name: &str| {
            let found = in_hosts(text, name);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("a.test"), ["192.0.2.1", "::1"]);
        assert_eq!(found("b.test."), ["192.0.2.1"]);
        assert_eq!(found("c.test"), [""; 0]);
        assert_eq!(found("test"), [""; 0]);
    }
}
