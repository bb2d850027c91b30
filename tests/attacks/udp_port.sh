# A datagram to a port that some networks do not filter: QUIC, time, logs, tunnels, and names.
# claims: udp
# stops: ebpf netns
# seen: verdict=denied protocol=udp port=CASE
# oracle: wire
# cases: 53 123 443 514 853 3478 5353 51820
attempt() { echo x > "/dev/udp/198.51.100.20/$1"; }
