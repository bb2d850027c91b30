# More pending signals and POSIX message queues than a run may have, although the caller may have more.
# claims: table-signals
# stops: supervisor
# oracle: call
# cases: timers queues
# as: nobody
attempt() {
    python "$1" <<'EOP'
def queues():
    names = [at(b'egress-attack-%d-%d' % (os.getpid(), n)) for n in range(6)]
    # mq_attr: ten messages of 8 KiB in each.
    shape = at(struct.pack('qqqq', 0, 10, 8192, 0) + bytes(32))
    try:
        for name in names: call(240, 180, name, 0o102, 0o600, shape)
    finally:
        for name in names: libc.syscall({'x86_64': 241, 'aarch64': 181}[platform.machine()], ctypes.c_long(name))
def timers():
    # SIGEV_NONE, the monotonic clock.
    event, timer = at(struct.pack('qii', 0, 0, 1) + bytes(48)), at(bytes(8))
    for _ in range(20_000): call(222, 107, 1, event, timer)
{'queues': queues, 'timers': timers}[case]()
EOP
}
