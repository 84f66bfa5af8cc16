#!/usr/bin/env bash
# Standalone: the driver runs here, the workers need Spark and Python 3.11. After `make dist`, from the checkout:
#   MASTER=spark://host:7077 CONF=trips.yaml conf/deploy/standalone.sh [--set model.k=3 ...]
exec spark-submit \
    --master "${MASTER:-spark://host:7077}" \
    --archives dist/environment.tar.gz#environment \
    --conf spark.pyspark.python=./environment/bin/python \
    --conf spark.pyspark.driver.python="${DRIVER_PYTHON:-.venv/bin/python}" \
    --executor-memory "${EXECUTOR_MEMORY:-1g}" \
    jobs/fit_gmm.py --config "${CONF:-conf/deploy/trips.yaml}" "$@"
