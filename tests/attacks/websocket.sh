# A WebSocket to a host that is not allowed.
# stops: relay mediator
# seen: source=relay
# oracle: request
# allow: allowed.test
# cases: absolute tunnel fronted
attempt() {
    python "$1" <<'EOP'
get = b'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' \
    b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
frame = b'\x81\x84' + bytes(4) + b'ping'
if case == 'absolute':
    talk(('198.51.100.20', 80), get % (b'/ws', b'denied.test'), frame)
    for scheme in b'http', b'ws': talk(proxy, get % (scheme + b'://denied.test/ws', b'denied.test'), frame)
elif case == 'tunnel':
    talk(proxy, b'CONNECT denied.test:80 HTTP/1.1\r\nHost: denied.test:80\r\n\r\n', get % (b'/ws', b'denied.test'), frame)
elif case == 'fronted':
    talk(proxy, b'CONNECT allowed.test:80 HTTP/1.1\r\nHost: allowed.test:80\r\n\r\n', get % (b'/ws', b'denied.test'), frame)
    talk(('allowed.test', 80), get % (b'/ws', b'denied.test'), frame)
EOP
}
control() { attempt absolute; }
