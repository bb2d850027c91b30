# A request over multipath TCP.
# claims: other-ip other-protocols
# stops: ebpf netns
# seen: hook=sock_create
# oracle: wire
attempt() {
    python <<'EOP'
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.settimeout(3)
s.connect(('198.51.100.20', 80))
EOP
}
