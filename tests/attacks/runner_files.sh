# Values for later steps, written to the runner's command files.
# claims: step-values read-step-files
# stops: supervisor
# oracle: script
# env: GITHUB_ACTIONS=true RUNNER_TEMP=$PLACE/temp GITHUB_ENV=$PLACE/temp/value GITHUB_PATH=$PLACE/temp/value GITHUB_OUTPUT=$PLACE/temp/value GITHUB_STATE=$PLACE/temp/value
# cases: GITHUB_ENV GITHUB_PATH GITHUB_OUTPUT GITHUB_STATE
stage() { mkdir -m 777 "$PLACE/temp" && install -m 666 /dev/null "$PLACE/temp/value"; }
attempt() {
    echo LD_PRELOAD=owned.so >> "${!1}"
}
reached() { grep -q owned "$PLACE/temp/value"; }
