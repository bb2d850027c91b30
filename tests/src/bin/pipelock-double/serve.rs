//! The two listeners of the stand-in.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::Fault;
use crate::ledger::Ledger;

/// State that a connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) fault: Fault,
    pub(crate) ledger: Arc<Ledger>,
}

/// Serves the connections to an address until the process ends.
pub(crate) fn listen(address: &str, is_proxy: bool, server: &Server) -> Result<(), String> {
    let listener =
        TcpListener::bind(address).map_err(|error| format!("listen at {address}: {error}"))?;
    let server = server.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = server.clone();
            thread::spawn(move || {
                // A client may close its connection at any time.
                drop(server.serve(stream, is_proxy));
            });
        }
    });
    Ok(())
}

impl Server {
    fn serve(&self, mut stream: TcpStream, is_proxy: bool) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.extend(byte);
        }
        if self.fault == Fault::Garbage {
            return stream.write_all(b"220 mail.test ESMTP\r\n");
        }
        let head = String::from_utf8_lossy(&head);
        let target = head.split(' ').nth(1).unwrap_or_default();
        match (is_proxy, target) {
            (true, "/health") => answer(&mut stream, &self.health()),
            (true, target) if target.starts_with("http://") => self.forward(&mut stream, target),
            (false, "/metrics") => {
                let open = u8::from(self.fault == Fault::OpenTunnel);
                answer(&mut stream, &format!("pipelock_active_tunnels {open}\n"))
            }
            (false, "/stats") => {
                let failures = match self.fault {
                    Fault::EmitFailures => r#"[{"surface":"connect","count":2}]"#,
                    _ => "[]",
                };
                let receipts = format!(r#"{{"emit_failures":{failures},"required_blocks":[]}}"#);
                answer(&mut stream, &format!(r#"{{"receipts":{receipts}}}"#))
            }
            _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        }
    }

    fn health(&self) -> String {
        let status = match self.fault {
            Fault::Unhealthy => "degraded",
            _ => "healthy",
        };
        let kill_switch = self.fault == Fault::KillSwitch;
        format!(
            r#"{{"status":"{status}","forward_proxy_enabled":true,"kill_switch_active":{kill_switch}}}"#
        )
    }

    fn forward(&self, stream: &mut TcpStream, target: &str) -> std::io::Result<()> {
        match self.fault {
            Fault::CrashAtRequest => std::process::abort(),
            Fault::EndlessRequest => {
                thread::sleep(Duration::from_mins(10));
                Ok(())
            }
            Fault::NoReceipts => answer(stream, "without receipt\n"),
            Fault::LateReceipts => {
                let mut done = Ok(());
                let recorded = self.ledger.allow(target, || {
                    done = answer(stream, "late\n");
                    thread::sleep(Duration::from_millis(300));
                });
                recorded.map_err(std::io::Error::other)?;
                done
            }
            _ => {
                let recorded = self.ledger.allow(target, || {});
                recorded.map_err(std::io::Error::other)?;
                answer(stream, "double\n")
            }
        }
    }
}

fn answer(stream: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
