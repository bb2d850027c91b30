# A service of the host at an abstract name.
# claims: abstract-sockets
# stops: netns
# oracle: canary
# cases: stream datagram
serve() {
    python <<EOP
s = socket.socket(socket.AF_UNIX); s.bind('\0egress-attack-stream'); s.listen()
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); d.bind('\0egress-attack-datagram')
open('$DIR/ready', 'w').close()
import select
while True:
    for one in select.select([s, d], [], [])[0]:
        one.accept() if one is s else d.recv(9)
        open('$WITNESS', 'ab').write(b'x')
EOP
}
attempt() {
    python "$1" <<'EOP'
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if case == 'stream' else socket.SOCK_DGRAM)
s.connect(f'\0egress-attack-{case}')
s.send(b'x'); time.sleep(0.05)
EOP
}
