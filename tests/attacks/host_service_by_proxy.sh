# A service on the host's loopback interface. The attempt uses an allowed name and the proxy, which runs on the same
# interface.
# stops: mediator
# oracle: canary
# allow: loopback.test
# cases: loopback.test localhost 127.0.0.1 127.1 [::1] 0
# options: --allow-port 6099
serve() {
    python <<EOP
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.bind(('::', 6099)); s.listen()
open('$DIR/ready', 'w').close()
while True:
    s.accept()[0].close()
    open('$WITNESS', 'ab').write(b'x')
EOP
}
attempt() {
    curl -sSg -m 5 --noproxy '' -x http://127.0.0.1:3128 "http://$1:6099/"
    curl -sSg -m 5 --noproxy '' -p -x http://127.0.0.1:3128 "http://$1:6099/"
    true
}
control() { curl -sSg -m 5 --noproxy '*' "http://$1:6099/"; sleep 0.1; }
