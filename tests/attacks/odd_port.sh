# Another port of a host on the list.
# claims: ports
# stops: relay
# seen: hook=connect4 port=CASE
# oracle: wire
# allow: allowed.test
# cases: 8080 8443 22 7000
attempt() {
    # Names do not resolve where the view of /etc is left out.
    host=allowed.test
    getent hosts "$host" > /dev/null || host=198.51.100.10
    exec 3<>"/dev/tcp/$host/$1"
    printf 'GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n' >&3
    sleep 0.05
}
