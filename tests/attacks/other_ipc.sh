# Shared memory that is found by number or name.
# claims: table-ipc
# stops: namespaces private-run
# oracle: canary
# cases: sysv
stage() {
    python "$CANARY" <<'EOP'
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(0x45475245, 4096, 0o1666)
at_ = libc.shmat(number, None, 0)
ctypes.memmove(at_, case.encode(), len(case))
EOP
}
attempt() {
    python <<'EOP'
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(0x45475245, 4096, 0)
if number < 0: raise OSError(ctypes.get_errno(), 'shmget')
print(ctypes.string_at(libc.shmat(number, None, 0), 200).split(b'\0')[0].decode())
EOP
}
