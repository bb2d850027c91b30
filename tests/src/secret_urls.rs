//! Sends requests to URLs that contain a secret, and searches for the secret in everything that a run leaves behind.
#[path = "../../crates/policy/src/secrets/examples.rs"]
mod examples;

use std::fs;
use std::path::Path;

use crate::agents::NO_PROXY;
use crate::run::{Run, RunOutput};
use crate::world::World;

/// Sends one request for each part of a URL that can contain the token, and prints how many requests were answered.
/// User information is sent only to a proxy.
const CLIENT: &str = r#"
import os, socket, urllib.parse
token = open("token").read()
def send(at, target, fields=""):
    stream = socket.create_connection(at, 10)
    stream.sendall(f"GET {target} HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n{fields}\r\n".encode())
    answer = b""
    while part := stream.recv(65536):
        answer += part
    return answer.startswith(b"HTTP/1.1 ")
origin = ("allowed.test", 80)
answered = send(origin, f"/harmless-query?key={token}") + send(origin, f"/harmless-path/{token}/end")
if proxy := os.environ.get("EXPLICIT"):
    at = urllib.parse.urlsplit(proxy)
    at = (at.hostname, at.port)
    for user in (f"{token}@", f"user:{token}@"):
        answered += send(at, f"http://{user}allowed.test/harmless-user?key={token}")
print(answered)
"#;

/// Words that the flow log must contain. The relay denies a target with user information, and records only that the
/// target is malformed.
const LOGGED: [&str; 3] = ["harmless-query", "harmless-path", "malformed_target"];

/// A token in the form of an access key of a cloud provider.
fn token() -> String {
    format!("AKIA{}", "Q7Z2M4X8K1P5R9T3")
}

/// Requests the URLs in `run`. Fails if a file that the run leaves behind contains the token, if the flow log lacks a
/// word of `LOGGED`, or if the evidence lacks a word of `signed`.
///
/// # Panics
/// Panics with the files that contain the token, or with the missing word.
#[track_caller]
pub fn assert_token_is_nowhere(world: &World, run: Run<'_>, signed: &[&str]) -> RunOutput {
    let token = token();
    let script = format!("EXPLICIT=$HTTP_PROXY\nexport EXPLICIT\n{NO_PROXY}python3 client.py\n");
    let run = run
        .file("client.py", CLIENT)
        .file("token", &token)
        .script(&script)
        .run();
    assert_eq!(run.stdout, "4\n", "{run}");
    let found = |text: &str| holders(&run, text);
    let logged = LOGGED.iter().map(|word| (*word, "flows.jsonl"));
    let signed = signed.iter().map(|word| (*word, "evidence.jsonl"));
    for (word, record) in logged.chain(signed) {
        let names = found(word);
        let is_there = names.iter().any(|name| name == record);
        assert!(
            is_there,
            "{word} is not in {record}, but in {names:?}\n{run}"
        );
    }
    assert_eq!(found(&token), Vec::<String>::new(), "{run}");

    // The control: without a boundary, the token reaches the origin in the query and in the path.
    fs::write(world.dir().join("client.py"), CLIENT).expect("write the client");
    fs::write(world.dir().join("token"), &token).expect("write the token");
    let before = world.requests().len();
    let dir = world.dir().display();
    let control = world.shell(&format!("cd {dir}\n{NO_PROXY}python3 client.py\n"));
    assert_eq!(control.stdout, "2\n", "{control}");
    let requests = world.requests();
    let arrived = requests.iter().skip(before);
    let arrived = arrived.filter(|request| request.target.contains(&token));
    assert_eq!(arrived.count(), 2, "{control}");
    run
}

/// Requests the paths in the file `paths`, and prints how many requests were answered.
const PATHS_CLIENT: &str = r#"
import http.client
paths = open("paths").read().splitlines()
answered = 0
for path in paths:
    stream = http.client.HTTPConnection("allowed.test", 80, timeout=10)
    stream.request("GET", path)
    answered += stream.getresponse().status > 0
    stream.close()
print(answered)
"#;

/// Paths without a secret. The flow log shows them.
const ORDINARY: [&str; 4] = [
    "/simple/scikit-learn/",
    "/owner/repo/commit/90b35a6239c3d8bdabc530a6a0816f7ff89a0aaf",
    "/123e4567-e89b-12d3-a456-426614174000/v1.2.3",
    "/risk-assessment-of-the-year-2026",
];

