# A system call that only root may make.
# claims: calls table-kernel-objects
# stops: privileges seccomp
# oracle: call
# cases: bpf perf mount setns netns mntns userfaultfd dmesg chroot sethostname fsopen huge_segment
attempt() {
    python "$1" <<'EOP'
calls = {
    'bpf': lambda: call(321, 280, 0, at(struct.pack('IIII', 2, 4, 4, 1) + bytes(100)), 72),
    'perf': lambda: call(298, 241, at(struct.pack('IIQQQQQ', 0, 112, 0, 0, 0, 0, 0) + bytes(200)), -1, 0, -1, 0) if False else call(298, 241, at(struct.pack('II', 1, 112) + bytes(200)), -1, 0, -1, 0),
    'mount': lambda: call(165, 40, at(b'none'), at(b'/mnt'), at(b'tmpfs'), 0, 0),
    'setns': lambda: call(308, 268, os.open('/proc/self/ns/net', os.O_RDONLY), 0),
    'netns': lambda: call(272, 97, 0x40000000),
    'mntns': lambda: call(272, 97, 0x20000),
    'userfaultfd': lambda: call(323, 282, 0),
    'dmesg': lambda: call(103, 116, 3, at(bytes(1024)), 1024),
    'fsopen': lambda: call(430, 430, at(b'tmpfs'), 0),
    # Huge pages without a reservation. The segment is removed at once.
    'huge_segment': lambda: call(31, 195, call(29, 194, 0, 1 << 21, 0o14600), 0, 0),
    'chroot': lambda: call(161, 51, at(b'/')),
    'sethostname': lambda: (call(272, 97, 0x4000000), call(170, 161, at(b'x'), 1)),
}
calls[case]()
EOP
}
