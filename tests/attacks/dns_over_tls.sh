# A connection to the port of DNS over TLS.
# stops: ebpf netns
# seen: verdict=denied port=853
# oracle: wire
attempt() { exec 3<>/dev/tcp/198.51.100.53/853; }
