#!/usr/bin/env bash
# Builds what a cluster needs into dist/:
#   sparkgmm-*.whl           to install, or for a wheel task
#   sparkgmm-*.zip           the package alone, for --py-files where the cluster has the dependencies
#   environment.tar.gz       all dependencies but Spark, for --archives, where it has nothing but Python
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
pip=("$python" -m pip --disable-pip-version-check -q)
version=$("$python" -c 'from sparkgmm.version import __version__; print(__version__)')
draft=$(mktemp -d)
trap 'rm -rf "$draft"' EXIT
mkdir -p dist
# The same commit gives the same bytes: files carry its time, and names and owners of nobody.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
rm -rf build/lib build/bdist.*  # what an earlier build left would go into the wheel

"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$draft" .
wheel=$(basename "$draft"/sparkgmm-*.whl)

"${pip[@]}" install --no-compile --target "$draft/environment/lib" --require-hashes --no-deps -r requirements-run.lock
"${pip[@]}" install --no-compile --target "$draft/environment/lib" --no-deps "$draft/$wheel"
rm -rf "$draft/environment/lib/bin" "$draft/environment/lib/pyarrow/include"
# pip notes the folder that it installed from, which is gone by the end
rm -f "$draft"/environment/lib/*.dist-info/direct_url.json
sed -i '/direct_url\.json,/d' "$draft"/environment/lib/sparkgmm-*.dist-info/RECORD
find "$draft/environment/lib" -name tests -type d -prune -exec rm -rf {} +
mkdir -p "$draft/environment/bin"
minor=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
sed "s/@MINOR@/$minor/" scripts/environment-python > "$draft/environment/bin/python"
chmod 755 "$draft/environment/bin/python"
find "$draft/environment" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
tar --sort=name --owner=0 --group=0 --numeric-owner -cf - -C "$draft/environment" . \
    | gzip -n > "$draft/environment.tar.gz"

"$python" -c "import shutil; shutil.make_archive('$draft/sparkgmm-$version', 'zip', '$draft/environment/lib', 'sparkgmm')"

rm -f dist/sparkgmm-* dist/environment.tar.gz
mv "$draft/$wheel" "$draft/sparkgmm-$version.zip" "$draft/environment.tar.gz" dist/
ls -lh dist | awk 'NR > 1 { print $5, "dist/" $9 }'
