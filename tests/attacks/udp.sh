# A datagram, sent with several system calls and forms of addresses.
# claims: udp* relay-only table-udp
# stops: ebpf netns
# seen: verdict=denied protocol=udp
# oracle: wire
# cases: sendto sendmsg connected sendto6 connected6 mapped v4_on_v6 sendmmsg
attempt() {
    python "$1" <<'EOP'
v4, v6, mapped = ('198.51.100.20', 7000), ('2001:db8:1::20', 7000), ('::ffff:198.51.100.20', 7000)
if case in ('sendto', 'sendmsg', 'connected'): s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
else: s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
if case == 'sendto': s.sendto(b'x', v4)
elif case == 'sendmsg': s.sendmsg([b'x'], [], 0, v4)
elif case == 'connected': s.connect(v4), s.send(b'x')
elif case == 'sendto6': s.sendto(b'x', v6)
elif case == 'connected6': s.connect(v6), s.send(b'x')
elif case == 'mapped': s.sendto(b'x', mapped)
else:
    address = struct.pack('=H', 2) + struct.pack('!H4s8x', 7000, socket.inet_aton('198.51.100.20'))
    if case == 'v4_on_v6':
        if libc.sendto(s.fileno(), b'x', 1, 0, address, 16) < 0: raise OSError(ctypes.get_errno(), 'sendto')
    else:
        vector = struct.pack('PP', at(b'x'), 1)
        header = struct.pack('PIxxxxPPPPI4xI4x', at(address), 16, at(vector), 1, 0, 0, 0, 0)
        call(307, 269, s.fileno(), at(header), 1, 0)
EOP
}
