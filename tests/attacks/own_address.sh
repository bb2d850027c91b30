# A service of the host, reached through an allowed name that resolves to the machine's own address.
# claims: special-addresses
# stops: mediator
# seen: source=relay verdict=blocked
# oracle: canary
# allow: CASE
# cases: runner.test 2001-db8-2--2.at.test
# options: --allow-port 6099
serve() {
    python <<EOP
s = socket.create_server(('::', 6099), family=socket.AF_INET6, dualstack_ipv6=True)
open('$DIR/ready', 'w').close()
while True:
    s.accept()[0].close()
    open('$WITNESS', 'ab').write(b'x')
EOP
}
attempt() {
    curl -sS -m 5 --noproxy '*' "http://$1:6099/"
    curl -sS -m 5 --noproxy '' -x http://127.0.0.1:3128 "http://$1:6099/"
    curl -sS -m 5 --noproxy '' -p -x http://127.0.0.1:3128 "http://$1:6099/"
    true
}
control() { curl -sS -m 5 --noproxy '*' "http://$1:6099/"; sleep 0.1; }
