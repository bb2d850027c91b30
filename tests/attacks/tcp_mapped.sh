# A request to an address of IPv4 in the clothes of IPv6.
# claims: tcp
# stops: ebpf netns
# seen: hook=connect6 verdict=redirected
# oracle: wire
attempt() { curl -sSfg --noproxy '*' -m 5 'http://[::ffff:198.51.100.20]/'; }
