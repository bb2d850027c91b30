# Another port of an allowed host, requested through the proxy.
# claims: ports
# stops: relay
# oracle: wire
# allow: allowed.test
# cases: 8080 22 7000
attempt() { curl -sS -m 5 "http://allowed.test:$1/"; curl -sS -m 5 -p "http://allowed.test:$1/"; }
