#!/bin/sh
# Text on the command line: tokenizers of every kind, and what runs without one.
#
#   FORERUN=build/forerun sh tests/test_cli_text.sh JSON_CHECK
set -eu
json_check=$1
[ -x "$FORERUN" ] && [ -x "$json_check" ] || { echo "there is no program at $FORERUN, or no $json_check"; exit 1; }
golden=$(cd "$(dirname "$0")" && pwd)/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# run EXIT COMMAND...: stdout is $work/out, stderr $work/err.
run() {
    expected=$1 code=0
    shift
    "$FORERUN" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" -eq "$expected" ] || { fail "$*: exit $code, expected $expected"; cat "$work/err"; }
}
says() { grep -q -F -e "$1" "$work/err" || { fail "stderr does not say: $1"; cat "$work/err"; }; }
prints() { [ "$(cat "$work/out")" = "$1" ] || { fail "stdout is '$(cat "$work/out")', expected '$1'"; }; }

# A model of 320 ids with the tokenizer of bytes alone that follows.
model=$work/model
mkdir "$model"
cp "$golden"/pico-s1/*.safetensors* "$golden"/pico-s1/*config.json "$model"

# ---- A tokenizer that cannot be used: only those who need text mind ----------------------------------------------------

sed 's/\[!\\\\\\"#/[\&\&a]&/' "$golden/pico-s1/tokenizer.json" >"$model/tokenizer.json"
cmp -s "$golden/pico-s1/tokenizer.json" "$model/tokenizer.json" && fail 'the pattern is not broken'
run 0 generate -m "$model" -t 1 --prompt-tokens 5,6,7 -n 2
run 0 score -m "$model" -t 1 --prompt-tokens 5,6,7
run 0 bench -m "$model" -t 1 --only passes --rows 1 --seconds 0.001
run 1 generate -m "$model" -t 1 -p hello -n 2
says 'notice: tokenizer: it cannot be used'
says 'intersection'
says 'tokenizer.json'
run 1 tokenize -m "$model" -p hello
says 'intersection'

# ---- tiktoken.model --------------------------------------------------------------------------------------------------------

rm "$model"/tokenizer*.json
awk 'BEGIN {
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for (b = 0; b < 256; b++) printf "%s%s== %d\n", substr(digits, int(b / 4) + 1, 1), substr(digits, b % 4 * 16 + 1, 1), b
    print "aGU= 256" # he
}' >"$model/tiktoken.model"
printf '{"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": {"257": {"content": "[BOS]"}}}' >"$model/tokenizer_config.json"
run 0 tokenize -m "$model" -p 'he[BOS]<|reserved_token_258|>'
prints 256,257,258
run 0 tokenize -m "$model" --decode 256,257,33 --with-special
prints 'he[BOS]!'
run 0 generate -m "$model" -t 1 -p hehe -n 2
run 0 synth --like "$model" -o "$work/copy" --tokenizer "$model"
run 0 tokenize -m "$work/copy" -p he
prints 256

exit "$failed"
