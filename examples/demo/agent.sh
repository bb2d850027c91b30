#!/usr/bin/env bash
# An ordinary agent. The agent has no configuration for a proxy, a boundary, or a policy.
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy

echo "curl, a name on the list:"
curl --silent --show-error http://allowed.test/

echo "curl, any other name:"
curl --silent --show-error --write-out '%{http_code}\n' http://denied.test/

echo "python3, both:"
python3 - <<'PYTHON'
import urllib.error
import urllib.request

for host in ("allowed.test", "denied.test"):
    try:
        print(host, urllib.request.urlopen(f"http://{host}/").read().decode().strip())
    except urllib.error.HTTPError as error:
        print(host, error.code, error.read().decode().strip())
PYTHON

echo "bash, an address and no name at all:"
if exec 3<>/dev/tcp/198.51.100.20/22 && read -r -t 2 line <&3; then
  echo "reached: $line"
else
  echo "not reached"
fi
