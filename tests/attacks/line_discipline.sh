# Another line discipline for the command's own terminal. The kernel loads a module for this line discipline.
# claims: calls
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
import fcntl, pty
# N_NULL discards everything and always exists.
fcntl.ioctl(pty.openpty()[1], 0x5423, struct.pack('i', 27))
EOP
}
