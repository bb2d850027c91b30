# A request for another host behind the server of an allowed name, sent in place of WebSocket frames. The bytes of the
# request have no mask, so a server that does not implement WebSocket reads them as HTTP.
# claims: websocket-frames
# stops: relay
# seen: source=relay protocol=websocket verdict=unfinished reason=unmasked_frame
# oracle: canary
# allow: runner.test
# open: 203.0.113.2/32
# options: --allow-port 6099
serve() {
    python <<EOP
def connection(s):
    data = b''
    s.settimeout(2)
    try:
        while b'\r\n\r\n' not in data: data += s.recv(65536)
        s.sendall(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
        if b'\nHost: denied.test' in s.recv(65536): open('$WITNESS', 'ab').write(b'x')
    except OSError: pass
listener = socket.create_server(('203.0.113.2', 6099))
open('$DIR/ready', 'w').close()
while True: threading.Thread(target=connection, args=[listener.accept()[0]], daemon=True).start()
EOP
}
attempt() {
    python <<'EOP'
shake = b'Host: runner.test:6099\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' \
    b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
# Read as a WebSocket frame, "GE" is the header of 69 bytes of payload.
evil = (b'GET /evil HTTP/1.1\r\nHost: denied.test\r\nX: ' + b'x' * 71)[:67] + b'\r\n\r\n'
talk(('runner.test', 6099), b'GET / HTTP/1.1\r\n' + shake, evil)
talk(proxy, b'GET http://runner.test:6099/ HTTP/1.1\r\n' + shake, evil)
EOP
}
