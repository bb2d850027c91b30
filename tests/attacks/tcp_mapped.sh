# A request to an IPv4-mapped IPv6 address.
# claims: tcp
# stops: ebpf netns
# seen: hook=connect6 verdict=redirected
# oracle: wire
attempt() { curl -sSfg --noproxy '*' -m 5 'http://[::ffff:198.51.100.20]/'; }
