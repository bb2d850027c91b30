# Network packets that bypass the kernel's network stack.
# claims: families
# stops: seccomp privileges
# oracle: call
# cases: 44
attempt() {
    python "$1" <<'EOP'
kinds = {'40': (socket.SOCK_STREAM, 0), '44': (socket.SOCK_RAW, 0)}
socket.socket(int(case), *kinds[case])
EOP
}
