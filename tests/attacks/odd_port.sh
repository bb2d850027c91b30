# Another port of a host on the list.
# stops: relay
# seen: hook=connect4 port=CASE
# oracle: wire
# allow: allowed.test
# cases: 8080 8443 22 7000
attempt() { exec 3<>"/dev/tcp/allowed.test/$1"; printf 'GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n' >&3; sleep 0.05; }
