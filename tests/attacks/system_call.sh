# A system call that gives an ordinary program more than files and sockets.
# claims: calls table-kernel-objects
# stops: seccomp
# oracle: call
# cases: keyctl add_key open_tree name_to_handle_at userns unshare_user
# as: nobody
attempt() {
    python "$1" <<'EOP'
calls = {
    'keyctl': lambda: call(250, 219, 0, -3, 1),
    'add_key': lambda: call(248, 217, at(b'user'), at(b'name'), at(b'x'), 1, -2),
    'open_tree': lambda: call(428, 428, -100, at(b'/'), 0),
    'name_to_handle_at': lambda: call(303, 264, -100, at(b'/tmp'), at(struct.pack('I', 128) + bytes(200)), at(bytes(8)), 0),
    'userns': lambda: call(272, 97, 0x10000000),
    'unshare_user': lambda: subprocess.run(['unshare', '-Urn', 'true'], check=True),
}
calls[case]()
EOP
}
