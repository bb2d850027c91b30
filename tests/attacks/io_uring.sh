# Asynchronous calls, which a filter of calls does not see.
# claims: calls table-kernel-objects
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
call(425, 425, 4, at(bytes(256)))
EOP
}
