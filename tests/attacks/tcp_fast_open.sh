# Data in the first packet, without a call to connect.
# claims: tcp
# stops: ebpf netns
# seen: verdict=redirected
# oracle: wire
# cases: sendto option
attempt() {
    python "$1" <<'EOP'
s = socket.socket()
if case == 'sendto': s.sendto(b'GET / HTTP/1.1\r\n', 0x20000000, ('198.51.100.20', 80))
else:
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    s.connect(('198.51.100.20', 80)); s.send(b'GET / HTTP/1.1\r\n')
EOP
}
