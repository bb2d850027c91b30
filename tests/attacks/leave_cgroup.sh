# Another cgroup, where no kernel program watches.
# stops: privileges private-run
# oracle: call
attempt() {
    root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$root" ] && echo 0 > "$root/cgroup.procs"
}
