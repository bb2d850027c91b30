//! Small clients that are the same inside and outside the boundary.
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::turns::take_turns;
use crate::{Result, monotonic, text};

/// Longest wait for a peer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn main(args: &[&str]) -> Result<()> {
    match args {
        // The clock is read before anything else.
        ["stamp"] => println!("{}", monotonic()?.as_nanos()),
        ["turns"] => take_turns(work)?,
        ["work", words @ ..] => println!("{}", work(&words.join(" "))?.as_nanos()),
        _ => return Err("no such agent".to_owned()),
    }
    Ok(())
}

/// Does one piece of work and returns its time:
///
/// - `connect N` opens and closes N connections to its own listener.
/// - `bulk N [PROXY]` receives one answer of N bytes.
/// - `short N [PROXY]` sends N requests, each on its own connection.
fn work(words: &str) -> Result<Duration> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let (kind, count, proxy) = match words.as_slice() {
        [kind, count] => (*kind, count, None),
        [kind, count, proxy] => (*kind, count, Some(*proxy)),
        _ => return Err("no such work".to_owned()),
    };
    let count: u64 = count.parse().map_err(text)?;
    match kind {
        "connect" => connect(count),
        "bulk" => {
            let started = Instant::now();
            let body = get(&format!("/bytes/{count}"), proxy)?;
            if body != count {
                return Err(format!("{body} bytes came instead of {count}"));
            }
            Ok(started.elapsed())
        }
        "short" => {
            let started = Instant::now();
            for _ in 0..count {
                get("/", proxy)?;
            }
            Ok(started.elapsed())
        }
        other => Err(format!("unknown work: {other}")),
    }
}

fn connect(count: u64) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let server = thread::spawn(move || {
        for _ in 0..count {
            drop(listener.accept());
        }
    });
    let started = Instant::now();
    for _ in 0..count {
        let stream = TcpStream::connect(address).map_err(text)?;
        drop(stream);
    }
    let took = started.elapsed();
    drop(server.join());
    Ok(took)
}

/// Requests a path of `allowed.test`, and returns the length of the body.
fn get(path: &str, proxy: Option<&str>) -> Result<u64> {
    let server = proxy.unwrap_or("allowed.test:80");
    let address = server
        .to_socket_addrs()
        .map_err(text)?
        .find(SocketAddr::is_ipv4)
        .ok_or("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let target = match proxy {
        Some(_) => format!("http://allowed.test{path}"),
        None => path.to_owned(),
    };
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;

    let mut buffer = vec![0; 256 << 10];
    let mut head = Vec::new();
    let mut body = 0;
    let mut in_body = false;
    loop {
        let length = stream.read(&mut buffer).map_err(text)?;
        if length == 0 {
            return Ok(body);
        }
        if in_body {
            body += length as u64;
            continue;
        }
        head.extend(buffer.get(..length).unwrap_or_default());
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(&head).into_owned());
            }
            body = (head.len() - end - 4) as u64;
            in_body = true;
        }
    }
}
