//! Tests `--timestamp-url` with honest and faulty authorities, and `egress verify --timestamp-ca` with their tokens.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test whose authority cannot be made has failed"
)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use egress_test_support::time_stamps::{Authority, ROOT, TIME_STAMPING, request, tlv, token};
use egress_tests::evidence::verify;
use egress_tests::{Output, RunOutput, World};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Bytes that `/huge` sends if the client reads all of them.
const GIGABYTE: u64 = 1 << 30;

/// A time stamp authority that serves HTTP. The path of a request selects the answer.
struct Service {
    authority: Arc<Authority>,
    url: String,
    /// Bytes that `/huge` has sent.
    sent: Arc<Mutex<u64>>,
}

impl Service {
    fn start(world: &World, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let dir = world
            .dir()
            .join(if tls.is_some() { "tls" } else { "authority" });
        let authority = Arc::new(Authority::new(&dir));
        authority.certificate("other", "P-256", ROOT, None);
        let listener = world
            .on_runner(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("listen on the runner");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let sent = Arc::new(Mutex::new(0));
        let (of_thread, counted) = (Arc::clone(&authority), Arc::clone(&sent));
        thread::spawn(move || {
            let mut first = None;
            for stream in listener.incoming().flatten() {
                let (authority, sent) = (&of_thread, &counted);
                // The client may close its connection at any time.
                drop(match &tls {
                    None => answer(stream, authority, &mut first, sent),
                    Some(config) => rustls::ServerConnection::new(Arc::clone(config))
                        .map_err(std::io::Error::other)
                        .and_then(|connection| {
                            let stream = rustls::StreamOwned::new(connection, stream);
                            answer(stream, authority, &mut first, sent)
                        }),
                });
            }
        });
        Self {
            authority,
            url: format!("{scheme}://localhost:{port}"),
            sent,
        }
    }

    fn pem(&self, name: &str) -> PathBuf {
        self.authority.pem(name)
    }
}

/// Reads one request, and sends the answer that its path selects.
fn answer(
    mut stream: impl Read + Write,
    authority: &Authority,
    first: &mut Option<Vec<u8>>,
    sent: &Mutex<u64>,
) -> std::io::Result<()> {
    let (head, query) = request(&mut stream)?;
    assert!(
        head.contains("content-type: application/timestamp-query\r\n"),
        "{head}"
    );
    let path = head
        .strip_prefix("post /")
        .and_then(|rest| rest.split(' ').next());
    let granted = || authority.answer(&query, "signer", "sha256", "ess_cert_id_alg=sha1");
    let body = match path.unwrap_or_default() {
        "grant" => granted(),
        "replay" => first.get_or_insert_with(granted).clone(),
        "refuse" => tlv(
            0x30,
            &[&tlv(
                0x30,
                &[&[2, 1, 2], &tlv(0x30, &[&tlv(12, &[b"out of time"])])],
            )],
        ),
        "page" => b"<html>granted</html>".to_vec(),
        "500" => return respond(&mut stream, "500 Oops", &granted()),
        "redirect" => return respond(&mut stream, "307 Elsewhere\r\nLocation: /grant", &[]),
        "hang" => {
            // Waits until the client closes the connection.
            return stream.read_exact(&mut [0]);
        }
        "trickle" => {
            for byte in respond_head("200 OK", 1000).bytes().chain([0; 1000]) {
                stream.write_all(&[byte])?;
                stream.flush()?;
                thread::sleep(Duration::from_millis(200));
            }
            return Ok(());
        }
        "huge" => {
            let length = usize::try_from(GIGABYTE).expect("64 bits");
            stream.write_all(respond_head("200 OK", length).as_bytes())?;
            let piece = vec![0x30; 1 << 16];
            for _ in 0..GIGABYTE >> 16 {
                stream.write_all(&piece)?;
                *sent.lock().expect("a counter") += 1 << 16;
            }
            return Ok(());
        }
        _ => return respond(&mut stream, "404 None", &[]),
    };
    respond(&mut stream, "200 OK", &body)
}

fn respond_head(status: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

fn respond(stream: &mut (impl Read + Write), status: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(respond_head(status, body.len()).as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}

/// A world with keys for a run.
struct Keys {
    world: World,
    key: PathBuf,
    boundary: PathBuf,
}

impl Keys {
    fn new() -> Self {
        let world = World::new();
        let (key, boundary) = (world.key("key"), world.key("boundary"));
        Self {
            world,
            key,
            boundary,
        }
    }

    fn run(&self, url: &str, ca: Option<&Path>, script: &str) -> RunOutput {
        let mut run = self
            .world
            .egress()
            .allow(&[])
            .signed_with(&self.key)
            .arg("--boundary-key")
            .arg(&self.boundary)
            .arg("--timestamp-url")
            .arg(url);
        if let Some(ca) = ca {
            run = run.arg("--timestamp-ca").arg(ca);
        }
        run.script(script).run()
    }

    fn verify(&self, packet: &Path, more: &[&OsStr]) -> Output {
        let (key, boundary) = (public(&self.key), public(&self.boundary));
        let mut args = vec![packet.as_os_str(), "--key".as_ref(), &key];
        args.extend(["--boundary-key".as_ref(), boundary.as_os_str()]);
        args.extend(["--require-grade", "kernel_enforced"].map(OsStr::new));
        args.extend(more);
        verify(&args)
    }

    /// Runs `egress verify --timestamp-ca`, and returns its exit status and the rules that the packet breaks.
    fn rules(&self, packet: &Path, ca: &Path) -> (Option<i32>, Vec<String>) {
        let more: [&OsStr; 3] = ["--json".as_ref(), "--timestamp-ca".as_ref(), ca.as_os_str()];
        let output = self.verify(packet, &more);
        let result: Value = serde_json::from_str(&output.stdout).expect("one JSON object");
        let findings = result["findings"].as_array().expect("findings");
        let rules = findings
            .iter()
            .map(|finding| finding["rule"].as_str().unwrap_or("").to_owned());
        (output.status, rules.collect())
    }
}

fn public(key: &Path) -> OsString {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    public
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

fn written(time: time::OffsetDateTime) -> String {
    let text = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
    time.format(text).expect("a time")
}

/// Claims: run-stamped
#[test]
fn a_run_is_stamped_or_fails_with_its_packet_kept() {
    let keys = Keys::new();
    let service = Service::start(&keys.world, None);
    let url = |path: &str| format!("{}/{path}", service.url);
    let root = service.pem("root");
    for ca in [Some(root.as_path()), None] {
        let run = keys.run(&url("grant"), ca, "exit 7");
        assert_eq!(run.status, Some(7), "{run}");
        assert!(
            run.stderr.contains("egress: stamped   20") && run.stderr.contains("CN=signer"),
            "{run}"
        );
        let file = run.packet.join("timestamp.tsr");
        assert!(service.authority.openssl_accepts(
            &run.packet.join("attestation.json"),
            &file,
            "root"
        ));
        assert_eq!(keys.rules(&run.packet, &root), (Some(0), vec![]), "{run}");
    }
    // This first request shows that the reply is valid before it is replayed.
    let run = keys.run(&url("replay"), Some(&root), "true");
    assert_eq!(run.status, Some(0), "{run}");
    let other = service.pem("other");
    for (path, ca, words) in [
        (
            "grant",
            &other,
            "does not chain to a root of --timestamp-ca",
        ),
        ("replay", &root, "time stamp belongs to another attestation"),
        ("refuse", &root, "out of time"),
        ("page", &root, "not a valid RFC 3161 reply"),
        ("500", &root, "http status: 500"),
        ("redirect", &root, "redirect"),
        ("huge", &root, "65536"),
        ("hang", &root, "timeout"),
        ("trickle", &root, "timeout"),
    ] {
        let run = keys.run(&url(path), Some(ca), "exit 7");
        assert_eq!(run.status, Some(123), "{path}: {run}");
        assert!(
            run.stderr.contains("no time stamp") && run.stderr.contains(words),
            "{path}: {run}"
        );
        assert!(run.elapsed < Duration::from_secs(25), "{path}: {run}");
        assert!(!run.packet.join("timestamp.tsr").exists(), "{path}");
        // The packet is complete, but it lacks the requested time stamp.
        assert_eq!(
            keys.verify(&run.packet, &[]).status,
            Some(0),
            "{path}: {run}"
        );
        assert_eq!(
            keys.rules(&run.packet, &root),
            (Some(1), vec!["timestamp.none".to_owned()]),
            "{path}"
        );
    }
    let sent = *service.sent.lock().expect("a counter");
    assert!((1..GIGABYTE >> 4).contains(&sent), "{sent} bytes were read");
    // Nothing listens at this address.
    let run = keys.run("http://localhost:9/", None, "true");
    assert_eq!(run.status, Some(123), "{run}");
}

#[test]
fn tls_is_checked_under_the_roots_of_the_system() {
    let keys = Keys::new();
    let [certificate, key] = keys.world.certificate("localhost");
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a server");
    let service = Service::start(&keys.world, Some(Arc::new(config)));
    let url = format!("{}/grant", service.url);
    let root = service.pem("root");
    let run = keys.run(&url, Some(&root), "true");
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(keys.rules(&run.packet, &root), (Some(0), vec![]), "{run}");
    // The certificate has another host name.
    let run = keys.run(&url.replace("localhost", "127.0.0.1"), Some(&root), "true");
    assert_eq!(run.status, Some(123), "{run}");
    assert!(
        run.stderr.contains("certificate not valid for name"),
        "{run}"
    );
}

/// Returns a token over the attestation of a packet, signed by `signer`, with any time.
fn forged(
    authority: &Authority,
    packet: &Path,
    time: time::OffsetDateTime,
    signer: &str,
) -> Vec<u8> {
    let attestation = fs::read(packet.join("attestation.json")).expect("the attestation");
    let token = token(&Sha256::digest(attestation), &written(time), &[1; 8]);
    authority.sign(&token, signer, &["-cades", "-md", "sha256"])
}

/// Claims: compare-timestamp, crate-timestamp
#[test]
fn a_token_holds_for_its_packet_its_authority_and_its_time() {
    let keys = Keys::new();
    let service = Service::start(&keys.world, None);
    let url = format!("{}/grant", service.url);
    let (root, authority) = (service.pem("root"), &service.authority);
    authority.certificate(
        "lax",
        "P-256",
        "extendedKeyUsage=timeStamping",
        Some("root"),
    );
    authority.certificate("again", "P-256", TIME_STAMPING, Some("root"));
    let run = keys.run(&url, Some(&root), "true");
    let other = keys.run(&url, Some(&root), "true");
    assert_eq!((run.status, other.status), (Some(0), Some(0)), "{run}");
    let file = run.packet.join("timestamp.tsr");
    let own = fs::read(&file).expect("the token");
    let others = fs::read(other.packet.join("timestamp.tsr")).expect("the token");
    let at = |time, signer: &str| forged(authority, &run.packet, time, signer);
    let mut tampered = own.clone();
    let attestation = fs::read(run.packet.join("attestation.json")).expect("the attestation");
    let digest = Sha256::digest(attestation);
    let mut places = own.windows(32);
    let place = places
        .position(|part| part == digest.as_slice())
        .expect("the imprint");
    // In the token, the serial number follows the message imprint.
    tampered[place + 34] ^= 1;
    let too_long = [own.as_slice(), &vec![0; 1 << 17]].concat();
    let later = now() + time::Duration::hours(1);
    let expired = now() + time::Duration::days(11);
    let stranger = service.pem("other");
    let cases: [(_, &Path, &[&str]); 10] = [
        (Some(own.clone()), &root, &[]),
        (Some(at(now(), "again")), &root, &[]),
        (Some(own), &stranger, &["timestamp.chain"]),
        (Some(tampered), &root, &["timestamp.signature"]),
        (Some(others), &root, &["timestamp.imprint"]),
        (Some(at(expired, "again")), &root, &["timestamp.chain"]),
        (Some(at(now(), "lax")), &root, &["timestamp.signer"]),
        (Some(at(later, "again")), &root, &["timestamp.time"]),
        (Some(too_long), &root, &["timestamp.form"]),
        (None, &root, &["timestamp.none"]),
    ];
    for (token, ca, expected) in cases {
        match token {
            Some(token) => fs::write(&file, token).expect("write the token"),
            None => fs::remove_file(&file).expect("remove the token"),
        }
        let (status, rules) = keys.rules(&run.packet, ca);
        assert_eq!(rules, expected);
        assert_eq!(
            status,
            Some(i32::from(!expected.is_empty())),
            "{expected:?}"
        );
        // A verification that does not require a time stamp ignores the token, because nothing in the packet refers to
        // it.
        assert_eq!(
            keys.verify(&run.packet, &[]).status,
            Some(0),
            "{expected:?}"
        );
    }
}

#[test]
fn the_time_is_printed_and_the_age_counts_from_it() {
    let keys = Keys::new();
    let service = Service::start(&keys.world, None);
    let root = service.pem("root");
    let run = keys.run(&format!("{}/grant", service.url), Some(&root), "true");
    assert_eq!(run.status, Some(0), "{run}");
    let ca: [&OsStr; 2] = ["--timestamp-ca".as_ref(), root.as_os_str()];
    let verified = keys.verify(&run.packet, &ca);
    let by = "by CN=signer,O=Test";
    assert!(verified.stdout.contains("\nstamped:     20"), "{verified}");
    assert!(verified.stdout.contains(&format!("{by}\n")), "{verified}");
    let unverified = keys.verify(&run.packet, &[]);
    let note = format!("{by} (unverified, because --timestamp-ca is not given)");
    assert!(unverified.stdout.contains(&note), "{unverified}");

    // The time of this stamp is five minutes after the time of the packet. This difference is within the tolerance for
    // clocks.
    let later = now() + time::Duration::minutes(5);
    let token = forged(&service.authority, &run.packet, later, "signer");
    fs::write(run.packet.join("timestamp.tsr"), token).expect("write the token");
    thread::sleep(Duration::from_millis(1500));
    let age = ["--max-age", "1s"].map(OsStr::new);
    assert_eq!(keys.verify(&run.packet, &age).status, Some(1));
    let both = [ca, age].concat();
    assert_eq!(keys.verify(&run.packet, &both).status, Some(0));
}

#[test]
fn wrong_arguments_are_named_before_anything_runs() {
    let keys = Keys::new();
    let authority = Authority::new(&keys.world.dir().join("authority"));
    let root = authority.pem("root");
    let run = |arguments: &[&OsStr]| {
        let mut run = keys.world.egress().allow(&[]);
        for argument in arguments {
            run = run.arg(argument);
        }
        run.script("true").run()
    };
    let (url, ca) = (OsStr::new("--timestamp-url"), OsStr::new("--timestamp-ca"));
    let http = OsStr::new("http://localhost:9/");
    // These arguments are valid, but nothing answers at this address.
    assert_eq!(run(&[url, http, ca, root.as_os_str()]).status, Some(123));
    let key = keys.key.as_os_str();
    for (arguments, words) in [
        (vec![ca, root.as_os_str()], "--timestamp-url"),
        (
            vec![url, OsStr::new("ftp://localhost/")],
            "http:// or https://",
        ),
        (
            vec![url, OsStr::new("http://a:b@localhost/")],
            "credentials",
        ),
        (vec![url, http, ca, key], "no certificate in PEM form"),
        (
            vec![url, http, ca, OsStr::new("/nowhere")],
            "cannot read --timestamp-ca /nowhere",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status, Some(64), "{arguments:?}: {output}");
        assert!(output.stderr.contains(words), "{arguments:?}: {output}");
    }
    // A packet without a time stamp replaces a packet that has one.
    let service = Service::start(&keys.world, None);
    let packet = keys.world.dir().join("twice");
    let grant = format!("{}/grant", service.url);
    for (arguments, is_stamped) in [
        (vec!["--timestamp-url", grant.as_str()], true),
        (vec![], false),
    ] {
        let mut run = keys.world.egress().allow(&[]).packet_dir(&packet);
        for argument in arguments {
            run = run.arg(argument);
        }
        let run = run.script("true").run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(packet.join("timestamp.tsr").exists(), is_stamped, "{run}");
    }
}
