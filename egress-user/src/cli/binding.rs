//! What `egress run` binds to a packet: which run it is of, by the environment and by the caller's own words.
use std::ffi::OsString;

use anyhow::ensure;

use crate::packet::identity::{self, Identity};

/// What the caller binds beside what the CI system says.
#[derive(Debug, clap::Args)]
pub(super) struct Binding {
    /// Bind this to the packet, so that `egress verify --expect KEY=VALUE` can ask for it; repeatable
    #[arg(long = "bind", value_name = "KEY=VALUE", value_parser = identity::pair)]
    binds: Vec<(String, String)>,
    /// Nonce of the verifier, at least 16 hex digits, which `egress verify --nonce` asks for
    #[arg(long, value_name = "HEX", value_parser = identity::nonce)]
    nonce: Option<String>,
}

impl Binding {
    /// `identity.json` of a run with this environment.
    ///
    /// # Errors
    /// When a key is bound twice, or is one that the CI system gives a value.
    pub(super) fn identity(self, environment: &[(OsString, OsString)]) -> anyhow::Result<Vec<u8>> {
        let variable = |wanted: &str| {
            let found = environment.iter().find(|(name, _)| name == wanted);
            found
                .and_then(|(_, value)| value.to_str())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let mut identity = Identity::of(variable);
        for (key, value) in self.binds {
            ensure!(
                identity.value(&key).is_none(),
                "--bind {key} is given twice, or names what the CI system says"
            );
            identity.bind.insert(key, value);
        }
        identity.nonce = self.nonce;
        Ok(identity.to_bytes()?)
    }
}
