# A token of the runner, read from the environment or memory of a process that has it.
# stops: supervisor
# oracle: canary
# env: GITHUB_ACTIONS=true ACTIONS_RUNTIME_TOKEN=$CANARY ACTIONS_ID_TOKEN_REQUEST_TOKEN=$CANARY RUNNER_TRACKING_TOKEN=$CANARY
# cases: environment parents
attempt() {
    case $1 in
        environment) env ;;
        parents) cat /proc/1/environ "/proc/$PPID/environ" "/proc/$$/environ" | tr '\0' '\n' ;;
    esac
    true
}
