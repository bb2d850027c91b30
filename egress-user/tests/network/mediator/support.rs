//! Support for the tests: a mediator with test names, origins, clients, and a reader of the evidence.
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use egress_mediator::recorder::{EvidenceError, Ledger};
use egress_mediator::resolve::{Lookup, Resolve};
use egress_mediator::store::{Directory, Store};
use egress_mediator::{BuiltinMediator, Capacity, Secrets};
use egress_policy::parse::parse;
use egress_policy::redact::Key;
use egress_policy::runtime::policy_hash;
use egress_sys::routes::Routes;
use http::HeaderValue;
use pipelock_receipts::chain::Trust;
use pipelock_receipts::check::{EvidenceFile, check_evidence};
use pipelock_receipts::keys;
use pipelock_receipts::record::Posture;
use pipelock_receipts::recorder::{Closed, SessionConfig};
use pipelock_receipts::report::{End, EvidenceReport, EvidenceVerdict};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The mark that the mediator adds to its own answers.
pub const MARK: &str = "0123456789abcdef0123456789abcdef";
/// The key of the digests that replace queries.
pub const KEY: &str = "key of the digests";

/// Time limit for each step of a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Host names that exist in the tests, with their addresses.
#[derive(Debug, Clone, Default)]
pub struct Names(pub BTreeMap<&'static str, Vec<IpAddr>>);

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let found = self.0.get(name).cloned();
            found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }
}

/// The options of a mediator under test.
pub struct Setup {
    /// Lines added to the policy.
    pub policy: String,
    pub heartbeat: Duration,
    pub capacity: Capacity,
    pub store: Option<Box<dyn Store>>,
    pub posture: Posture,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: String::new(),
            heartbeat: Duration::from_mins(1),
            capacity: Capacity::default(),
            store: None,
            posture: Posture::default(),
        }
    }
}

/// A running mediator.
pub struct MediatorWorld {
    pub address: SocketAddr,
    pub key: SigningKey,
    pub policy_hash: String,
    evidence: TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<Closed, EvidenceError>>,
}

const POLICY: &str = "
version: 1
mode: strict
api_allowlist: [allowed.test, '*.wild.test', both.test, nowhere.test, 127.0.0.1, '::1', closed.test,
  loop.test, priv.test, meta.test, mixed.test, mapped.test, 169.254.169.254, 10.0.0.1]
ssrf: {ip_allowlist: ['127.0.0.1/32', '::1/128']}
forward_proxy: {enabled: true, idle_timeout_seconds: 120}
websocket_proxy: {enabled: true}
";

fn names() -> Names {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Names(BTreeMap::from([
        ("allowed.test", vec![ip("127.0.0.1")]),
        ("a.wild.test", vec![ip("127.0.0.1")]),
        // Nothing listens on the first address, so the mediator tries the second one.
        ("both.test", vec![ip("::1"), ip("127.0.0.1")]),
        ("closed.test", vec![ip("127.0.0.1")]),
        ("loop.test", vec![ip("127.0.0.2")]),
        ("priv.test", vec![ip("10.1.2.3")]),
        ("meta.test", vec![ip("169.254.169.254")]),
        ("mixed.test", vec![ip("127.0.0.1"), ip("192.168.0.1")]),
        ("mapped.test", vec![ip("::ffff:10.0.0.1")]),
        ("denied.test", vec![ip("127.0.0.1")]),
    ]))
}

/// Returns a target in the form that receipts show.
pub fn shown(target: &str) -> String {
    egress_policy::redact::target(target, &Key::new(KEY))
}

