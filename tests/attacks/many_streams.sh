# Connections until no local port is free, followed by a real attempt from a port that is taken.
# stops: ebpf netns
# seen: verdict=denied protocol=udp port=7000
# oracle: wire
attempt() {
    python <<'EOP'
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = []
low, high = map(int, open('/proc/sys/net/ipv4/ip_local_port_range').read().split())
try:
    for _ in range(low, high + 1):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(('127.0.0.1', 0))
        kept.append(s)
except OSError as error: print(len(kept), error)
last = kept.pop()
port = last.getsockname()[1]
last.close()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', port))
s.sendto(b'x', ('198.51.100.20', 7000))
EOP
}
