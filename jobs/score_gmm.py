"""Score rows by a fitted mixture: spark-submit jobs/score_gmm.py --config conf/score.yaml."""

import sys

from sparkgmm.runs.cli import score_main

if __name__ == "__main__":
    sys.exit(score_main())
