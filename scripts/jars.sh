#!/usr/bin/env bash
# Fetches pinned jars for the tests of storage by Maven, into a folder that git ignores.
#   scripts/jars.sh NAME           tests/storage/jars/NAME/pom.xml -> build/jars/NAME/*.jar
#   scripts/jars.sh --lock NAME    writes the checksums anew, after a change of the pom
# The pom names the coordinates, sha256sums beside it the content: a jar that is another fails.
set -euo pipefail
cd "$(dirname "$0")/.."
# GNU's, or what macOS and the BSDs have in its place
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
lock=
if [ "$1" = --lock ]; then lock=yes; shift; fi
name=$1
pinned=tests/storage/jars/$name
target=build/jars/$name
rm -rf "$target" && mkdir -p "$target"
mvn --batch-mode --quiet -f "$pinned/pom.xml" dependency:copy-dependencies -DoutputDirectory="$PWD/$target"
cd "$target"
if [ -n "$lock" ]; then
    sha256 -- *.jar > "$OLDPWD/$pinned/sha256sums"
else
    checked=$(sha256 --check "$OLDPWD/$pinned/sha256sums" 2>&1) || { grep -v ': OK$' <<< "$checked" >&2; exit 1; }
    # nothing beside what is pinned
    diff <(ls -- *.jar) <(awk '{ print $2 }' "$OLDPWD/$pinned/sha256sums" | LC_ALL=C sort) >/dev/null \
        || { echo "error: $target holds other jars than $pinned/sha256sums names" >&2; exit 1; }
fi
touch ready
