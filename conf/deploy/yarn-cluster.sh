#!/usr/bin/env bash
# YARN, cluster mode: the driver is in a container too, is started again when it dies, and goes on after its last pass.
exec spark-submit \
    --master yarn \
    --deploy-mode cluster \
    --archives dist/environment.tar.gz#environment \
    --conf spark.pyspark.python=./environment/bin/python \
    --conf spark.yarn.maxAppAttempts=3 \
    --files conf/deploy/trips.yaml \
    --driver-memory 4g \
    --num-executors 8 \
    --executor-cores 4 \
    --executor-memory 1g \
    --conf spark.executor.memoryOverhead=3g \
    jobs/fit_gmm.py --config trips.yaml --log-format json "$@"
