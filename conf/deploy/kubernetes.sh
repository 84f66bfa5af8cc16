#!/usr/bin/env bash
# Kubernetes by spark-submit, with the image of conf/deploy/Dockerfile; the configuration is mounted from
#   kubectl create configmap trips --from-file conf/deploy/trips.yaml
# by the pod template.
exec spark-submit \
    --master k8s://https://host:6443 \
    --deploy-mode cluster \
    --name trips \
    --conf spark.kubernetes.namespace=spark \
    --conf spark.kubernetes.authenticate.driver.serviceAccountName=spark \
    --conf spark.kubernetes.container.image=registry.example.com/sparkgmm:0.1.0 \
    --conf spark.kubernetes.driver.podTemplateFile=conf/deploy/kubernetes-driver.yaml \
    --conf spark.kubernetes.memoryOverheadFactor=0.4 \
    --conf spark.kubernetes.executor.volumes.emptyDir.spark-local-dir-blocks.mount.path=/blocks \
    --conf spark.kubernetes.executor.volumes.emptyDir.spark-local-dir-blocks.options.sizeLimit=50Gi \
    --driver-memory 4g \
    --num-executors 8 \
    --executor-cores 4 \
    --executor-memory 1g \
    --conf spark.executor.memoryOverhead=3g \
    local:///opt/sparkgmm/jobs/fit_gmm.py --config /etc/sparkgmm/trips.yaml --log-format json "$@"
