# HTTP/2 without TLS, which neither the relay nor the mediator can read.
# claims: http2-offers
# stops: relay
# seen: source=relay verdict=refused
# oracle: canary
# allow: runner.test
# open: 203.0.113.2/32
# options: --allow-port 6099
# cases: preface upgrade
serve() {
    python <<EOP
def connection(s):
    data = b''
    s.settimeout(1)
    try:
        while piece := s.recv(65536):
            data += piece
            if data.startswith(b'PRI *') or b'h2c' in data.lower(): open('$WITNESS', 'ab').write(data)
            s.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    except OSError: pass
listener = socket.create_server(('203.0.113.2', 6099))
open('$DIR/ready', 'w').close()
while True: threading.Thread(target=connection, args=[listener.accept()[0]], daemon=True).start()
EOP
}
attempt() {
    python "$1" <<'EOP'
settings = b'\0\0\0\4\0\0\0\0\0'
first = {
    'preface': b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + settings,
    'upgrade': b'GET / HTTP/1.1\r\nHost: runner.test:6099\r\nConnection: Upgrade, HTTP2-Settings\r\n'
        b'Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
}[case]
talk(('runner.test', 6099), first)
talk(proxy, first.replace(b'GET /', b'GET http://runner.test:6099/'))
talk(proxy, b'CONNECT runner.test:6099 HTTP/1.1\r\nHost: runner.test:6099\r\n\r\n', first)
EOP
}
