# An Ethernet frame through a packet socket, including the old kind in AF_INET.
# claims: families other-protocols
# stops: privileges seccomp netns
# oracle: wire
# cases: raw old
attempt() {
    python "$1" <<'EOP'
if case == 'raw':
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(('eth0', 0))
    s.send(bytes.fromhex('020000000001' '020000000002' '0800') + bytes(46))
else:
    s = socket.socket(socket.AF_INET, 10, socket.htons(0x800))
    address = struct.pack('=H14s', 17, b'eth0')
    if libc.sendto(s.fileno(), bytes.fromhex('020000000001' '020000000002' '0800') + bytes(46), 60, 0, address, 16) < 0:
        raise OSError(ctypes.get_errno(), 'sendto')
EOP
}
