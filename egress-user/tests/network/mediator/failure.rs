//! Tests that the mediator serves no request if it cannot write the evidence.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use egress_mediator::recorder::Ledger;
use egress_mediator::store::{Directory, EvidenceFile, Store};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pipelock_receipts::keys;
use pipelock_receipts::record::Posture;
use pipelock_receipts::recorder::SessionConfig;
use pipelock_receipts::report::End;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::support::{Evidence, MediatorWorld, PATIENCE, Setup, canned, echo};

/// A store whose file fails after a given number of writes.
#[derive(Clone, Default)]
struct Faulty {
    appends_left: Arc<AtomicUsize>,
    sync_fails: Arc<AtomicBool>,
    bytes: Arc<AtomicUsize>,
}

impl Faulty {
    fn after(appends: usize) -> Self {
        Self {
            appends_left: Arc::new(AtomicUsize::new(appends)),
            ..Self::default()
        }
    }
}

impl Store for Faulty {
    fn create(&self, _name: &str) -> io::Result<Arc<dyn EvidenceFile>> {
        Ok(Arc::new(self.clone()))
    }
}

impl EvidenceFile for Faulty {
    fn append(&self, lines: &[u8]) -> io::Result<()> {
        let left = self.appends_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.appends_left.store(left - 1, Ordering::Relaxed);
        self.bytes.fetch_add(lines.len(), Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk disappeared"));
        }
        Ok(())
    }
}

fn world_over(store: impl Store + 'static) -> MediatorWorld {
    MediatorWorld::with(Setup {
        store: Some(Box::new(store)),
        ..Setup::default()
    })
}

/// Claims: session-durable
#[test]
fn session_that_cannot_be_made_durable_does_not_open() {
    for sync_fails in [false, true] {
        let store = Faulty::after(usize::MAX);
        store.sync_fails.store(sync_fails, Ordering::Relaxed);
        let config = SessionConfig {
            recorder_session: format!("proxy.run.{}", "ab".repeat(16)),
            run_nonce: "cd".repeat(16),
            open_nonce: "ef".repeat(16),
            actor: String::from("ci-agent"),
            policy_hash: "11".repeat(32),
            heartbeat_seconds: 60,
            posture: Posture::default(),
            checkpoint_interval: 0,
        };
        let key = keys::generate().unwrap();
        let opened = Ledger::open(Box::new(store.clone()), key, config, None);
        assert_eq!(opened.is_err(), sync_fails);
        // In both cases, the receipt was written.
        assert!(store.bytes.load(Ordering::Relaxed) > 0);
    }
}

#[tokio::test]
async fn an_intent_that_cannot_be_written_makes_no_connection() {
    let world = world_over(Faulty::after(1));
    let (at, mut heads) = canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let answer = world
        .get(&format!("http://allowed.test:{}/", at.port()))
        .await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.text(), "blocked: receipt_emission_failed\n");
    assert_eq!(
        answer.header("x-pipelock-block-reason"),
        Some("receipt_emission_failed")
    );
    let error = world.failure().await;
    assert!(
        error.to_string().contains("the evidence cannot be written"),
        "{error}"
    );
    assert!(heads.try_recv().is_err());
}

#[tokio::test]
async fn an_intent_that_cannot_be_made_durable_makes_no_connection() {
    let store = Faulty::after(usize::MAX);
    let world = world_over(store.clone());
    store.sync_fails.store(true, Ordering::Relaxed);
    let (at, mut heads) = canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let answer = world
        .ask(&format!(
            "CONNECT allowed.test:{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            at.port()
        ))
        .await;
    assert_eq!(answer.status, 403);
    let error = world.failure().await;
    assert!(
        error.to_string().contains("the disk disappeared"),
        "{error}"
    );
    assert!(heads.try_recv().is_err());
}

#[tokio::test]
async fn a_refusal_that_cannot_be_written_ends_the_service_too() {
    let world = world_over(Faulty::after(1));
    let answer = world.get("http://denied.test/").await;
    assert_eq!(answer.text(), "blocked: receipt_emission_failed\n");
    world.failure().await;
}

#[tokio::test]
async fn open_tunnels_end_with_the_service() {
    // Only two writes succeed: session_open and the tunnel's intent.
    let world = world_over(Faulty::after(2));
    let port = echo().await.port();
    let mut tunnel = world.tunnel(&format!("allowed.test:{port}")).await;
    let address = world.address;
    assert_eq!(world.get("http://denied.test/").await.status, 403);
    world.failure().await;
    let mut rest = Vec::new();
    drop(
        timeout(PATIENCE, tunnel.read_to_end(&mut rest))
            .await
            .unwrap(),
    );
    assert!(rest.is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// A very small file system. Dropping the value removes the file system.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Creates the file system. Returns `None` without root, because mounting needs root.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var("EGRESS_TEST_REQUIRE").is_err(),
                "root is required to mount a small tmpfs"
            );
            println!("skipped: mounting a small tmpfs needs root");
            return None;
        }
        let directory = TempDir::new().unwrap();
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=32k"),
        )
        .unwrap();
        Some(Self { directory })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.directory.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_service_with_whole_lines() {
    let Some(disk) = SmallDisk::new() else { return };
    let world = world_over(Directory::new(disk.directory.path().to_owned()));
    let (at, _heads) = canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://allowed.test:{}/", at.port());
    let mut served = 0_usize;
    loop {
        let answer = timeout(Duration::from_secs(5), world.get(&url))
            .await
            .unwrap();
        if answer.status == 403 {
            assert_eq!(answer.text(), "blocked: receipt_emission_failed\n");
            break;
        }
        assert_eq!(answer.status, 200);
        served += 1;
    }
    assert!(served > 5, "{served}");
    let key = world.key.clone();
    let error = world.failure().await;
    assert!(error.to_string().contains("No space left"), "{error}");
    let evidence = Evidence::read(disk.directory.path());
    let report = evidence.check(&key);
    assert!(matches!(report.end, End::Unproven(_)));
    // Every request that was answered has an intent.
    let intents = evidence
        .actions()
        .iter()
        .filter(|action| action.phase == "intent")
        .count();
    assert!(intents >= served, "{intents} < {served}");
}
