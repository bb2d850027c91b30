//! A TLS 1.3 handshake with a `HelloRetryRequest`, and a client that names another server in its second `ClientHello`.
use std::fs;
use std::time::Duration;

use crate::command::Running;
use crate::processes::wait_until;
use crate::world::World;

/// The port of the server, at every address of the world's servers.
pub const PORT: u16 = 9443;

/// A server that accepts only P-256. The client offers P-256 without a key share, so the server requests a second
/// `ClientHello`. The server records the name in each `ClientHello`, and answers with these names.
const SERVER: &str = "
import os, socket, ssl, sys, threading
certificate, key, log, port = sys.argv[1:]
names = open(log, 'a', buffering=1)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(certificate, key)
context.set_ecdh_curve('prime256v1')
def serve(plain):
    seen = []
    def note(stream, name, context):
        seen.append(name or '-')
        names.write((name or '-') + '\\n')
    context.sni_callback = note
    try:
        stream = context.wrap_socket(plain, server_side=True)
        stream.recv(4096)
        stream.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nnames: ' + ' '.join(seen).encode())
        stream.unwrap()
    except OSError: pass
    plain.close()
listener = socket.create_server(('::', int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
names.write('ready\\n')
while True: serve(listener.accept()[0])
";

/// A client that offers X25519 with a key share, and P-256 without one. The client changes the name before the second
/// `ClientHello`.
const CLIENT: &str = r"
import ctypes, ctypes.util, os, socket, sys
first, second, proxy, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
tls, crypto = ctypes.CDLL('libssl.so.3'), ctypes.CDLL('libcrypto.so.3')
def function(library, name, *arguments):
    found = getattr(library, name)
    found.restype = ctypes.c_void_p if name in ('TLS_client_method', 'SSL_CTX_new', 'SSL_new', 'BIO_s_mem', 'BIO_new') else ctypes.c_long
    found.argtypes = arguments
    return found
p, i, b = ctypes.c_void_p, ctypes.c_long, ctypes.c_char_p
context = function(tls, 'SSL_CTX_new', p)(function(tls, 'TLS_client_method')())
assert function(tls, 'SSL_CTX_ctrl', p, ctypes.c_int, i, b)(context, 92, 0, b'X25519:P-256') == 1
ssl = function(tls, 'SSL_new', p)(context)
memory = function(crypto, 'BIO_s_mem')()
new = function(crypto, 'BIO_new', p)
incoming, outgoing = new(memory), new(memory)
tls.SSL_set_bio.argtypes = (p, p, p)
tls.SSL_set_bio(ssl, incoming, outgoing)
tls.SSL_set_connect_state.argtypes = (p,)
tls.SSL_set_connect_state(ssl)
control = function(tls, 'SSL_ctrl', p, ctypes.c_int, i, b)
read, write = function(crypto, 'BIO_read', p, b, ctypes.c_int), function(crypto, 'BIO_write', p, b, ctypes.c_int)
handshake = function(tls, 'SSL_do_handshake', p)
tls_read, tls_write = function(tls, 'SSL_read', p, b, ctypes.c_int), function(tls, 'SSL_write', p, b, ctypes.c_int)
def name(text): assert control(ssl, 55, 0, text.encode()) == 1
def flight():
    room = ctypes.create_string_buffer(65536)
    length = ctypes.c_int(read(outgoing, room, 65536)).value
    return room.raw[:max(length, 0)]
stream = socket.create_connection(('127.0.0.1', 3128) if proxy == 'proxy' else (first, port), 10)
stream.settimeout(5)
if proxy == 'proxy':
    stream.sendall(b'CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n' % (first.encode(), port, first.encode(), port))
    assert b' 200 ' in stream.recv(4096)
name(first)
flights = 0
while True:
    done = ctypes.c_int(handshake(ssl)).value
    out = flight()
    if out:
        flights += 1
        stream.sendall(out)
    if done == 1: break
    got = stream.recv(65536)
    if not got or got[0] == 21:
        print('flights', flights, 'alert', list(got))
        sys.exit(1)
    write(incoming, got, len(got))
    if flights == 1: name(second)
request = b'GET / HTTP/1.1\r\nHost: %s\r\n\r\n' % second.encode()
tls_write(ssl, request, len(request))
stream.sendall(flight())
while True:
    room = ctypes.create_string_buffer(65536)
    length = ctypes.c_int(tls_read(ssl, room, 65536)).value
    if length > 0 and b'names:' in room.raw[:length]:
        print('flights', flights, room.raw[:length].split(b'\r\n\r\n')[-1].decode())
        break
    got = stream.recv(65536)
    if not got: sys.exit('the server has closed')
    write(incoming, got, len(got))
";

/// A server that requests a second `ClientHello`.
#[derive(Debug)]
pub struct RetryServer<'w> {
    world: &'w World,
    _running: Running,
}

impl<'w> RetryServer<'w> {
    /// Starts the server in the namespace of the world's servers.
    ///
    /// # Panics
    /// Panics if the server does not start.
    pub fn start(world: &'w World) -> Self {
        let [certificate, key] = world.certificate("allowed.test");
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        let log = world.dir().join("names").display().to_string();
        let port = PORT.to_string();
        let argv = ["python3", "-c", SERVER, &certificate, &key, &log, &port];
        let server = Self {
            world,
            _running: world.peer(argv),
        };
        wait_until("the server listens", Duration::from_secs(20), || {
            server.log().starts_with("ready\n")
        });
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.dir().join("names")).unwrap_or_default()
    }

    /// Returns the names in all `ClientHello` messages, in the order in which they arrived.
    pub fn names(&self) -> Vec<String> {
        self.log().lines().skip(1).map(str::to_owned).collect()
    }
}

/// Returns a script that connects to `first` and puts `second` into the second `ClientHello`. `way` is `proxy` or
/// `direct`.
pub fn client(first: &str, second: &str, way: &str) -> String {
    format!("python3 - {first} {second} {way} {PORT} <<'PROGRAM'\n{CLIENT}\nPROGRAM\n")
}
