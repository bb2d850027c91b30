# Platform services, private networks, and protocol ranges, reached through allowed names. The addresses are written
# plainly and in the forms of translators and tunnels: NAT64 with each prefix length, 6to4, and ISATAP.
# claims: special-addresses*
# stops: mediator
# seen: source=relay verdict=blocked
# oracle: request
# allow: CASE
# cases: 168-63-129-16.at.test 192-0-0-192.at.test 192-0-0-8.at.test 10-77-0-1.at.test fd00-ec2--254.at.test fd77--1.at.test 2001-2--1.at.test 64-ff9b-a4d-1--808-808.at.test 64-ff9b-a-4d00-1-0-808-808.at.test 64-ff9b-1-a4d-1-0-808-808.at.test 64-ff9b-1-a-4d-1-808-808.at.test 64-ff9b-1-0-a-4d00-108-808.at.test 64-ff9b--a4d-1.at.test 64-ff9b-1--a9fe-a9fe.at.test 64-ff9b-0-0-100--808-808.at.test 2002-a4d-1--1.at.test 2400--5efe-a4d-1.at.test 64-ff9b--cb00-7102.at.test
attempt() {
    curl -sS -m 5 --noproxy '*' "http://$1/"
    curl -sS -m 5 --noproxy '' -x http://127.0.0.1:3128 "http://$1/"
    curl -sS -m 5 --noproxy '' -p -x http://127.0.0.1:3128 "http://$1/"
    true
}
control() { curl -sSf --noproxy '*' -m 5 "http://$1/"; }
