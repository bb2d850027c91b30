//! A workflow requests a time stamp, and a later job requires that the packet has one.
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use egress_test_support::time_stamps::{Authority, ROOT, request};
use egress_tests::workflow::Runner;

/// Starts a server that answers requests to `/grant` with a time stamp and all others with a page. Returns the URL of
/// the server.
fn serve(runner: &Runner, authority: Authority) -> String {
    let listener = runner
        .world
        .on_runner(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may close its connection at any time.
            drop(answer(stream, &authority));
        }
    });
    format!("http://localhost:{port}")
}

fn answer(mut stream: TcpStream, authority: &Authority) -> io::Result<()> {
    let (head, query) = request(&mut stream)?;
    let body = if head.starts_with("post /grant ") {
        authority.answer(&query, "signer", "sha256", "ess_cert_id_alg=sha1")
    } else {
        b"<html>granted</html>".to_vec()
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

#[test]
fn step_requests_a_time_stamp_and_a_later_job_requires_it() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    runner.write(".pipelock/ci.yaml", "mode: strict\napi_allowlist: []\n");
    let authority = Authority::new(&runner.path("authority"));
    authority.certificate("other", "P-256", ROOT, None);
    for name in ["root", "other"] {
        runner.write(
            &format!("{name}.pem"),
            &fs::read_to_string(authority.pem(name)).unwrap(),
        );
    }
    let url = serve(&runner, authority);
    let [grant, page] = ["grant", "page"].map(|path| format!("{url}/{path}"));
    let step = |url: &str, ca: &str| {
        runner.step(&[("KEY", &key), ("TIMESTAMP_URL", url), ("TIMESTAMP_CA", ca)])
    };
    let verify = |ca: &str| {
        let packet = runner.path("home/packet").display().to_string();
        let keys = format!("{key}.pub");
        let variables = [
            ("PACKET", packet.as_str()),
            ("KEYS", &keys),
            ("GRADE", "unpinned"),
            ("TIMESTAMP_CA", ca),
        ];
        runner.act("verify", None, &variables)
    };

    // Without the inputs, the packet has no time stamp, and a job that requires one fails.
    step("", "").assert_success();
    assert!(!runner.path("home/packet/timestamp.tsr").exists());
    verify("").assert_success();
    verify("root.pem").assert_one_error("does not pass verification");

    step(&grant, "root.pem").assert_success();
    assert!(runner.path("home/packet/timestamp.tsr").exists());
    verify("root.pem").assert_success();
    verify("other.pem").assert_one_error("does not pass verification");

    for (url, ca, wanted) in [
        (grant.as_str(), "other.pem", "the packet has no time stamp"),
        (&page, "root.pem", "the packet has no time stamp"),
        ("", "root.pem", "input timestamp-ca needs timestamp-url"),
        (&grant, "none.pem", "none.pem"),
    ] {
        step(url, ca).assert_one_error(wanted);
    }
}