/// Requests one path for each kind of secret in `run`. Returns the secrets that the receipts contain, because a Pipelock has its
/// own rule for them. Fails if another file that the run leaves behind contains a secret, or if the flow log lacks an ordinary
/// path.
///
/// # Panics
/// Panics with the secrets that were found, or with the missing path.
#[track_caller]
pub fn assert_secrets_are_nowhere(world: &World, run: Run<'_>) -> (RunOutput, Vec<String>) {
    const RECEIPTS: &str = "evidence.jsonl";
    let secrets: Vec<(String, String)> = examples::secrets()
        .into_iter()
        .map(|secret| (escaped(&secret), secret))
        .collect();
    let hidden = secrets
        .iter()
        .map(|(escaped, _)| format!("/harmless-path/{escaped}/end"));
    let paths: Vec<String> = hidden.chain(ORDINARY.map(String::from)).collect();
    let count = format!("{}\n", paths.len());
    let list = paths.join("\n");
    let run = run
        .file("client.py", PATHS_CLIENT)
        .file("paths", &list)
        .script(&format!("{NO_PROXY}python3 client.py\n"))
        .run();
    assert_eq!(run.stdout, count, "{run}");
    let files = files(&run.packet);
    let found = |is_searched: fn(&str) -> bool| -> Vec<String> {
        let searched = files.iter().filter(|(name, _)| is_searched(name));
        let searched: Vec<&Vec<u8>> = searched.map(|(_, bytes)| bytes).collect();
        let is_there = |text: &str| searched.iter().any(|bytes| holds(bytes, text));
        let found = secrets.iter();
        let found = found.filter(|(escaped, secret)| is_there(escaped) || is_there(secret));
        found.map(|(_, secret)| secret.clone()).collect()
    };
    let signed = found(|name| name == RECEIPTS);
    let others = found(|name| name != RECEIPTS);
    assert!(others.is_empty(), "the packet contains {others:#?}\n{run}");
    for (name, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        let is_printed = |(_, secret): &&(String, String)| text.contains(secret);
        let printed = secrets.iter().find(is_printed);
        assert!(printed.is_none(), "{name} has {printed:?}\n{run}");
    }
    let flows = files.iter().find(|(name, _)| name == "flows.jsonl");
    let (_, flows) = flows.expect("the packet has a flow log");
    for path in ORDINARY {
        let target = format!("GET http://allowed.test{path}\"");
        assert!(
            holds(flows, &target),
            "{path} is not in the flow log\n{run}"
        );
    }

    // The control: without a boundary, every secret reaches the origin.
    fs::write(world.dir().join("client.py"), PATHS_CLIENT).expect("write the client");
    fs::write(world.dir().join("paths"), &list).expect("write the paths");
    let before = world.requests().len();
    let dir = world.dir().display();
    let control = world.shell(&format!("cd {dir}\n{NO_PROXY}python3 client.py\n"));
    assert_eq!(control.stdout, count, "{control}");
    let requests = world.requests();
    let arrived: Vec<&str> = requests
        .iter()
        .skip(before)
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(arrived, paths, "{control}");
    (run, signed)
}

/// Escapes the slash and the characters that a path cannot contain. A secret may have escapes of its own.
fn escaped(text: &str) -> String {
    let escape = |one: char| match one {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | ':' | '=' | '%' => {
            one.to_string()
        }
        other => format!("%{:02X}", u32::from(other)),
    };
    text.chars().map(escape).collect()
}

/// Returns what of a run contains the text: the names of files in the packet directory, `stdout`, and `stderr`.
pub fn holders(run: &RunOutput, text: &str) -> Vec<String> {
    let printed = [("stdout", &run.stdout), ("stderr", &run.stderr)]
        .map(|(name, printed)| (name.to_owned(), printed.clone().into_bytes()));
    let mut names: Vec<String> = files(&run.packet)
        .into_iter()
        .chain(printed)
        .filter(|(_, bytes)| holds(bytes, text))
        .map(|(name, _)| name)
        .collect();
    names.sort();
    names
}

/// Returns all files in a directory and below it, with their names.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("read the packet directory") {
        let path = entry.expect("read the packet directory").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            all.push((name.into_owned(), fs::read(&path).expect("read a file")));
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
