//! Reads a Pipelock document into a [`Policy`].
//!
//! A document is rejected if it has a key that is not implemented. The error states whether
//! Pipelock has the key or the key is unknown. Only `mode: strict` is accepted, because no other
//! mode enforces the allow-list. A document without `mode` is read as strict.
use std::time::Duration;

use super::advice;
use super::allow::AllowList;
use super::document::{self, MappingEntry, Node, Value};
use super::error::PolicyError;
use super::keys::NOT_IMPLEMENTED;
use super::model::{FetchKeys, ForwardKeys, Policy, RecorderKeys, WebSocketKeys};
use super::ssrf::{Cidr, SsrfGuard};

/// Reads a policy document.
///
/// # Errors
/// Returns [`PolicyError`] for the first key, value, or line that the built-in mediator cannot use.
pub fn parse(text: &str) -> Result<Policy, PolicyError> {
    from_entries(&document::read(text)?)
}

/// Reads a policy from the top mapping of a document.
///
/// # Errors
/// Returns the same errors as [`parse`].
pub(super) fn from_entries(entries: &[MappingEntry]) -> Result<Policy, PolicyError> {
    let mut top = Section::new(String::new(), entries);
    let policy = read_top(&mut top)?;
    top.finish()?;
    Ok(policy)
}

fn read_top(top: &mut Section<'_>) -> Result<Policy, PolicyError> {
    if let Some(field) = top.take("version") {
        field.only(&Value::Int(1), "must be 1")?;
    }
    if let Some(field) = top.take("mode") {
        let strict = Value::Text(String::from("strict"));
        field.only(
            &strict,
            "must be strict because the built-in mediator has no other mode; use --mediator pipelock for other modes",
        )?;
    }
    if let Some(field) = top.take("enforce") {
        field.only(
            &Value::Bool(true),
            "must be true because the built-in mediator always enforces",
        )?;
    }
    let allow = host_list(top.take("api_allowlist"))?;
    let trusted_domains = host_list(top.take("trusted_domains"))?;
    let agent_identity = top
        .take("default_agent_identity")
        .as_ref()
        .map(identity)
        .transpose()?;
    let bind_agent_identity = top
        .take("bind_default_agent_identity")
        .map(|field| field.boolean())
        .transpose()?
        .unwrap_or(false);
    let ip_allowlist = read_section(top, "ssrf", read_ssrf)?;
    read_section(top, "logging", read_logging)?;
    Ok(Policy {
        allow,
        guard: SsrfGuard {
            ip_allowlist,
            trusted_domains,
        },
        fetch: read_section(top, "fetch_proxy", read_fetch)?,
        forward: read_section(top, "forward_proxy", read_forward)?,
        websocket: read_section(top, "websocket_proxy", read_websocket)?,
        recorder: read_section(top, "flight_recorder", read_recorder)?,
        agent_identity,
        bind_agent_identity,
    })
}

fn read_ssrf(section: &mut Section<'_>) -> Result<Vec<Cidr>, PolicyError> {
    let Some(field) = section.take("ip_allowlist") else {
        return Ok(Vec::new());
    };
    let reason = "must be an address range such as 198.51.100.0/24";
    field
        .list()?
        .into_iter()
        .map(|item| {
            let range = item.text().ok().and_then(Cidr::parse);
            range.ok_or_else(|| item.invalid(reason))
        })
        .collect()
}

fn read_logging(section: &mut Section<'_>) -> Result<(), PolicyError> {
    // The built-in mediator does not write a request log, because the receipts record every request.
    for key in ["format", "output"] {
        if let Some(field) = section.take(key) {
            field.text()?;
        }
    }
    for key in ["include_allowed", "include_blocked"] {
        if let Some(field) = section.take(key) {
            field.boolean()?;
        }
    }
    Ok(())
}

fn read_fetch(section: &mut Section<'_>) -> Result<FetchKeys, PolicyError> {
    let mut keys = FetchKeys::default();
    if let Some(field) = section.take("listen") {
        keys.listen = Some(field.text()?.to_owned());
    }
    if let Some(field) = section.take("timeout_seconds") {
        keys.timeout = field.seconds()?;
    }
    if let Some(field) = section.take("max_response_mb") {
        keys.max_response_bytes = Some(field.count()?.saturating_mul(1 << 20));
    }
    Ok(keys)
}

