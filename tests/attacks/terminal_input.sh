# Input pushed into a terminal.
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
import fcntl, pty
control, terminal = pty.openpty()
if os.fork(): sys.exit(os.wait()[1] != 0)
os.setsid()
fcntl.ioctl(terminal, 0x540e, 0)
fcntl.ioctl(terminal, 0x5412, b'x')
EOP
}
