# A host name that a careless comparison mistakes for an allowed one.
# stops: relay mediator
# seen: source=relay
# oracle: request
# allow: allowed.test
# cases: suffix prefix dot upper nul percent userinfo port fragment query backslash homoglyph fullwidth list
attempt() {
    python "$1" <<'EOP'
name = {
    'suffix': b'allowed.test.denied.test',
    'prefix': b'xallowed.test',
    'dot': b'denied.test.',
    'upper': b'DENIED.test',
    'nul': b'denied.test\0.allowed.test',
    'percent': b'denied.test%00.allowed.test',
    'userinfo': b'allowed.test@denied.test',
    'port': b'allowed.test:80@denied.test',
    'fragment': b'denied.test#.allowed.test',
    'query': b'denied.test?.allowed.test',
    'backslash': b'denied.test\\.allowed.test',
    # The first letter of `homoglyph` is Cyrillic. The dot of `fullwidth` is a full-width character.
    'homoglyph': '\u0430llowed.test'.encode(),
    'fullwidth': 'denied\uff0etest'.encode(),
    'list': b'allowed.test, denied.test',
}[case]
get = b'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n'
for host in name, b'allowed.test':
    talk(proxy, get % (b'http://' + name + b'/', host))
    talk(proxy, b'CONNECT %s:80 HTTP/1.1\r\nHost: %s\r\n\r\n' % (name, host), get % (b'/', name))
    talk(proxy, b'CONNECT %s:443 HTTP/1.1\r\nHost: %s\r\n\r\n' % (name, host), name.decode(), get % (b'/', name))
# A C program treats this byte as the end of the name.
name = name.split(b'\0')[0]
talk(('198.51.100.20', 80), get % (b'/', name))
talk(('198.51.100.20', 443), name.decode(), get % (b'/', name))
EOP
}
