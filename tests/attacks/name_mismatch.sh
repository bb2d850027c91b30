# Host names that disagree: in the tunnel's request, in the `ClientHello`, in the request target, and in the Host field.
# claims: name-match*
# stops: relay mediator
# seen: source=relay verdict=refused
# oracle: request
# allow: allowed.test
# cases: sni_of_tunnel tunnel_of_sni sni_of_address address_of_sni no_sni host_of_target target_of_host no_host
attempt() {
    python "$1" <<'EOP'
get = b'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n'
connect = b'CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n'
allowed, denied = ('allowed.test', 443), ('198.51.100.20', 443)
if case == 'sni_of_tunnel':
    talk(proxy, connect % (b'allowed.test', b'allowed.test'), 'denied.test', get % (b'/', b'denied.test'))
    talk(allowed, 'denied.test', get % (b'/', b'denied.test'))
elif case == 'tunnel_of_sni':
    for host in b'denied.test', b'allowed.test':
        talk(proxy, connect % (b'denied.test', host), 'allowed.test', get % (b'/', b'allowed.test'))
    talk(denied, 'allowed.test', get % (b'/', b'allowed.test'))
elif case == 'sni_of_address':
    talk(proxy, connect % (b'198.51.100.10', b'198.51.100.10'), 'denied.test', get % (b'/', b'denied.test'))
    talk(allowed, 'denied.test', get % (b'/', b'denied.test'))
elif case == 'address_of_sni':
    talk(proxy, connect % (b'198.51.100.20', b'allowed.test'), 'allowed.test', get % (b'/', b'allowed.test'))
    talk(denied, 'allowed.test', get % (b'/', b'allowed.test'))
elif case == 'no_sni':
    talk(proxy, connect % (b'denied.test', b'allowed.test'), '', get % (b'/', b'allowed.test'))
    talk(denied, '', get % (b'/', b'allowed.test'))
elif case == 'host_of_target':
    talk(proxy, get % (b'http://allowed.test/evil', b'denied.test'))
    talk(allowed[:1] + (80,), get % (b'/evil', b'denied.test'))
elif case == 'target_of_host':
    talk(proxy, get % (b'http://denied.test/', b'allowed.test'))
    talk(denied[:1] + (80,), get % (b'http://denied.test/', b'allowed.test'))
elif case == 'no_host':
    talk(proxy, b'GET http://denied.test/ HTTP/1.0\r\n\r\n')
    talk(denied[:1] + (80,), b'GET / HTTP/1.0\r\n\r\n')
EOP
}
