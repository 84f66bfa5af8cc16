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
record=$(echo "$draft"/environment/lib/sparkgmm-*.dist-info/RECORD)
sed '/direct_url\.json,/d' "$record" > "$draft/record" && mv "$draft/record" "$record"
find "$draft/environment/lib" -name tests -type d -prune -exec rm -rf {} +
mkdir -p "$draft/environment/bin"
minor=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
sed "s/@MINOR@/$minor/" scripts/environment-python > "$draft/environment/bin/python"
chmod 755 "$draft/environment/bin/python"
# in Python, since touch and tar of GNU and of the BSDs differ
"$python" - "$draft" "$SOURCE_DATE_EPOCH" "sparkgmm-$version" <<'PYTHON'
import gzip, os, pathlib, shutil, sys, tarfile

draft, when, name = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
environment = draft / "environment"
for path in [environment, *environment.rglob("*")]:
    os.utime(path, (when, when), follow_symlinks=False)


def of_nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


with open(draft / "environment.tar.gz", "wb") as file:
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
            archive.add(environment, ".", filter=of_nobody)  # by their names
shutil.make_archive(str(draft / name), "zip", environment / "lib", "sparkgmm")
PYTHON

rm -f dist/sparkgmm-* dist/environment.tar.gz
mv "$draft/$wheel" "$draft/sparkgmm-$version.zip" "$draft/environment.tar.gz" dist/
ls -lh dist | awk 'NR > 1 { print $5, "dist/" $9 }'
