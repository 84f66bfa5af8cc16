#!/usr/bin/env bash
# Keeps the classes that a job loads (the JVM's class data sharing), so that the next JVM starts in
# half the time. The suites that start a hundred of them use it (tests/conftest.py); make calls it.
#   scripts/class_archive.sh .venv
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "keeping the classes of a job in $environment/classes.jsa"
if ! SPARK_SUBMIT_OPTS="-XX:ArchiveClassesAtExit=$PWD/$environment/classes.jsa -Xlog:disable" \
    "$environment/bin/spark-submit" --master 'local[1]' --conf spark.ui.enabled=false \
    --driver-java-options "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" \
    jobs/fit_gmm.py --config conf/faithful.yaml --set output.path="$scratch/runs" --set output.report=false \
    >"$scratch/out" 2>&1; then
    cat "$scratch/out" >&2
    exit 1
fi
