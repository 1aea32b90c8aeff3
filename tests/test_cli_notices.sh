#!/bin/sh
# Nothing is assumed in silence: what a checkpoint leaves out or contradicts is one line on stderr and one entry of `notices` in the
# document of every command.
#
#   FORERUN=build/forerun sh tests/test_cli_notices.sh JSON_CHECK
set -eu
json_check=$1
. "$(dirname "$0")/program.sh"
sound=$golden/pico-mtp-s1 odd=$work/odd

# lines N: how many notices are on stderr.
lines() {
    found=$(grep -c '^notice: ' "$work/err") || true
    [ "$found" -eq "$1" ] || { fail "$found lines of notices on stderr, expected $1"; cat "$work/err"; }
}

# every NAME DIR HOLDS...: runs each command on a checkpoint; its document is held to HOLDS.
every() {
    dir=$1
    shift
    rm -rf "$work/written"
    for command in 'generate -p abc -n 3' 'score -p abc' 'tokenize -p abc' 'tokenize --decode 5,6' inspect check \
        'accept --prompt-tokens 5,6,7 -n 6 --depth 1' 'ab --prompt-tokens 5,6,7 -n 6 --arms off,on --repeats 1 --warm-up 0 --no-noise-check' \
        'bench --only linear --rows 1 --seconds 0.001' "quantize --to bf16 -o $work/written"; do
        # shellcheck disable=SC2086
        run 0 $command -m "$dir" -t 1 --json
        lines "$notices"
        holds "$@"
    done
    rm -rf "$work/written"
    run 0 synth --like "$dir" -o "$work/written" --json
    lines "$notices"
    holds "$@"
}

notices=0
every "$sound" 'notices#0'

cp -r "$sound" "$odd"
sed -e '/"routed_scaling_factor"/d' -e 's/"eos_token_id": 1/"eos_token_id": [1, 999]/' "$sound/config.json" >"$odd/config.json"
cmp -s "$sound/config.json" "$odd/config.json" && fail "the config was not changed"
notices=2
every "$odd" 'notices#2' 'notices.0.what=config.json' \
    'notices.0.why=eos_token_id 999 is beyond vocab_size 320, and no token: left out' \
    'notices.1.why=keys that are absent are taken as deepseek_v3 has them: routed_scaling_factor 2.5'
grep -q '^notice: config.json: eos_token_id 999 is beyond' "$work/err" || fail "stderr does not say it in words"
run 0 generate -m "$odd" -p abc -n 3 -q
[ ! -s "$work/err" ] || fail "generate -q prints notices"
run 0 inspect --config "$odd/config.json" --json -q
holds 'notices#2'
printf '/quit\n' | "$FORERUN" chat -m "$odd" >"$work/out" 2>"$work/err" || true
lines 2

# What was assumed is told where it may be why a model cannot be used.
sed '/"kv_lora_rank"/d' "$sound/config.json" >"$odd/config.json"
run 1 generate -m "$odd" -p abc -n 3
lines 1
grep -q '^notice: config.json: keys that are absent .*: kv_lora_rank 512' "$work/err" || fail "generate does not tell"
sed '/"num_experts_per_tok"/d' "$sound/config.json" >"$odd/config.json"
run 1 inspect -m "$odd"
grep -q '^hint: config.json: keys that are absent .*: num_experts_per_tok 8' "$work/err" || fail "inspect does not tell"

exit $failed