fn read_forward(section: &mut Section<'_>) -> Result<ForwardKeys, PolicyError> {
    let mut keys = ForwardKeys::default();
    if let Some(field) = section.take("enabled") {
        keys.enabled = field.boolean()?;
    }
    if let Some(field) = section.take("max_tunnel_seconds") {
        keys.max_tunnel = Some(field.seconds()?);
    }
    if let Some(field) = section.take("idle_timeout_seconds") {
        keys.idle_timeout = field.seconds()?;
    }
    if let Some(field) = section.take("sni_verification") {
        keys.sni_verification = field.boolean()?;
    }
    if let Some(field) = section.take("sni_require_tls") {
        field.only(
            &Value::Bool(true),
            "must be true because the built-in mediator allows only TLS in a tunnel",
        )?;
    }
    Ok(keys)
}

fn read_websocket(section: &mut Section<'_>) -> Result<WebSocketKeys, PolicyError> {
    let mut keys = WebSocketKeys::default();
    if let Some(field) = section.take("enabled") {
        keys.enabled = field.boolean()?;
    }
    if let Some(field) = section.take("max_connection_seconds") {
        keys.max_connection = field.seconds()?;
    }
    if let Some(field) = section.take("idle_timeout_seconds") {
        keys.idle_timeout = field.seconds()?;
    }
    if let Some(field) = section.take("max_concurrent_connections") {
        keys.max_concurrent = usize::try_from(field.count()?).unwrap_or(usize::MAX);
    }
    for key in ["allow_binary_frames", "forward_cookies"] {
        if let Some(field) = section.take(key) {
            field.only(
                &Value::Bool(true),
                "must be true because the built-in mediator forwards handshakes and frames unchanged",
            )?;
        }
    }
    Ok(keys)
}

fn read_recorder(section: &mut Section<'_>) -> Result<RecorderKeys, PolicyError> {
    let mut keys = RecorderKeys::default();
    for key in ["enabled", "sign_checkpoints", "require_receipts"] {
        if let Some(field) = section.take(key) {
            field.only(
                &Value::Bool(true),
                "must be true because the built-in mediator signs and requires every receipt",
            )?;
        }
    }
    // Pipelock redacts the findings of its content scan, and the built-in mediator does not scan content. The built-in
    // mediator always redacts the URLs that it records, so this key has no effect.
    if let Some(field) = section.take("redact") {
        field.boolean()?;
    }
    if let Some(field) = section.take("dir") {
        keys.dir = Some(field.text()?.to_owned());
    }
    if let Some(field) = section.take("signing_key_path") {
        keys.signing_key_path = Some(field.text()?.to_owned());
    }
    if let Some(field) = section.take("checkpoint_interval") {
        keys.checkpoint_interval = field.count()?;
    }
    if let Some(field) = section.take("max_entries_per_file") {
        keys.max_entries_per_file = Some(field.count()?);
    }
    let heartbeat = read_section(section, "completeness", |completeness| {
        completeness
            .take("heartbeat_interval")
            .map(|field| field.duration())
            .transpose()
    })?;
    if let Some(heartbeat) = heartbeat {
        keys.heartbeat = heartbeat;
    }
    Ok(keys)
}

/// Reads a section with `read`; an absent section is read as an empty one.
fn read_section<T>(
    parent: &mut Section<'_>,
    key: &str,
    read: impl FnOnce(&mut Section<'_>) -> Result<T, PolicyError>,
) -> Result<T, PolicyError> {
    let mut section = match parent.take(key) {
        Some(field) => field.section()?,
        None => Section::new(parent.path(key), &[]),
    };
    let value = read(&mut section)?;
    section.finish()?;
    Ok(value)
}

fn host_list(field: Option<Field<'_>>) -> Result<AllowList, PolicyError> {
    let mut list = AllowList::default();
    let Some(field) = field else {
        return Ok(list);
    };
    for item in field.list()? {
        list.insert(item.text()?)
            .map_err(|error| item.error(advice::entry(item.text().unwrap_or_default(), error)))?;
    }
    Ok(list)
}

fn identity(field: &Field<'_>) -> Result<String, PolicyError> {
    let text = field.text()?;
    let plain = !text.is_empty()
        && text.len() <= 128
        && text.trim() == text
        && !text.chars().any(char::is_control);
    if !plain {
        return Err(field.invalid("must be 1 to 128 characters without leading or trailing spaces"));
    }
    Ok(text.to_owned())
}

/// The keys of a mapping that have not been read yet.
struct Section<'a> {
    path: String,
    left: Vec<&'a MappingEntry>,
    /// The keys that were read or would have been read.
    known: Vec<String>,
}

/// A value and the key name that error messages use for it.
struct Field<'a> {
    name: String,
    node: &'a Node,
}

