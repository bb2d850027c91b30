# An open socket of the host among the caller's descriptors.
# stops: supervisor
# oracle: wire
# cases: 0 7
wrap() { eval "exec $1<>/dev/udp/198.51.100.20/7000"; }
attempt() { echo through >&"$1"; }
control() { wrap "$1"; attempt "$1"; }
