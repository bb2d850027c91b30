# The processes of the relay and the mediator, found by their names.
# stops: namespaces
# oracle: call
# cases: relay mediator
attempt() { grep -lqs "__$1" /proc/[0-9]*/cmdline; }
control() {
    bash -c "exec -a __$1 sleep 5" & sleep 0.1
    attempt "$1"
}
