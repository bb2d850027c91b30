# A datagram whose route does not follow from its address alone: multicast, broadcast, a chosen source or interface, or
# a socket that changes its address family.
# stops: ebpf netns
# seen: verdict=denied protocol=udp
# oracle: wire
# cases: multicast multicast6 broadcast interface source family segments unconnected
attempt() {
    python "$1" <<'EOP'
far = ('198.51.100.20', 7000)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if case == 'multicast': s.sendto(b'x', ('224.0.0.251', 5353))
elif case == 'multicast6':
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    index = 'eth0' if 'eth0' in dict(map(reversed, socket.if_nameindex())) else 'lo'
    s.sendto(b'x', ('ff02::fb', 5353, 0, socket.if_nametoindex(index)))
elif case == 'broadcast': s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); s.sendto(b'x', ('255.255.255.255', 67))
elif case == 'interface':
    s.setsockopt(socket.IPPROTO_IP, 50, struct.pack('!I', socket.if_nameindex()[-1][0])); s.sendto(b'x', far)
elif case == 'source': s.setsockopt(socket.IPPROTO_IP, 15, 1); s.bind(('203.0.113.2', 0)); s.sendto(b'x', far)
elif case == 'family':
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.connect(('::ffff:127.0.0.1', 9))
    s.setsockopt(socket.IPPROTO_IPV6, 1, socket.AF_INET); libc.connect(s.fileno(), bytes(16), 16)
    address = struct.pack('=H', 2) + struct.pack('!H4s8x', 7000, socket.inet_aton(far[0]))
    if libc.sendto(s.fileno(), b'x', 1, 0, address, 16) < 0: raise OSError(ctypes.get_errno(), 'sendto')
elif case == 'segments': s.setsockopt(socket.IPPROTO_UDP, 103, 8); s.sendto(bytes(64), far)
elif case == 'unconnected':
    s.connect(('127.0.0.1', 9)); libc.connect(s.fileno(), bytes(16), 16); s.sendto(b'x', far)
EOP
}
