# A query to a name server outside the machine.
# claims: udp never-resolves other-protocols
# stops: ebpf netns
# seen: verdict=denied port=53
# oracle: wire
# cases: udp4 udp6 tcp4 tcp6
attempt() {
    python "$1" <<'EOP'
q = bytes.fromhex('abcd01000001000000000000') + b'\x07allowed\x04test\x00\x00\x01\x00\x01'
address = ('198.51.100.53' if case.endswith('4') else '2001:db8:1::53', 53)
if case.startswith('udp'):
    s = socket.socket(socket.AF_INET if case.endswith('4') else socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(3); s.sendto(q, address); s.recv(512)
else:
    s = socket.create_connection(address, 3)
    s.sendall(struct.pack('>H', len(q)) + q); s.recv(512)
EOP
}
