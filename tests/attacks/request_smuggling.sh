# A second request, hidden in the first one or directly after it, for a server that interprets header fields in every
# possible way.
# stops: relay
# seen: source=relay verdict=refused
# oracle: canary
# allow: runner.test
# open: 203.0.113.2/32
# options: --allow-port 6099
# cases: pipelined two_lengths length_list plus_length cl_te te_cl te_te te_other te_space te_folded bare_lf chunk_extension chunk_overflow trailer upgrade
serve() {
    python <<EOP
import re
def second(data, rest_of_first=True):
    # Whether any interpretation of the request names the other host.
    found = re.match(rb'\A(?:\r?\n)*(.*?\n)\r?\n', data, re.S)
    if not found: return False
    fields, rest, lengths, chunked = [], data[found.end():], set(), False
    for line in found[1].split(b'\n')[1:]:
        name, _, value = line.strip().partition(b':')
        name, value = name.strip().lower(), value.strip().lower()
        if name == b'host' and value == b'denied.test': return True
        if name == b'content-length': lengths |= {int(one) for one in value.split(b',')}
        if name == b'transfer-encoding' and b'chunked' in value: chunked = True
    if b'\nupgrade:' in found[0].lower(): lengths.add(0)
    ways = [rest[length:] for length in lengths or ([] if chunked else [0])]
    if chunked: ways += [way for end in (b'\n', b'\r\n') for way in chunks(rest, end)]
    return any(second(way) for way in ways)
def chunks(data, end):
    while True:
        line, mark, data = data.partition(end)
        size = re.match(rb'[0-9a-fA-F]+', line)
        if not (size and mark): return
        size = int(size[0], 16) % 2**64
        if size == 0: break
        data = data[size:].removeprefix(b'\r').removeprefix(b'\n')
    yield data.removeprefix(b'\r').removeprefix(b'\n')
    if b'\nhost: denied.test' in b'\n' + data.lower(): yield b'GET / HTTP/1.1\nHost: denied.test\n\n'
    yield data.partition(end + end)[2]
def connection(s):
    data = b''
    s.settimeout(0.2)
    while True:
        try: piece = s.recv(65536)
        except TimeoutError:
            if second(data): open('$WITNESS', 'ab').write(data)
            s.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'); s.settimeout(2)
            continue
        except OSError: return
        if not piece: break
        data += piece
        s.settimeout(0.2)
    if second(data): open('$WITNESS', 'ab').write(data)
listener = socket.create_server(('203.0.113.2', 6099))
open('$DIR/ready', 'w').close()
while True: threading.Thread(target=connection, args=[listener.accept()[0]], daemon=True).start()
EOP
}
attempt() {
    python "$1" <<'EOP'
evil = b'GET /evil HTTP/1.1\r\nHost: denied.test\r\n\r\n'
all, chunk = b'%d' % len(evil), b'%x\r\n' % len(evil)
rest = {
    'pipelined': b'Content-Length: 0\r\n\r\n' + evil,
    'two_lengths': b'Content-Length: 0\r\nContent-Length: ' + all + b'\r\n\r\n' + evil,
    'length_list': b'Content-Length: 0, ' + all + b'\r\n\r\n' + evil,
    'plus_length': b'Content-Length: +0\r\n\r\n' + evil,
    'cl_te': b'Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' % (len(evil) + 5) + evil,
    'te_cl': b'Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n' % len(chunk) + chunk + evil + b'\r\n0\r\n\r\n',
    'te_te': b'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: ' + all + b'\r\n\r\n0\r\n\r\n' + evil,
    'te_other': b'Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n' % (len(evil) + 5) + evil,
    'te_space': b'Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n' % (len(evil) + 5) + evil,
    'te_folded': b'X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n' % (len(evil) + 5) + evil,
    'bare_lf': b'X: y\n\n' + evil,
    'chunk_extension': b'Transfer-Encoding: chunked\r\n\r\n0;\n\r\n' + evil,
    'chunk_overflow': b'Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n' + evil,
    'trailer': b'Transfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n0\r\nHost: denied.test\r\n\r\n',
    'upgrade': b'Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: ' + all + b'\r\n\r\n' + evil,
}[case]
post = b'POST %s/first HTTP/1.1\r\nHost: runner.test:6099\r\n' + rest.replace(b'%', b'%%')
talk(('runner.test', 6099), post % b'')
talk(proxy, post % b'http://runner.test:6099')
talk(proxy, b'CONNECT runner.test:6099 HTTP/1.1\r\nHost: runner.test:6099\r\n\r\n', post % b'')
EOP
}
