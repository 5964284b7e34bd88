#!/bin/bash
# Writes the files beside it: all packages of an install, at the versions of constraints.txt, with
# the hashes of their files for every platform.
set -euo pipefail
cd "$(dirname "$0")/.."

# lock NAME REQUIREMENT
lock() {
    {
        echo "# $2: made by \`make lock\`"
        uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
            --no-header --no-annotate --no-emit-package chatbus --constraints constraints.txt - \
            <<<"$2"
    } >"requirements/$1.new"
    mv "requirements/$1.new" "requirements/$1.txt"
}

lock build "setuptools>=77"
# What `make run`, `make test` and `make bench-fanout` install.
lock run ".[all,embedded]"
lock dev ".[dev]"
lock mysql ".[mysql]"
lock bench ".[bench]"
# What the targets of deploy/Dockerfile install.
lock web ".[web,mysql]"
for process in mongo_writer redis_publisher bridge gateway; do
    lock "$process" ".[$process]"
done
