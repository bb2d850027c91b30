# A service that listens on the host's loopback, found by trying its port.
# stops: netns
# seen: hook=connect4
# oracle: canary
# cases: 127.0.0.1 127.0.0.2 0.0.0.0
serve() {
    python <<EOP
s = socket.socket(); s.bind(('0.0.0.0', 6099)); s.listen()
open('$DIR/ready', 'w').close()
while True:
    s.accept()
    open('$WITNESS', 'ab').write(b'x')
EOP
}
attempt() {
    python "$1" <<'EOP'
socket.create_connection((case, 6099)); time.sleep(0.05)
EOP
}
