#!/usr/bin/env bash
# Makes .venv from the lock files. `make setup` calls it; nothing else is installed by hand.
#   scripts/setup.sh [environment, default .venv] [lock file, default requirements.lock]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
lock=${2:-requirements.lock}

supported() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if supported "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "error: Python 3.11 or newer (with venv) is needed, found $(python3 --version 2>&1): install it, or name it with PYTHON=/path/to/python3.12 make setup" >&2
    exit 2
fi

echo "making $venv with $("$python" --version) (once; pyspark is some 450 MB)"
rm -rf "$venv"
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq install)
"${pip[@]}" --require-hashes -r requirements-build.lock
"${pip[@]}" --require-hashes --no-build-isolation -r "$lock"
"${pip[@]}" --no-deps --no-build-isolation --editable .
# spark-submit by its path, with no environment activated, uses this Spark and this Python.
cp scripts/spark-submit "$venv/bin/spark-submit"
touch "$venv/ready"
