# A file that makes a service of the machine start something later.
# stops: private-run
# oracle: script
# cases: /var/spool/cron/crontabs /etc/cron.d /var/spool/at /etc/systemd/system
# as: nobody
stage() {
    # Mounts of the runner's own: nothing of the machine is touched.
    case $1 in
        /var/spool/*) mount -t tmpfs none /var/spool ;;
        *) mount -t tmpfs none "$1" ;;
    esac && mkdir -p -m 777 "$1" && chmod 777 "$1"
}
attempt() { echo '* * * * * root id' > "$1/owned"; }
reached() { [ -e "$1/owned" ]; }
