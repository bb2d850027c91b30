# Another line discipline for a terminal of one's own: the kernel loads the module for it.
# claims: calls
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
import fcntl, pty
# The one that discards everything, which is always there.
fcntl.ioctl(pty.openpty()[1], 0x5423, struct.pack('i', 27))
EOP
}
