# A transport protocol that the relay does not support.
# claims: other-ip* other-protocols
# stops: ebpf
# seen: hook=sock_create
# oracle: call
# cases: mptcp udplite
attempt() {
    python "$1" <<'EOP'
if case == 'mptcp': socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
else: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
EOP
}
