# Changes of addresses, routes, and interfaces through netlink.
# stops: privileges
# oracle: call
# cases: address route mtu
attempt() {
    case $1 in
        address) ip addr add 192.0.2.77/32 dev lo ;;
        route) ip route add 192.0.2.128/25 dev lo ;;
        mtu) ip link set lo mtu 1400 ;;
    esac
}
