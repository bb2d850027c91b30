# Values for later steps, written to the runner's command file by its path.
# claims: step-values
# stops: private-run
# oracle: script
# env: GITHUB_ACTIONS=true RUNNER_TEMP=$PLACE/temp GITHUB_ENV=$PLACE/temp/value
stage() { mkdir -m 777 "$PLACE/temp" && install -m 666 /dev/null "$PLACE/temp/value"; }
attempt() { echo LD_PRELOAD=owned.so >> "$PLACE/temp/value"; }
reached() { grep -q owned "$PLACE/temp/value"; }
