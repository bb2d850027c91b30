# Another port of an allowed host.
# claims: ports
# stops: relay
# seen: hook=connect4 port=CASE
# oracle: wire
# allow: allowed.test
# cases: 8080 8443 22 7000
attempt() {
    # Without the file view, names do not resolve, because /etc/resolv.conf is the host's.
    host=allowed.test
    getent hosts "$host" > /dev/null || host=198.51.100.10
    exec 3<>"/dev/tcp/$host/$1"
    printf 'GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n' >&3
    sleep 0.05
}
