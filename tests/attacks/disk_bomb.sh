# More scratch space than the run may have.
# claims: limit-scratch
# stops: private-run
# oracle: call
# options: --max-scratch 8M
# cases: /tmp /var/tmp /dev/shm
attempt() { head -c 24M /dev/zero > "$1/egress-attack-$$" && rm "$1/egress-attack-$$"; }
