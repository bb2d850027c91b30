# ICMP through a ping socket, which needs no privilege if the machine allows it.
# claims: other-ip other-protocols
# stops: ebpf netns
# oracle: wire
attempt() {
    python <<'EOP'
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
s.sendto(bytes.fromhex('0800f7fd00010001'), ('198.51.100.20', 0))
EOP
}
stage() { echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range; }
