# A request directly to an address.
# claims: tcp relay-only tcp-mediated
# stops: ebpf netns
# seen: hook=CASE verdict=redirected
# oracle: wire
# cases: connect4 connect6
attempt() {
    local address=198.51.100.20
    [ "$1" = connect6 ] && address='[2001:db8:1::20]'
    curl -sSfg --noproxy '*' -m 5 "http://$address/"
}
