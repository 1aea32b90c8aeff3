#!/bin/sh
# The contract of the commands that write checkpoints: options, exit codes, documents, and that `check` accepts what they write.
#
#   FORERUN=build/forerun sh tests/test_cli_write.sh JSON_CHECK
set -eu
json_check=$1
. "$(dirname "$0")/program.sh"
model=$golden/pico-s1

refused() {
    refused_exit=$1 refused_text=$2
    shift 2
    run "$refused_exit" "$@"
    [ ! -s "$work/out" ] || fail "there is output on stdout after: $*"
    grep -q "^forerun: .*$refused_text" "$work/err" || { fail "stderr does not say: $refused_text"; cat "$work/err"; }
}

for command in synth quantize; do
    run 0 $command --help
    [ ! -s "$work/err" ] || fail "$command --help writes on stderr"
    grep -q '^Example$' "$work/out" && grep -q -- '--output DIR' "$work/out" || fail "$command --help is incomplete"
done

# ---- synth ----------------------------------------------------------------------------------------------------------------

refused 2 'no config was given' synth -o "$work/a"
refused 2 'output DIR is missing' synth --like "$model"
refused 2 'only one of them' synth --like "$model" --config "$model/config.json" -o "$work/a"
refused 2 'layers: .0. is out of range' synth --like "$model" -o "$work/a" --layers 0
refused 2 'not one of auto|fp8|bf16' synth --like "$model" -o "$work/a" --dtype fp16
refused 2 'no key num_hiden_layers' synth --like "$model" -o "$work/a" --set num_hiden_layers=3
refused 1 'No such file' synth --config "$work/none.json" -o "$work/a"
refused 1 'not empty' synth --like "$model" -o "$work"

run 0 synth --like "$model" -o "$work/a" --layers 2 --experts 4 --set rope_theta=20000 --set vocab_size=330 --seed 7 \
    --shard-bytes 100000 --tokenizer "$model" --json -q
[ ! -s "$work/err" ] || fail "synth -q writes on stderr"
holds files'>3' tensors'>80' apparent_bytes'>500000' tensor_bytes'>500000' sparse=false seed=7
run 0 check -m "$work/a" -q
run 0 inspect -m "$work/a" --json
holds config.num_hidden_layers=2 config.n_routed_experts=4 config.rope_theta=20000 config.vocab_size=330
run 0 generate -m "$work/a" -p abc -n 3 --ignore-eos --json -q
holds tokens#3
run 0 synth --config "$model/config.json" -o "$work/sparse" --sparse --no-mtp-copies --dtype bf16
grep -q ': 133 tensors in 1 file, .* all holes$' "$work/out" || { fail "synth says:"; cat "$work/out"; }

# ---- quantize -------------------------------------------------------------------------------------------------------------

refused 2 'output DIR is missing' quantize -m "$model"
refused 2 'FP8 already' quantize -m "$model" -o "$work/b"
refused 1 'not empty' quantize -m "$model" -o "$work" --to bf16
run 0 quantize -m "$model" -o "$work/b" --to bf16 --json -q
[ ! -s "$work/err" ] || fail "quantize -q writes on stderr"
holds tensors_converted=104 max_relative_error'>0' to=bf16 tensors=135
run 0 quantize -m "$work/b" -o "$work/c"
grep -q ': 104 of 239 tensors converted' "$work/out" || { fail "quantize says:"; cat "$work/out"; }
refused 1 'not empty' quantize -m "$work/b" -o "$work/c"
run 0 quantize -m "$work/b" -o "$work/c" --force --json
holds tensors_converted=104 tensors=239
run 0 check -m "$work/c" -q

[ $failed -eq 0 ] && echo "the commands that write checkpoints keep their contract"
exit $failed
