# A process that outlives the step.
# claims: collect-agent
# stops: namespaces supervisor
# oracle: script
# cases: background setsid nohup double_fork deaf stopped
attempt() {
    # A shell in the background would keep the standard streams open.
    exec > /dev/null 2>&1
    cd /
    outlive() { bash -c "exec -a $PLACE-outlives sleep 20"; }
    case $1 in
        background) outlive & ;;
        setsid) setsid bash -c "exec -a $PLACE-outlives sleep 20" & ;;
        nohup) nohup bash -c "exec -a $PLACE-outlives sleep 20" & ;;
        double_fork) (outlive &) ;;
        deaf) (trap '' HUP INT TERM QUIT; outlive) & ;;
        stopped) bash -c "trap '' HUP; exec -a $PLACE-outlives sleep 20" & sleep 0.5; kill -STOP $! ;;
    esac
    sleep 0.1
}
reached() {
    pids=$(grep -las "^$PLACE-outlives" /proc/[0-9]*/cmdline | tr -dc '0-9\n')
    # The control's processes are ended here. The processes of a run have already ended.
    [ -n "$pids" ] && kill -9 $pids
}
