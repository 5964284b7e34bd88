#!/bin/bash
# Installs what the tests run against, from Debian's packages: RabbitMQ, Redis, MariaDB, the
# build tools of MySQL's Python client, and Chromium. Starts none of them. Where it may not
# install, it says what is missing; those tests are then skipped.
set -euo pipefail

PACKAGES=(rabbitmq-server redis-server mariadb-server libmariadb-dev pkg-config gcc python3-dev chromium)
POLICY=/usr/sbin/policy-rc.d

missing() {
    local package
    for package in "${PACKAGES[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            echo "$package"
        fi
    done
}

# Keeps apt from starting the servers that it installs (invoke-rc.d(8)).
forbid_services() {
    if [ ! -e "$POLICY" ]; then
        trap 'rm -f "$POLICY"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod +x "$POLICY"
    fi
}

if ! command -v dpkg-query >/dev/null; then
    echo "No Debian packages here; install these servers yourself for all tests: ${PACKAGES[*]}"
    exit 0
fi
mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Not installed: ${wanted[*]}"
    echo "The tests that need them are skipped. To install: sudo $0"
    exit 0
fi
echo "Installing for the tests: ${wanted[*]}"
forbid_services
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends "${wanted[@]}" >/dev/null; }; then
    echo "They could not be installed (see above). The tests that need them are skipped."
fi
