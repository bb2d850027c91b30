# A socket of a family that leads out, into the kernel or to another machine.
# claims: families
# stops: seccomp
# oracle: call
# cases: 40
attempt() {
    # 40: virtual machines.
    python "$1" <<'EOP'
kinds = {'40': (socket.SOCK_STREAM, 0), '44': (socket.SOCK_RAW, 0)}
socket.socket(int(case), *kinds[case])
EOP
}
