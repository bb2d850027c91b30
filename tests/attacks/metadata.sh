# The service that provides credentials to virtual machines, reached by its address and by an allowed name that resolves
# to it.
# claims: special-addresses
# stops: mediator
# oracle: request
# allow: metadata.test loopback.test
# cases: metadata.test 169.254.169.254 0xa9fea9fe 2852039166
attempt() { curl -sSf -m 5 "http://$1/"; curl -sSf --noproxy '*' -m 5 "http://$1/"; }
control() { curl -sSf --noproxy '*' -m 5 "http://$1/"; }
