# A request for another host name, sent to the server of an allowed name.
# claims: name-match
# stops: relay
# seen: source=relay verdict=refused
# oracle: request
# allow: allowed.test
# cases: host second_host first_host absolute spaced folded
attempt() {
    python "$1" <<'EOP'
hosts = {
    'host': b'Host: denied.test',
    'second_host': b'Host: denied.test\r\nHost: allowed.test',
    'first_host': b'Host: allowed.test\r\nHost: denied.test',
    'absolute': b'Host: allowed.test',
    'spaced': b'Host : allowed.test\r\nHost: denied.test',
    'folded': b'X: y\r\n Host: allowed.test\r\nHost: denied.test',
}[case]
other = b'http://denied.test' if case == 'absolute' else b''
fields = b' HTTP/1.1\r\n' + hosts + b'\r\nConnection: close\r\n\r\n'
front = ('allowed.test', 80)
talk(front, b'GET ' + other + b'/evil' + fields)
talk(proxy, b'GET ' + (other or b'http://allowed.test') + b'/evil' + fields)
talk(proxy, b'CONNECT allowed.test:80 HTTP/1.1\r\nHost: allowed.test:80\r\n\r\n', b'GET ' + other + b'/evil' + fields)
EOP
}
# The server accepts only exact field names. The test is about the host name.
control() { curl -sS -m 5 --noproxy '*' -H 'Host: denied.test' http://198.51.100.10/evil; }
