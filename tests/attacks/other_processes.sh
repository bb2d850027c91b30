# Access to another user's process, other than to its memory.
# stops: namespaces privileges
# oracle: call
# cases: kill stop pidfd priority affinity io_priority pages root cwd exe net fds environ
attempt() {
    python "$1" <<'EOP'
# The target is the boundary's init. Without a boundary, the target is a process that the test started for this purpose.
pid = int(os.environ.get('OTHER', 1))
ways = {
    'kill': lambda: os.kill(pid, 9),
    'stop': lambda: os.kill(pid, 19),
    'pidfd': lambda: call(424, 424, call(434, 434, pid, 0), 19, 0, 0),
    'priority': lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    'affinity': lambda: os.sched_setaffinity(pid, {0}),
    'io_priority': lambda: call(251, 30, 1, pid, 3 << 13),
    'pages': lambda: call(256, 238, pid, 64, at(bytes(8)), at(b'\1' + bytes(7))),
    'root': lambda: os.listdir(f'/proc/{pid}/root'),
    'cwd': lambda: os.listdir(f'/proc/{pid}/cwd'),
    'exe': lambda: os.open(f'/proc/{pid}/exe', os.O_RDONLY),
    'net': lambda: os.open(f'/proc/{pid}/ns/net', os.O_RDONLY),
    'fds': lambda: os.listdir(f'/proc/{pid}/fd'),
    'environ': lambda: open(f'/proc/{pid}/environ').read(),
}
ways[case]()
EOP
}
control() {
    setpriv --reuid=65534 --clear-groups sleep 20 & other=$!
    sleep 0.3
    OTHER=$other attempt "$1"
    status=$?
    kill -9 $other
    return $status
}
