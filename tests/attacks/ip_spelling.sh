# An address instead of a name, in a spelling that does not look like one.
# stops: relay mediator
# seen: source=relay
# oracle: request
# allow: allowed.test
# cases: 198.51.100.20 3325256724 0xc6336414 0306.063.0144.024 0xc6.51.25620 198.51.25620 [::ffff:198.51.100.20] [::ffff:c633:6414] [2001:db8:1::20] [2001:0DB8:1:0::0020] [2001:db8:1::20%25eth0]
attempt() {
    for host in "$1" allowed.test; do
        curl -sSg -m 5 -H "Host: $host" --noproxy '*' "http://$1/"
        curl -sSg -m 5 -H "Host: $host" --noproxy '' -x http://127.0.0.1:3128 "http://$1/"
        curl -sSg -m 5 -H "Host: $host" --noproxy '' -p -x http://127.0.0.1:3128 "http://$1/"
    done
}
control() { curl -sSg -m 5 --noproxy '*' "http://$1/"; }
