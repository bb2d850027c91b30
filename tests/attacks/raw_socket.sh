# ICMP through a raw socket.
# claims: other-ip other-protocols
# stops: privileges ebpf netns
# oracle: wire
# cases: v4 v6
attempt() {
    python "$1" <<'EOP'
if case == 'v4':
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.sendto(bytes.fromhex('0800f7fd00010001'), ('198.51.100.20', 0))
else:
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    s.sendto(bytes.fromhex('8000000000010001'), ('2001:db8:1::20', 0))
EOP
}
