# An encrypted `ClientHello` inside the `ClientHello`. The inner one names another host behind the server of an allowed
# name, and neither the relay nor the mediator can read it.
# claims: encrypted-hello
# stops: relay
# seen: source=relay verdict=refused
# oracle: canary
# allow: runner.test
# open: 203.0.113.2/32
# options: --allow-port 6099
serve() {
    python <<EOP
listener = socket.create_server(('203.0.113.2', 6099))
open('$DIR/ready', 'w').close()
while True:
    s = listener.accept()[0]
    s.settimeout(2)
    try:
        if b'\xfe\x0d' in s.recv(65536): open('$WITNESS', 'ab').write(b'x')
    except OSError: pass
    s.close()
EOP
}
attempt() {
    python <<'EOP'
import ssl
out = ssl.MemoryBIO()
tls = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname='runner.test')
try: tls.do_handshake()
except ssl.SSLWantReadError: pass
hello = bytearray(out.read())
# Record, handshake, version and random; session, cipher suites, compression methods; extensions.
at = 5 + 4 + 34
at += 1 + hello[at]
at += 2 + int.from_bytes(hello[at:at + 2], 'big')
at += 1 + hello[at]
inner = b'\x00\x00\x01\x00\x01\x07\x00\x20' + bytes(range(32)) + b'\x00\x80' + bytes(128)
inner = b'\xfe\x0d' + struct.pack('!H', len(inner)) + inner
for length in 3, 7, at: hello[length:length + 2] = struct.pack('!H', int.from_bytes(hello[length:length + 2], 'big') + len(inner))
hello[at + 2:at + 2] = inner
talk(('runner.test', 6099), bytes(hello))
talk(proxy, b'CONNECT runner.test:6099 HTTP/1.1\r\nHost: runner.test:6099\r\n\r\n', bytes(hello))
EOP
}
