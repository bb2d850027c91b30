# A socket of an address family that reaches the kernel or another machine.
# claims: families
# stops: seccomp
# oracle: call
# cases: 40
attempt() {
    # Family 40 leads to virtual machines.
    python "$1" <<'EOP'
kinds = {'40': (socket.SOCK_STREAM, 0), '44': (socket.SOCK_RAW, 0)}
socket.socket(int(case), *kinds[case])
EOP
}
