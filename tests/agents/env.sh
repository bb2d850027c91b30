if env | grep -q runtime-canary; then echo 'runtime token seen'; else echo 'no runtime token'; fi
if [[ -n "${FOR_THE_SCRIPT:-}" ]]; then echo 'own variable seen'; fi
if env | grep -q '^INPUT_'; then echo 'inputs seen'; fi
curl -fsS http://allowed.test/ > /dev/null
curl -s http://denied.test/ > /dev/null
