# A set-user-id or set-group-id file in the workspace.
# claims: setuid-left* denied-calls
# stops: seccomp
# oracle: call
# cases: chmod fchmod fchmodat create mknod setgid
attempt() {
    python "$1" <<'EOP'
open('giver', 'w').close()
ways = {
    'chmod': lambda: os.chmod('giver', 0o4755),
    'fchmod': lambda: os.fchmod(os.open('giver', os.O_RDONLY), 0o4755),
    'fchmodat': lambda: os.chmod('giver', 0o4755, dir_fd=os.open('.', os.O_RDONLY)),
    'create': lambda: os.open('made', os.O_CREAT | os.O_WRONLY, 0o4755),
    'mknod': lambda: os.mknod('node', 0o104755),
    'setgid': lambda: os.chmod('giver', 0o2755),
}
ways[case]()
EOP
}
