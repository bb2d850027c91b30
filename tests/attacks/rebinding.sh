# An allowed name whose address changes between two queries, or that also has an internal address.
# claims: special-addresses
# stops: mediator
# seen: source=relay
# oracle: canary
# allow: CASE
# cases: flips.test mixed.test
# options: --allow-port 6099
serve() {
    python <<EOP
s = socket.create_server(('127.0.0.1', 6099))
open('$DIR/ready', 'w').close()
while True:
    s.accept()[0].close()
    open('$WITNESS', 'ab').write(b'x')
EOP
}
attempt() {
    for try in {1..20}; do
        curl -sS -m 5 --noproxy '' -x http://127.0.0.1:3128 "http://$1:6099/"
        curl -sS -m 5 --noproxy '' -p -x http://127.0.0.1:3128 "http://$1:6099/"
    done
}
control() { for try in {1..20}; do curl -sS -m 5 --noproxy '*' "http://$1:6099/"; done; }