impl<'a> Section<'a> {
    fn new(path: String, entries: &'a [MappingEntry]) -> Self {
        Self {
            path,
            left: entries.iter().collect(),
            known: Vec::new(),
        }
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn take(&mut self, key: &str) -> Option<Field<'a>> {
        self.known.push(self.path(key));
        let at = self.left.iter().position(|entry| entry.key == key)?;
        let entry = self.left.remove(at);
        Some(Field {
            name: self.path(key),
            node: &entry.value,
        })
    }

    /// Fails on the first key that was not read.
    fn finish(self) -> Result<(), PolicyError> {
        let Some(entry) = self.left.first() else {
            return Ok(());
        };
        let path = self.path(&entry.key);
        let line = entry.line;
        if NOT_IMPLEMENTED.contains(&path.as_str()) {
            return Err(PolicyError::NotImplemented { line, key: path });
        }
        let below = |name: &&str| self.path.is_empty() || name.starts_with(&self.path);
        let names = self.known.iter().map(String::as_str);
        let names = names.chain(NOT_IMPLEMENTED.iter().copied().filter(below));
        Err(PolicyError::UnknownKey {
            line,
            nearest: advice::nearest(&path, names).map(str::to_owned),
            key: PolicyError::shown(&path),
            known: self.known,
        })
    }
}

impl<'a> Field<'a> {
    fn error(&self, reason: String) -> PolicyError {
        PolicyError::Invalid {
            line: self.node.line,
            key: self.name.clone(),
            reason,
        }
    }

    /// Builds the error for this value. `reason` is the requirement, optionally with the cause after `because`. The
    /// error shows the value after the requirement.
    fn invalid(&self, reason: &'static str) -> PolicyError {
        let found = advice::shown(&self.node.value);
        self.error(match reason.split_once(" because ") {
            Some((must, why)) => format!("{must}, not {found}, because {why}"),
            None => format!("{reason}, not {found}"),
        })
    }

    fn only(&self, value: &Value, reason: &'static str) -> Result<(), PolicyError> {
        if self.node.value == *value {
            return Ok(());
        }
        if let (Value::Text(word), Value::Text(found)) = (value, &self.node.value)
            && let Some(why) = advice::word(found, word)
        {
            let found = advice::shown(&self.node.value);
            return Err(self.error(format!("must be {word}, not {found}; {why}")));
        }
        Err(self.invalid(reason))
    }

    fn boolean(&self) -> Result<bool, PolicyError> {
        if let Value::Bool(value) = self.node.value {
            Ok(value)
        } else {
            Err(self.invalid("must be true or false"))
        }
    }

    fn text(&self) -> Result<&'a str, PolicyError> {
        if let Value::Text(text) = &self.node.value {
            Ok(text)
        } else {
            Err(self.invalid("must be text (quote it)"))
        }
    }

    /// Reads a whole number of at least 1.
    fn count(&self) -> Result<u64, PolicyError> {
        let reason = "must be a whole number of at least 1";
        if let Value::Int(value) = self.node.value {
            u64::try_from(value)
                .ok()
                .filter(|value| *value > 0)
                .ok_or_else(|| self.invalid(reason))
        } else {
            Err(self.invalid(reason))
        }
    }

    fn seconds(&self) -> Result<Duration, PolicyError> {
        let seconds = self.count()?;
        if seconds > MAX_SECONDS {
            return Err(self.invalid("must be at most 366 days"));
        }
        Ok(Duration::from_secs(seconds))
    }

    /// Reads a duration in Pipelock's notation: `60s`, `1m30s`.
    fn duration(&self) -> Result<Duration, PolicyError> {
        let reason = "must be a duration of whole seconds such as 60s or 1m30s";
        let seconds = whole_seconds(self.text()?).ok_or_else(|| self.invalid(reason))?;
        Ok(Duration::from_secs(seconds))
    }

    fn list(&self) -> Result<Vec<Field<'a>>, PolicyError> {
        let Value::List(nodes) = &self.node.value else {
            return Err(self.invalid("must be a list"));
        };
        let numbered = nodes.iter().enumerate().map(|(index, node)| Field {
            name: format!("{}[{index}]", self.name),
            node,
        });
        Ok(numbered.collect())
    }

    fn section(self) -> Result<Section<'a>, PolicyError> {
        if let Value::Map(entries) = &self.node.value {
            return Ok(Section::new(self.name, entries));
        }
        let (line, value) = (self.node.line, &self.node.value);
        Err(advice::not_a_section(line, &self.name, value))
    }
}

const MAX_SECONDS: u64 = 366 * 24 * 3600;

fn whole_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.chars().next()?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        rest = after.strip_prefix(unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
    }
    (1..=MAX_SECONDS).contains(&total).then_some(total)
}
