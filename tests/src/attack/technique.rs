//! Reads the techniques from the headers of their scripts.
use std::fs;
use std::path::Path;

/// A layer that stops a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The kernel programs. This layer and the next three can be left out.
    Ebpf,
    /// The network namespace.
    Netns,
    /// The file view.
    PrivateRun,
    /// The system call filters.
    Seccomp,
    /// The command's user, which has `no_new_privs` and no capabilities. This layer and those after it are always
    /// present.
    Privileges,
    /// The other namespaces: processes, IPC, host name, cgroups.
    Namespaces,
    /// The relay, which accepts only HTTP and TLS and judges names.
    Relay,
    /// The mediator and its allow-list.
    Mediator,
    /// The supervisor, which controls descriptors, the environment, changes to the workspace, and the packet.
    Supervisor,
}

/// The layers by their names in scripts.
const LAYERS: [(&str, Layer); 9] = [
    ("ebpf", Layer::Ebpf),
    ("netns", Layer::Netns),
    ("private-run", Layer::PrivateRun),
    ("seccomp", Layer::Seccomp),
    ("privileges", Layer::Privileges),
    ("namespaces", Layer::Namespaces),
    ("relay", Layer::Relay),
    ("mediator", Layer::Mediator),
    ("supervisor", Layer::Supervisor),
];

impl Layer {
    /// Returns the layer of this name.
    pub fn named(name: &str) -> Option<Self> {
        LAYERS
            .iter()
            .find_map(|(other, layer)| (*other == name).then_some(*layer))
    }

    /// Returns the name of the layer.
    pub fn name(self) -> &'static str {
        LAYERS
            .iter()
            .find_map(|(name, layer)| (*layer == self).then_some(*name))
            .unwrap_or_default()
    }
}

/// The oracle that decides whether an attempt succeeded. The command's output alone never decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// A network packet left the runner.
    Wire,
    /// A request reached a server that it must not reach.
    Request,
    /// The canary left the boundary, or the witness on the runner recorded a connection.
    Canary,
    /// The kernel performed the call, as the exit status of the attempt shows.
    Call,
    /// The function `reached` of the script decides.
    Script,
}

/// One case of a technique.
#[derive(Clone, Debug)]
pub struct Technique {
    /// Name of the script, with the case if there are several.
    pub name: String,
    /// The case.
    pub case: String,
    /// Layers that stop the technique. Each of these layers is sufficient.
    pub stops: Vec<Layer>,
    /// Members of a row that the flow log must have. Empty if no hook can record the attempt.
    pub seen: Vec<(String, String)>,
    /// The oracle.
    pub oracle: Oracle,
    /// Names on the allow-list.
    pub allow: Vec<String>,
    /// Addresses of the machine that the policy opens, so that a server on the runner can be reached.
    pub open: Vec<String>,
    /// Options of the run.
    pub options: Vec<String>,
    /// Environment variables of the caller and of the control.
    pub env: Vec<(String, String)>,
    /// Whether the control runs as an unprivileged user, like the command.
    pub unprivileged: bool,
    /// The whole script.
    pub script: String,
}

impl Technique {
    /// Whether the kernel programs write the row that shows the attempt.
    pub(super) fn is_seen_by_kernel(&self) -> bool {
        let by_relay = |(key, value): &(String, String)| key == "source" && value == "relay";
        !self.seen.is_empty() && !self.seen.iter().any(by_relay)
    }
}

/// Returns every technique of the suite by name.
///
/// # Panics
/// Panics if a script cannot be read, or its header lacks a line.
pub fn all() -> Vec<Technique> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks");
    let mut files: Vec<_> = fs::read_dir(&dir)
        .expect("list the attacks")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "sh"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let script = fs::read_to_string(path).expect("read an attack");
            parse(&name, &script)
        })
        .collect()
}

fn parse(name: &str, script: &str) -> Vec<Technique> {
    let field = |field: &str| {
        script
            .lines()
            .take_while(|line| line.starts_with('#'))
            .find_map(|line| line.strip_prefix(&format!("# {field}: ")))
            .unwrap_or_default()
            .trim()
    };
    let words =
        |name: &str| -> Vec<String> { field(name).split_whitespace().map(str::to_owned).collect() };
    let pairs = |field: &str| -> Vec<(String, String)> {
        words(field)
            .iter()
            .map(|pair| {
                let (key, value) = pair
                    .split_once('=')
                    .unwrap_or_else(|| panic!("{name}: {pair} is no pair"));
                (key.to_owned(), value.to_owned())
            })
            .collect()
    };
    let stops: Vec<Layer> = words("stops")
        .iter()
        .map(|word| Layer::named(word).unwrap_or_else(|| panic!("{name}: no layer {word}")))
        .collect();
    assert!(!stops.is_empty(), "{name}: nothing stops it");
    let oracle = match field("oracle") {
        "wire" => Oracle::Wire,
        "request" => Oracle::Request,
        "canary" => Oracle::Canary,
        "call" => Oracle::Call,
        "script" => Oracle::Script,
        other => panic!("{name}: no oracle {other:?}"),
    };
    assert_eq!(
        oracle == Oracle::Script,
        script.contains("\nreached()"),
        "{name}: the oracle `script` needs the function `reached`, and no other oracle may have it"
    );
    let cases = words("cases");
    let single = [String::new()];
    let cases = if cases.is_empty() {
        &single
    } else {
        cases.as_slice()
    };
    cases
        .iter()
        .map(|case| Technique {
            name: if case.is_empty() {
                name.to_owned()
            } else {
                format!("{name}/{case}")
            },
            case: case.clone(),
            stops: stops.clone(),
            seen: pairs("seen")
                .into_iter()
                .map(|(key, value)| (key, value.replace("CASE", case)))
                .collect(),
            oracle,
            allow: words("allow")
                .iter()
                .map(|name| name.replace("CASE", case))
                .collect(),
            open: words("open"),
            options: words("options"),
            env: pairs("env"),
            unprivileged: field("as") == "nobody",
            script: script.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: attacks-name-layers
    #[test]
    fn a_script_states_how_it_is_judged() {
        let script = "# A try.\n# stops: ebpf netns\n# seen: port=CASE\n# oracle: wire\n# cases: 1 2\nattempt() { :; }\n";
        let [one, two] = <[Technique; 2]>::try_from(parse("try", script)).unwrap();
        assert_eq!((one.name.as_str(), one.case.as_str()), ("try/1", "1"));
        assert_eq!(two.seen, [("port".to_owned(), "2".to_owned())]);
        assert_eq!(one.stops, [Layer::Ebpf, Layer::Netns]);
        assert!(std::panic::catch_unwind(|| parse("try", "# oracle: wire\n")).is_err());
    }
}
