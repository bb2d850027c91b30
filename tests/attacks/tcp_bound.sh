# A connection from another loopback address, or from one of the relay's ports.
# claims: tcp
# stops: ebpf netns
# seen: verdict=redirected
# oracle: wire
# cases: 0.0.0.0 127.0.0.2 192.0.2.1
attempt() {
    python "$1" <<'EOP'
s = socket.socket(); s.settimeout(3)
s.bind((case, 0)); s.connect(('198.51.100.20', 80)); s.sendall(b'GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n')
sys.exit(not s.recv(100).startswith(b'HTTP/1.1 200'))
EOP
}
control() { attempt 0.0.0.0; }
