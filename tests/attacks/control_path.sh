# The mediator's own endpoints, which answer every client of its port.
# claims: control-paths
# stops: relay
# seen: source=relay
# oracle: call
# allow: allowed.test 127.0.0.1 localhost
# cases: direct absolute tunnel
attempt() {
    python "$1" <<'EOP'
paths = [b'/health', b'//health', b'/./health', b'/x/../health', b'/%68ealth', b'/health/', b'/health?x', b'/health#x',
    b'/HEALTH', b'\\health', b'*', b'/metrics', b'/stats', b'/fetch?url=http://denied.test/',
    b'/ws?url=ws://denied.test/', b'/api/v1/killswitch', b'http:///health', b'http:/health', b'https:/health', b'http:health', b'health']
get = b'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n'
answers = []
for path in paths:
    for host in b'127.0.0.1', b'127.0.0.1:3128', b'localhost', b'', b'allowed.test':
        if case == 'direct': answers.append(talk(proxy, get % (path, host)))
        elif case == 'absolute' and path[:1] == b'/': answers.append(talk(proxy, get % (b'http://' + host + path, host)))
        if case == 'absolute': answers.append(talk(('allowed.test', 80), get % (path, host)))
if case == 'tunnel':
    for target in b'127.0.0.1:3128', b'localhost:80', b'127.0.0.1:80', b'/health', b'/health:443', b'http://127.0.0.1/health':
        answers.append(talk(proxy, b'CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n' % (target, target), get % (b'/health', b'127.0.0.1')))
told = [answer for answer in answers if b'uptime_seconds' in answer or b'pipelock_' in answer]
sys.exit(not told)
EOP
}
control() {
    # This endpoint answers every client.
    python > /dev/null 2>&1 <<'EOP' &
s = socket.create_server(('127.0.0.1', 3128), backlog=100)
s.settimeout(2)
while True:
    c = s.accept()[0]
    c.settimeout(0.5)
    try:
        if c.recv(65536).startswith(b'CONNECT'): c.sendall(b'HTTP/1.1 200 OK\r\n\r\n'); c.recv(65536)
        c.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"uptime_seconds":1}')
    except OSError: pass
    c.close()
EOP
    sleep 0.5
    [ "$1" = tunnel ] && attempt tunnel || attempt direct
}
