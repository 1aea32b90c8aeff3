#!/bin/sh
# The whole recipe: corpus, tokenizer, training, export, evaluation.
#
#   sh tools/train/run.sh WORK MODEL_DIR      e.g. /tmp/demo-train models/demo
set -eu
work=$1 model=$2
here=$(dirname "$0")
python=${PYTHON:-/usr/bin/python3}

# One thread a worker; and keep freed memory, for fresh pages cost a third of the time.
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=67108864

$python "$here/corpus.py" "$work/corpus"
$python "$here/tokenizer.py" "$work/corpus" "$model"
$python "$here/heldout.py" "$work/corpus" "$model"
$python "$here/train.py" "$work/corpus" "$work/run" --steps 2000
$python "$here/export.py" "$work/run/checkpoint.pt" "$model"
$python "$here/evaluate.py" "$model"
