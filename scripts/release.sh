#!/usr/bin/env bash
# Walks the checklist of a release and stops at the first thing that is not right.
#   scripts/release.sh [--dry-run]     --dry-run does all but the tag
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "error: $1" >&2; exit 2; }

[ -x .venv/bin/python ] || fail "there is no .venv: run make setup"
version=$(.venv/bin/python -c 'from sparkgmm.version import __version__; print(__version__)')
echo "1. version $version"
git rev-parse -q --verify "refs/tags/v$version" >/dev/null && fail "tag v$version exists: raise the version in src/sparkgmm/version.py"
[ -z "$(git status --porcelain)" ] || fail "the tree has changes: commit them first"

echo "2. changelog"
grep -qE "^## $version - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md || fail "CHANGELOG.md has no dated entry '## $version - YYYY-MM-DD'"

echo "3. build"
make dist >/dev/null
wheel=$(ls dist/sparkgmm-"$version"-*.whl)

echo "4. the wheel in an empty environment"
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
.venv/bin/python -m venv "$empty/venv"
"$empty/venv/bin/python" -m pip --disable-pip-version-check -qq install --require-hashes -r requirements-build.lock
"$empty/venv/bin/python" -m pip --disable-pip-version-check -qq install --require-hashes --no-build-isolation -r requirements-run.lock
"$empty/venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps "$wheel"
(cd "$empty" && venv/bin/python - "$version" <<'PYTHON'
import sys
import numpy as np
import sparkgmm
assert sparkgmm.__version__ == sys.argv[1], sparkgmm.__version__
X = np.r_[np.random.default_rng(0).normal(0, 1, (200, 2)), np.random.default_rng(1).normal(9, 1, (100, 2))]
found = sparkgmm.fit_array(X, 2)
assert found.converged and abs(found.mixture.weights[0] - 2 / 3) < 0.02, found
PYTHON
)
"$empty/venv/bin/sparkgmm-fit" --version

echo "5. tag v$version"
if [ "${1:-}" = --dry-run ]; then
    echo "   not set (--dry-run)"
else
    git tag -a "v$version" -m "sparkgmm $version"
fi
