# 200,000 attempts that fill every log and table, followed by a real one.
# stops: ebpf netns
# seen: verdict=denied protocol=udp
# oracle: wire
# cases: one threads
attempt() {
    python "$1" <<'EOP'
def many(first, last):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for n in range(first, last):
        address = struct.pack('=H', 2) + struct.pack('!HI8x', 7001 + n % 5, 0xc6330000 + n // 5 % 0x10000)
        libc.connect(s.fileno(), address, 16)
    s.close()
if case == 'threads':
    threads = [threading.Thread(target=many, args=[n * 50000, (n + 1) * 50000]) for n in range(4)]
    for one in threads: one.start()
    for one in threads: one.join()
else: many(0, 200000)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.20', 7000))
EOP
}
