#!/bin/bash
# Installs servers from Debian's packages and starts none of them:
#
#   install-servers.sh               what the tests run against: RabbitMQ, Redis, MariaDB, nginx,
#                                    the build tools of MySQL's Python client, and Chromium
#   install-servers.sh PACKAGE...    these
#
# Where it may not install, it says what is missing and ends with exit status 0: tests without
# their server are skipped, and `chatbus up` names the server that it needs.
set -euo pipefail

PACKAGES=(rabbitmq-server redis-server mariadb-server libmariadb-dev pkg-config gcc python3-dev
    nginx chromium-headless-shell)
NEEDED_BY="the tests"
if [ $# -gt 0 ]; then
    PACKAGES=("$@")
    NEEDED_BY="chatbus up"
fi
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
    echo "No Debian packages here; install this yourself for $NEEDED_BY: ${PACKAGES[*]}"
    exit 0
fi
mapfile -t wanted < <(missing)
if [ ${#wanted[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Not installed, but needed by $NEEDED_BY: ${wanted[*]}"
    echo "To install: sudo $0 $*"
    exit 0
fi
echo "Installing for $NEEDED_BY: ${wanted[*]}"
forbid_services
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends "${wanted[@]}" >/dev/null; }; then
    echo "Not installed (see above): ${wanted[*]}"
fi
