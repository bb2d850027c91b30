# A core file limit with which the kernel passes a crash dump to a program of the host that runs as root.
# claims: core-dump denied-calls
# stops: seccomp
# oracle: call
# cases: setrlimit prlimit
attempt() {
    python "$1" <<'EOP'
none = at(bytes(16))
if case == 'setrlimit': call(160, 164, 4, none)
elif case == 'prlimit': call(302, 261, 0, 4, none, 0)
got = ctypes.create_string_buffer(16)
call(302, 261, 0, 4, 0, ctypes.addressof(got))
sys.exit(got.raw != bytes(16))
EOP
}
