#!/usr/bin/env bash
# One night: fit the rows of a day, score them by the new model, hand the figures to Prometheus.
#   conf/schedule/nightly.sh [YYYY-MM-DD, default yesterday in UTC]
# A day that is done already is left alone; one that was interrupted goes on after its last pass.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
day=${1:-$(date -u -d yesterday +%F 2>/dev/null || date -u -v-1d +%F)}  # GNU, BSD
input=${INPUT:-data/faithful.csv}       # {day} in it is replaced by the day
output=${OUTPUT:-runs/nightly}
scored=${SCORED:-scored/nightly}
submit=("${SPARK_SUBMIT:-.venv/bin/spark-submit}" --master "${MASTER:-local[*]}")
input=${input//\{day\}/$day}

# A job that something killed is started again, twice at most; codes 2 to 5 would come again.
attempt() {
    local code
    for _ in 1 2 3; do
        "${submit[@]}" "$@"
        code=$?
        case $code in 0|2|3|4|5) return "$code" ;; esac
    done
    return "$code"
}

attempt jobs/fit_gmm.py --config conf/nightly.yaml --log-format json --set "input.path=$input" \
    --set "output.path=$output" --set "model.warm_start=$output" --set "output.run_id=$day" || exit
if [ -n "${TEXTFILES:-}" ]; then  # the folder of node_exporter's textfile collector
    cp "$output/$day/metrics.prom" "$TEXTFILES/sparkgmm.prom.$$" && mv "$TEXTFILES/sparkgmm.prom.$$" "$TEXTFILES/sparkgmm.prom"
fi
attempt jobs/score_gmm.py --config conf/schedule/nightly-score.yaml --log-format json \
    --set "input.path=$input" --set "model=$output/$day" --set "output.path=$scored/date=$day"
