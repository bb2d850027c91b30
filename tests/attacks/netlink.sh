# A netlink protocol other than the one that lists interfaces.
# claims: families
# stops: seccomp
# oracle: call
# cases: 4 9 12 15 16
attempt() {
    python "$1" <<'EOP'
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, int(case))
EOP
}
