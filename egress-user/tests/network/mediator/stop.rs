//! The end of a session, and the records of a session that are not about actions.
use std::time::Duration;

use egress_mediator::Capacity;
use pipelock_receipts::record::Posture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{MediatorWorld, Setup, echo, origin, read_head};
use egress_test_support::client_hello::hello;

#[tokio::test]
async fn open_exchanges_may_end() {
    let world = MediatorWorld::new();
    let at = origin(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await?;
        stream.shutdown().await
    })
    .await;
    let mut stream = world.dial().await;
    let idle = world.dial().await;
    let request = format!(
        "GET http://allowed.test:{}/ HTTP/1.1\r\nHost: a\r\n\r\n",
        at.port()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    while world.evidence().actions().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (evidence, answer) = tokio::join!(world.stop(), async {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(
        evidence.story(),
        [
            "allow intent",
            "allow outcome outcome status=200 reason=complete"
        ]
    );
    drop(idle);
}

/// Claims: collect-mediator
#[tokio::test]
async fn open_actions_are_cut_and_have_an_outcome() {
    let world = MediatorWorld::with(Setup {
        capacity: Capacity {
            drain: Duration::from_millis(100),
            ..Capacity::default()
        },
        ..Setup::default()
    });
    let port = echo().await.port();
    let mut open = world.tunnel(&format!("allowed.test:{port}")).await;
    open.write_all(&hello("allowed.test")).await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), 0x16);
    let silent = world.tunnel(&format!("allowed.test:{port}")).await;
    let hanging = origin(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        Ok(())
    })
    .await;
    let mut waiting = world.dial().await;
    let request = format!(
        "GET http://allowed.test:{}/ HTTP/1.1\r\nHost: a\r\n\r\n",
        hanging.port()
    );
    waiting.write_all(request.as_bytes()).await.unwrap();
    while world.evidence().actions().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let evidence = world.stop().await;
    let story = evidence.story();
    assert_eq!(
        story.iter().filter(|line| *line == "allow intent").count(),
        3
    );
    let ended = story
        .iter()
        .filter(|line| line.ends_with("reason=shutdown"))
        .count();
    assert_eq!(ended, 3, "{story:?}");
    let kinds: Vec<&str> = evidence.entries[evidence.entries.len() - 3..]
        .iter()
        .map(|entry| entry["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["action_receipt", "transcript_root", "checkpoint"]);
    drop((open, silent, waiting));
}

/// Claims: collect-mediator*
#[tokio::test]
async fn an_idle_session_has_open_heartbeats_and_close() {
    let world = MediatorWorld::with(Setup {
        heartbeat: Duration::from_millis(200),
        posture: Posture {
            capsule_sha256: "11".repeat(32),
            signer_key_id: "22".repeat(32),
            containment_nonce: "33".repeat(64),
            contained_uid: String::from("64001"),
        },
        ..Setup::default()
    });
    while world.evidence().receipts.len() < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let evidence = world.stop().await;
    let kinds: Vec<&str> = evidence
        .receipts
        .iter()
        .map(|receipt| receipt.record["session_control"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[0], "session_open");
    assert_eq!(*kinds.last().unwrap(), "session_close");
    assert!(
        kinds[1..kinds.len() - 1]
            .iter()
            .all(|kind| *kind == "heartbeat")
    );
    let open = &evidence.receipts[0].record["session_control"]["open"];
    assert_eq!(open["posture_capsule_sha256"], "11".repeat(32).as_str());
    assert_eq!(open["contained_uid"], "64001");
    let close = &evidence.receipts.last().unwrap().record["session_control"]["close"];
    assert_eq!(close["close_reason"], "graceful_shutdown");
}

/// Claims: who-writes
#[tokio::test]
async fn files_are_private_and_rotate_when_asked_to() {
    use std::os::unix::fs::PermissionsExt;
    let world = MediatorWorld::with(Setup {
        policy: String::from(
            "flight_recorder: {max_entries_per_file: 5, checkpoint_interval: 4}\n",
        ),
        ..Setup::default()
    });
    for _ in 0..12 {
        world.get("http://denied.test/").await;
    }
    let directory = world.evidence_dir();
    let files = world.evidence().files;
    for file in &files {
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(files.len() >= 3, "{files:?}");
    assert_eq!(
        files[0],
        directory.join(format!("evidence-proxy.run.{}-0.jsonl", "ab".repeat(16)))
    );
    let evidence = world.stop().await;
    assert_eq!(evidence.actions().len(), 12);
    let checkpoints = evidence
        .entries
        .iter()
        .filter(|entry| entry["type"] == "checkpoint");
    assert!(checkpoints.count() >= 3);
}
