# A connection that was opened for an allowed name and then used for another one.
# stops: relay mediator
# seen: source=relay
# oracle: request
# allow: allowed.test
# cases: keep_alive connect_after tunnel second_connect
attempt() {
    python "$1" <<'EOP'
good = b'GET %s/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n'
evil = b'GET %s/evil HTTP/1.1\r\nHost: denied.test\r\n\r\n'
connect = b'CONNECT %s:80 HTTP/1.1\r\nHost: %s:80\r\n\r\n'
to_allowed, to_denied = connect % (b'allowed.test', b'allowed.test'), connect % (b'denied.test', b'denied.test')
if case == 'keep_alive':
    talk(proxy, good % b'http://allowed.test', evil % b'http://denied.test')
    talk(('allowed.test', 80), good % b'', evil % b'')
elif case == 'connect_after': talk(proxy, good % b'http://allowed.test', to_denied, evil % b'')
elif case == 'tunnel': talk(proxy, to_allowed, good % b'', evil % b'')
elif case == 'second_connect': talk(proxy, to_allowed, to_denied, evil % b'')
EOP
}
control() { attempt keep_alive; }
