# An open socket of the host, which a program of the host passes to the command.
# stops: private-run
# oracle: wire
# as: nobody
serve() {
    python <<EOP
os.umask(0)
import array
listener = socket.socket(socket.AF_UNIX); listener.bind('$PLACE/giver'); listener.listen()
open('$DIR/ready', 'w').close()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('198.51.100.20', 7000))
while True:
    socket.send_fds(listener.accept()[0], [b'x'], [s.fileno()])
EOP
}
attempt() {
    PLACE=$PLACE python <<'EOP'
s = socket.socket(socket.AF_UNIX); s.connect(os.environ['PLACE'] + '/giver')
os.write(socket.recv_fds(s, 1, 1)[1][0], b'through')
EOP
}
