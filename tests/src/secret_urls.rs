//! Sends requests to URLs that contain a token, and searches for the token in everything that a run leaves behind.
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
    let found = |text: &str| {
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
    };
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
