//! Reads which hosts a packet's policy allows, for tools that check a packet without a mediator.
use std::time::Duration;

use super::allow::AllowList;
#[cfg(feature = "yaml")]
use super::document::{self, MappingEntry, Value};
use super::host::Host;
use super::opened::Opened;
#[cfg(feature = "yaml")]
use super::parse::parse;
#[cfg(feature = "yaml")]
use super::pipelock;

/// The hosts that a policy allows, if the policy denies all other hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    mode: Option<String>,
    redacts: bool,
    has_patterns: bool,
    list: Option<AllowList>,
    intercepts: Option<bool>,
    opened: Option<Opened>,
    heartbeat: Option<Duration>,
}

impl Allowed {
    /// An unknown policy, which is treated as one that allows every host.
    pub const UNKNOWN: Self = Self {
        mode: None,
        redacts: false,
        has_patterns: true,
        list: None,
        intercepts: None,
        opened: None,
        heartbeat: None,
    };

    /// Returns a policy in mode `strict` that denies every host that is not on `list`.
    pub fn strict(list: AllowList) -> Self {
        Self {
            mode: Some(String::from("strict")),
            has_patterns: false,
            list: Some(list),
            ..Self::UNKNOWN
        }
    }

    /// Returns the value of `mode`, if the policy has one.
    pub fn mode(&self) -> Option<&str> {
        self.mode.as_deref()
    }

    /// Whether `flight_recorder.redact` is true.
    pub fn redacts(&self) -> bool {
        self.redacts
    }

    /// Whether the policy has `dlp.patterns`, by which a part of a target may be redacted.
    pub fn has_patterns(&self) -> bool {
        self.has_patterns
    }

    /// Returns the time between two heartbeats of the built-in mediator. Returns `None` if the policy is unknown, or is
    /// not one for the built-in mediator.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// Whether the policy names an authority with which a Pipelock intercepts TLS. Returns `None` if the policy is
    /// unknown.
    pub fn intercepts(&self) -> Option<bool> {
        self.intercepts
    }

    /// Returns the same policy, but with or without an authority that intercepts TLS.
    #[must_use]
    pub fn with_interception(mut self, intercepts: bool) -> Self {
        self.intercepts = Some(intercepts);
        self
    }

    /// Returns the same policy, but with these addresses opened to the mediator.
    #[must_use]
    pub fn with_opened(mut self, opened: Opened) -> Self {
        self.opened = Some(opened);
        self
    }

    /// Returns the addresses that the policy opens to the mediator. Returns `None` if the policy is unknown.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Reads `policy.yaml`. A policy allows every host if its mode is not `strict` or `enforce` is
    /// false.
    ///
    /// # Errors
    /// Returns a message if the text is not a policy.
    #[cfg(feature = "yaml")]
    pub fn read(text: &str) -> Result<Self, String> {
        let entries = document::read(text).map_err(|error| error.to_string())?;
        let of = |key: &str| {
            let entry = entries
                .iter()
                .find(|entry: &&MappingEntry| entry.key == key);
            entry.map(|entry| &entry.value)
        };
        let mode = of("mode").and_then(document::Node::as_text);
        let recorder = of("flight_recorder").and_then(document::Node::as_map);
        let redacts = recorder.is_some_and(|fields| {
            let is_true = |entry: &MappingEntry| entry.value.value == Value::Bool(true);
            fields
                .iter()
                .any(|entry| entry.key == "redact" && is_true(entry))
        });
        let dlp = of("dlp").and_then(document::Node::as_map);
        let has_patterns =
            dlp.is_some_and(|fields| fields.iter().any(|entry| entry.key == "patterns"));
        let interception = pipelock::interception(text).map_err(|error| error.to_string())?;
        let intercepts = Some(interception.is_some());
        let opened = Some(Opened::of(&entries));
        let heartbeat = parse(text).ok().map(|policy| policy.recorder.heartbeat);
        let is_strict = mode == Some("strict");
        let mode = mode.map(str::to_owned);
        let is_enforced = of("enforce").is_none_or(|node| node.value != Value::Bool(false));
        let allowed = Self {
            mode,
            redacts,
            has_patterns,
            list: None,
            intercepts,
            opened,
            heartbeat,
        };
        if !is_strict || !is_enforced {
            return Ok(allowed);
        }
        let mut list = AllowList::default();
        if let Some(Value::List(hosts)) = of("api_allowlist").map(|node| &node.value) {
            for host in hosts {
                let host = host
                    .as_text()
                    .ok_or("an entry of api_allowlist is not text")?;
                list.insert(host)
                    .map_err(|error| format!("{host}: {error}"))?;
            }
        }
        Ok(Self {
            list: Some(list),
            ..allowed
        })
    }

    /// Whether the policy allows `host`, as written in a receipt or a flow. A text that is not a
    /// host is not allowed.
    pub fn allows(&self, host: &str) -> bool {
        let Some(list) = &self.list else {
            return true;
        };
        Host::parse(host).is_ok_and(|host| list.allows(&host))
    }

    /// Whether an enforced allow-list contains this name. The result is false for addresses and
    /// `localhost`.
    pub fn lists_name(&self, host: &str) -> bool {
        let is_name = |host: &Host| matches!(host, Host::Name(name) if name != "localhost");
        let list = self.list.as_ref();
        list.is_some_and(|list| {
            Host::parse(host).is_ok_and(|host| is_name(&host) && list.allows(&host))
        })
    }
}

#[cfg(all(test, feature = "yaml"))]
mod tests {
    use super::*;

    #[test]
    fn only_an_enforced_strict_policy_keeps_hosts_out() {
        let strict = "mode: strict\napi_allowlist: [a.test, '*.b.test', '2001:db8::1']\n";
        let allowed = Allowed::read(strict).unwrap();
        for host in ["a.test", "A.test.", "b.test", "x.b.test", "2001:db8::1"] {
            assert!(allowed.allows(host), "{host}");
        }
        for host in ["x.a.test", "c.test", "192.0.2.1", "", "a b"] {
            assert!(!allowed.allows(host), "{host}");
        }
        for text in [
            "mode: balanced\n",
            "mode: strict\nenforce: false\n",
            "version: 1\n",
        ] {
            assert!(Allowed::read(text).unwrap().allows("c.test"), "{text}");
        }
        assert!(!Allowed::read("mode: strict\n").unwrap().allows("c.test"));
        for (text, redacts) in [
            ("flight_recorder: {redact: true}\n", true),
            ("mode: strict\nflight_recorder: {redact: true}\n", true),
            ("flight_recorder: {redact: false}\n", false),
            ("flight_recorder: {redact: 'true'}\n", false),
            ("redact: true\n", false),
        ] {
            assert_eq!(Allowed::read(text).unwrap().redacts(), redacts, "{text}");
        }
        assert!(Allowed::read("[]").is_err());
    }

    #[test]
    fn the_heartbeat_is_that_of_the_built_in_mediator() {
        let stated = "flight_recorder: {completeness: {heartbeat_interval: 1m30s}}\n";
        for (text, seconds) in [
            ("mode: strict\n", Some(60)),
            (stated, Some(90)),
            ("no_such_key: 1\n", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(Allowed::read(text).unwrap().heartbeat(), expected, "{text}");
        }
    }
}
