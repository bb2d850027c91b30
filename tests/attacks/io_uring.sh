# Asynchronous system calls, which a system call filter does not see.
# claims: calls table-kernel-objects
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
call(425, 425, 4, at(bytes(256)))
EOP
}
