# A setting of the kernel.
# stops: privileges
# oracle: call
# cases: /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/core_pattern
attempt() { : >> "$1"; }
