# A system call that is newer than most lists of system calls.
# claims: new-calls
# stops: seccomp
# oracle: call
# cases: open_tree_attr statmount listmount file_setattr memfd_secret cachestat fanotify_init
# as: nobody
attempt() {
    echo > new_call
    python "$1" <<'EOP'
f = os.open('new_call', os.O_RDWR)
nodump = struct.pack('QIIII', 0x80, 0, 0, 0, 0)  # file_attr with FS_XFLAG_NODUMP
def root_mount():
    # The id of the mount, from statx(STATX_MNT_ID_UNIQUE).
    stat = at(bytes(256))
    call(332, 291, -100, at(b'/'), 0, 0x4000, stat)
    return at(struct.pack('IIQQ', 24, 0, struct.unpack_from('Q', ctypes.string_at(stat, 256), 0x90)[0], 3))
calls = {
    'open_tree_attr': lambda: call(467, 467, -100, at(b'/'), 0, 0, 0),
    'statmount': lambda: call(457, 457, root_mount(), at(bytes(4096)), 4096, 0),
    'listmount': lambda: call(458, 458, at(struct.pack('IIQQ', 24, 0, (1 << 64) - 1, 0)), at(bytes(4096)), 512, 0),
    'file_setattr': lambda: call(469, 469, -100, at(b'new_call'), at(nodump), 24, 0),
    'memfd_secret': lambda: call(447, 447, 0),
    'cachestat': lambda: call(451, 451, f, at(bytes(16)), at(bytes(40)), 0),
    'fanotify_init': lambda: call(300, 262, 0x200, 0),
}
calls[case]()
EOP
}
