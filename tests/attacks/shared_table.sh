# An entry in a kernel table that all users share and for which the kernel has no limit per user.
# claims: shared-tables table-kernel-objects table-huge-pages table-filters
# stops: seccomp
# oracle: call
# cases: asynchronous_io huge_file huge_mapping socket_filter reuseport_filter flow_label
# as: nobody
attempt() {
    python "$1" <<'EOP'
accept = struct.pack('HBBI', 6, 0, 0, 0xffffffff)  # BPF_RET
program = struct.pack('HxxxxxxQ', 1, at(accept))
def option(family, level, number, value):
    s = socket.socket(family, socket.SOCK_STREAM)
    if number == 51: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', 0))
    s.setsockopt(level, number, value)
calls = {
    'asynchronous_io': lambda: call(206, 0, 1, at(bytes(8))),
    'huge_file': lambda: os.memfd_create('x', 4),
    # The mapping reserves no page, because an empty pool refuses a reservation on every machine.
    'huge_mapping': lambda: call(9, 222, 0, 1 << 21, 3, 0x44022, -1, 0),
    'socket_filter': lambda: option(socket.AF_UNIX, socket.SOL_SOCKET, 26, program),
    'reuseport_filter': lambda: option(socket.AF_INET, socket.SOL_SOCKET, 51, program),
    # in6_flowlabel_req: get any label, and create it for this process only.
    'flow_label': lambda: option(socket.AF_INET6, 41, 32,
        socket.inet_pton(socket.AF_INET6, '::1') + struct.pack('>I', 0) + struct.pack('BBHHHI', 0, 255, 1, 6, 6, 0)),
}
calls[case]()
EOP
}
