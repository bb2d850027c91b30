# A service of the host, reached through its socket or FIFO in the file system.
# claims: path-sockets
# stops: private-run
# oracle: canary
# cases: stream datagram fifo link descriptor
# as: nobody
serve() {
    python <<EOP
os.umask(0)
os.chdir('$PLACE')
s = socket.socket(socket.AF_UNIX); s.bind('stream'); s.listen()
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); d.bind('datagram')
os.mkfifo('fifo', 0o666)
f = os.open('fifo', os.O_RDWR)
note = open('$WITNESS', 'ab', 0)
open('$DIR/ready', 'w').close()
import select
while True:
    for one in select.select([s, d, f], [], [])[0]:
        if one is s: one.accept(); note.write(b's')
        elif one is d: note.write(d.recv(9))
        else: note.write(os.read(f, 9))
EOP
}
attempt() {
    PLACE=$PLACE python "$1" <<EOP
place = '$PLACE'
if case == 'datagram': socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', f'{place}/datagram')
elif case == 'fifo': os.write(os.open(f'{place}/fifo', os.O_WRONLY | os.O_NONBLOCK), b'x')
else:
    if case == 'link': os.symlink(place, 'link'); place = 'link'
    if case == 'descriptor': place = f'/proc/self/fd/{os.open(place, os.O_RDONLY)}'
    socket.socket(socket.AF_UNIX).connect(f'{place}/stream')
time.sleep(0.4)
EOP
}
