#!/usr/bin/env bash
# YARN, client mode: the driver runs here, which suits a person at a terminal.
exec spark-submit \
    --master yarn \
    --deploy-mode client \
    --archives dist/environment.tar.gz#environment \
    --conf spark.pyspark.python=./environment/bin/python \
    --conf spark.pyspark.driver.python=.venv/bin/python \
    --num-executors 8 \
    --executor-cores 4 \
    --executor-memory 1g \
    --conf spark.executor.memoryOverhead=3g \
    jobs/fit_gmm.py --config conf/deploy/trips.yaml "$@"