impl MediatorWorld {
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Self {
        let listener = listen();
        let address = listener.local_addr().unwrap();
        let evidence = TempDir::new().unwrap();
        // A line of the test replaces the default line with the same key.
        let mut yaml: String = POLICY
            .lines()
            .filter(|line| {
                let key = line.split(':').next().unwrap();
                key.is_empty()
                    || !setup
                        .policy
                        .lines()
                        .any(|own| own.starts_with(&format!("{key}:")))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        yaml.push_str(&setup.policy);
        let policy = parse(&yaml).unwrap();
        let key = keys::generate().unwrap();
        let config = SessionConfig {
            recorder_session: format!("proxy.run.{}", "ab".repeat(16)),
            run_nonce: "cd".repeat(16),
            open_nonce: "ef".repeat(16),
            actor: String::from("ci-agent"),
            policy_hash: policy_hash(&yaml),
            heartbeat_seconds: setup.heartbeat.as_secs(),
            posture: setup.posture,
            checkpoint_interval: policy.recorder.checkpoint_interval,
        };
        let store = setup
            .store
            .unwrap_or_else(|| Box::new(Directory::new(evidence.path().to_owned())));
        let rotate = policy.recorder.max_entries_per_file;
        let ledger = Ledger::open(store, key.clone(), config, rotate).unwrap();
        let names = Box::new(names());
        let secrets = Secrets {
            mark: HeaderValue::from_static(MARK),
            redaction_key: Key::new(KEY),
        };
        let mediator = BuiltinMediator::new(
            policy,
            ledger,
            names,
            Routes::open().unwrap(),
            secrets,
            setup.capacity,
            setup.heartbeat,
        );
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(mediator.serve(listener, async move {
            drop(stopped.await);
        }));
        Self {
            address,
            key,
            policy_hash: policy_hash(&yaml),
            evidence,
            stop: Some(stop),
            served,
        }
    }

    /// Stops the mediator and reads its evidence.
    pub async fn stop(mut self) -> Evidence {
        drop(self.stop.take());
        let closed = timeout(PATIENCE, self.served).await.unwrap().unwrap();
        let closed = closed.unwrap();
        let evidence = Evidence::read(self.evidence.path());
        assert_eq!(
            u64::try_from(evidence.receipts.len()).unwrap(),
            closed.receipt_count
        );
        let report = evidence.check(&self.key);
        assert_eq!(report.end, End::Proven, "{:?}", report.findings);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        evidence
    }

    /// Waits until the mediator ends with an error.
    pub async fn failure(self) -> EvidenceError {
        let served = timeout(PATIENCE, self.served).await.unwrap().unwrap();
        served.unwrap_err()
    }

    pub fn evidence(&self) -> Evidence {
        Evidence::read(self.evidence.path())
    }

    pub fn evidence_dir(&self) -> PathBuf {
        self.evidence.path().to_owned()
    }

    /// Waits until the evidence contains an outcome with `reason`.
    pub async fn outcome(&self, reason: &str) -> Receipt {
        let wanted = format!("reason={reason}");
        let found = timeout(PATIENCE, async {
            loop {
                let receipts = self.evidence().receipts;
                if let Some(found) = receipts.into_iter().find(|r| r.pattern.ends_with(&wanted)) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {wanted}"))
    }

    pub async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` and reads the answer until the connection ends.
    pub async fn ask(&self, request: &str) -> Answer {
        let mut stream = self.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .expect("the mediator closes the connection")
            .unwrap();
        Answer::parse(&bytes)
    }

    /// Sends a GET in absolute form on a new connection.
    pub async fn get(&self, url: &str) -> Answer {
        let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.ask(&request).await
    }

    /// Opens a tunnel and returns the connection after the 200.
    pub async fn tunnel(&self, authority: &str) -> TcpStream {
        let mut stream = self.dial().await;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }
}

/// An HTTP answer. The body is stored with its framing.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| {
                panic!("no head in {:?}", String::from_utf8_lossy(bytes));
            });
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Reads up to and including the blank line.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await?;
            head.push(byte);
        }
        io::Result::Ok(())
    };
    timeout(PATIENCE, read)
        .await
        .expect("a head")
        .unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        });
    String::from_utf8(head).unwrap()
}

/// Listens on a new port of loopback, with a backlog for many simultaneous connections.
fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1024).unwrap()
}

/// Serves every connection to a new port of loopback with `handle`.
pub async fn origin<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handle = Arc::clone(&handle);
            tokio::spawn(async move {
                // Errors are expected, because tests close connections in every way.
                drop(handle(stream).await);
            });
        }
    });
    address
}

/// Starts an origin that sends everything back until the connection ends.
pub async fn echo() -> SocketAddr {
    origin(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await
}

/// Starts an origin that answers every request with `answer`. Also returns a channel that receives the request heads.
pub async fn canned(
    answer: &'static str,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (heads, seen) = tokio::sync::mpsc::unbounded_channel();
    let address = origin(move |mut stream| {
        let heads = heads.clone();
        async move {
            // Not every test reads the heads.
            drop(heads.send(read_head(&mut stream).await));
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
    })
    .await;
    (address, seen)
}

/// The members of a receipt that tests check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub action_id: String,
    pub transport: String,
    pub method: String,
    pub target: String,
    pub verdict: String,
    pub phase: String,
    pub layer: String,
    pub pattern: String,
    pub record: Value,
}

/// The contents of an evidence directory, checked line by line.
#[derive(Debug)]
pub struct Evidence {
    pub entries: Vec<Value>,
    pub receipts: Vec<Receipt>,
    pub files: Vec<PathBuf>,
}

impl Evidence {
    pub fn read(directory: &Path) -> Self {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort_by_key(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            name.rsplit_once('-').unwrap().1.parse::<u64>().unwrap()
        });
        let mut entries: Vec<Value> = Vec::new();
        for file in &files {
            let text = std::fs::read_to_string(file).unwrap();
            // The file may be read while a line is being written, so only whole lines count.
            for line in text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
            {
                entries.push(serde_json::from_str(line).unwrap());
            }
        }
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry["seq"], index);
            let previous = index.checked_sub(1).map(|before| &entries[before]["hash"]);
            assert_eq!(
                entry["prev_hash"],
                *previous.unwrap_or(&Value::from("genesis"))
            );
        }
        let receipts = entries
            .iter()
            .filter(|entry| entry["type"] == "action_receipt")
            .map(|entry| Receipt::of(&entry["detail"]["action_record"]))
            .collect();
        Self {
            entries,
            receipts,
            files,
        }
    }

    /// Checks the files as a reviewer would, with the key pinned.
    pub fn check(&self, key: &SigningKey) -> EvidenceReport {
        let read: Vec<(String, Vec<u8>)> = self
            .files
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        let files: Vec<EvidenceFile<'_>> = read
            .iter()
            .map(|(name, bytes)| EvidenceFile { name, bytes })
            .collect();
        let trust = Trust {
            keys: vec![key.verifying_key()],
        };
        let report = check_evidence(&files, &trust);
        assert_eq!(
            report.verdict,
            EvidenceVerdict::Valid,
            "{:?}",
            report.findings
        );
        report
    }

    /// Returns the receipts about actions, without session records.
    pub fn actions(&self) -> Vec<Receipt> {
        let mut actions = self.receipts.clone();
        actions.retain(|receipt| receipt.transport != "receipt_session");
        actions
    }

    /// Returns `verdict phase layer pattern` of each action, without byte counts.
    pub fn story(&self) -> Vec<String> {
        self.actions().iter().map(Receipt::line).collect()
    }
}

impl Receipt {
    fn of(record: &Value) -> Self {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        Self {
            action_id: text("action_id"),
            transport: text("transport"),
            method: text("method"),
            target: text("target"),
            verdict: text("verdict"),
            phase: text("decision_phase"),
            layer: text("layer"),
            pattern: text("pattern"),
            record: record.clone(),
        }
    }

    pub fn line(&self) -> String {
        let words: Vec<&str> = [&self.verdict, &self.phase, &self.layer]
            .into_iter()
            .map(String::as_str)
            .chain(
                self.pattern
                    .split(' ')
                    .filter(|word| !word.starts_with("bytes=")),
            )
            .filter(|word| !word.is_empty())
            .collect();
        words.join(" ")
    }

    pub fn bytes(&self) -> u64 {
        let word = self
            .pattern
            .split(' ')
            .find_map(|word| word.strip_prefix("bytes="));
        word.unwrap().parse().unwrap()
    }
}
