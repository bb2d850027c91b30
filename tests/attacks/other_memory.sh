# The memory and the descriptors of another user's process, or of the boundary's own process.
# stops: namespaces privileges
# oracle: call
# cases: mem read write trace descriptor
attempt() {
    python "$1" <<'EOP'
# Without a boundary, the attempt uses only a process that the test started for this purpose, so that it touches no
# other process.
wanted = os.environ.get('OTHER')
ways = {
    'mem': lambda pid: os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR)),
    'read': lambda pid: call(310, 270, pid, *vectors(pid), 0),
    'write': lambda pid: call(311, 271, pid, *vectors(pid), 0),
    'trace': lambda pid: call(101, 117, 0x4206, pid, 0, 0),
    'descriptor': lambda pid: call(438, 438, call(434, 434, pid, 0), 0, 0),
}
def vectors(pid):
    # The address must be mapped in the other process. If the process cannot be read, this attempt is refused here.
    remote = next(line for line in open(f'/proc/{pid}/maps') if 'rw-p' in line).split('-')[0]
    return at(struct.pack('PP', at(b'xx'), 1)), 1, at(struct.pack('PP', int(remote, 16), 1)), 1
tried = 0
for pid in [wanted] if wanted else filter(str.isdigit, os.listdir('/proc')):
    try:
        if not wanted and os.stat(f'/proc/{pid}').st_uid == os.getuid() and pid != '1': continue
        tried += 1
        ways[case](int(pid))
        print('through', pid)
        sys.exit(0)
    except OSError as error: print('refused:', errno.errorcode.get(error.errno))
print(tried)
sys.exit(1)
EOP
}
control() {
    setpriv --reuid=65534 --clear-groups sleep 20 & other=$!
    sleep 0.3
    OTHER=$other attempt "$1"
    status=$?
    kill $other
    return $status
}
