# Another cgroup, to which no kernel program is attached.
# stops: privileges private-run
# oracle: call
attempt() {
    root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$root" ] && echo 0 > "$root/cgroup.procs"
}
