#!/bin/sh
# The contract of `forerun accept`: keys, the files it writes, what it refuses, and that an interrupted study prints what was
# measured.
#
#   FORERUN=build/forerun sh tests/test_cli_accept.sh JSON_CHECK
set -eu
json_check=$1
. "$(dirname "$0")/program.sh"
model=$golden/pico-mtp-s1
says() { grep -q -e "$1" "$work/err" || { fail "stderr does not say: $1"; cat "$work/err"; }; }
shows() { grep -q -e "$1" "$work/out" || { fail "stdout does not show: $1"; cat "$work/out"; }; }
refused() { # refused EXIT TEXT ARGUMENTS...
    refused_exit=$1 refused_text=$2
    shift 2
    run "$refused_exit" accept -m "$model" "$@"
    [ ! -s "$work/out" ] || fail "there is output on stdout after: $*"
    says "^forerun: "
    says "$refused_text"
}
cat >"$work/p.jsonl" <<'END'
{"id": "one", "domain": "x", "prompt": "Once upon a time"}
{"id": "two", "domain": "y", "prompt": "The end", "max_tokens": 12}
{"id": "three", "domain": "x", "tokens": [1, 2, 3, 4, 5, 6]}
END

run 0 accept --help
grep -q '^Example$' "$work/out" && grep -q -- '--teacher-forced' "$work/out" || fail "accept --help is incomplete"

# ---- Documents --------------------------------------------------------------------------------------------------------

run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 24 --depth 2 --ignore-eos --json -q --html "$work/r.html" --csv "$work/r.csv"
[ ! -s "$work/err" ] || fail "stderr is not empty with --quiet"
holds schema=forerun.accept/1 complete=true created:string command.0=forerun command.1=accept environment.model.path="$model" \
    environment.threads:number environment.options.max_tokens=24 prompts.count=3 \
    speculative_decoding.num_drafts'>0' speculative_decoding.num_cycles'>0' speculative_decoding.num_draft_tokens'>0' \
    speculative_decoding.num_accepted_tokens:number speculative_decoding.acceptance_rate:number \
    speculative_decoding.mean_acceptance_length:number speculative_decoding.per_position_acceptance_rate#2 \
    speculative_decoding.conditional_acceptance_rate#2 speculative_decoding.depth_histogram#3 \
    speculative_decoding.unique_experts_per_pass.mean:number speculative_decoding.draft_s:number \
    speculative_decoding.verify_s:number speculative_decoding.sample_s'>0' speculative_decoding.rollback_s:number \
    speculative_decoding.verify_bytes'>0' speculative_decoding.draft_bytes'>0' domains#2 domains.0.domain=x domains.0.prompts=2 domains.1.domain=y \
    domains.1.tokens=12 domains.0.acceptance_rate:number domains.0.positions#2 calibration.ece:number calibration.bins#10 \
    configurations#1 configurations.0.name='depth 2' configurations.0.mode=generated configurations.0.depth=2 \
    configurations.0.positions#2 configurations.0.positions.0.rate_ci95=null configurations.0.results#3 \
    configurations.0.context:array configurations.0.rejected_tokens:array expert_overlap.mean:number
[ "$(value speculative_decoding)" = "$(value configurations.0.speculative_decoding)" ] ||
    fail "the first configuration is not what is at the top level"
[ "$(value speculative_decoding.num_drafts)" = "$(value configurations.0.positions.0.drafted)" ] ||
    fail "cycles that drafted are not the drafts at position 1"
grep -q '^<!doctype html>\|^<!DOCTYPE html>' "$work/r.html" && [ "$(wc -l <"$work/r.csv")" -gt 3 ] || fail "--html or --csv"
first=$(value speculative_decoding.num_accepted_tokens)

# The cycles are those that generate counts for the same prompt.
run 0 generate -m "$model" -p 'Once upon a time' -n 24 --mtp on --depth 2 --ignore-eos --json -q
generated=$(value speculative_decoding.per_position_acceptance_rate)
printf '{"prompt": "Once upon a time"}' >"$work/one.jsonl"
run 0 accept -m "$model" --prompts "$work/one.jsonl" -n 24 --depth 2 --ignore-eos --json -q
holds speculative_decoding.per_position_acceptance_rate="$generated" configurations.0.acceptance_rate_ci95=null

# The table of rejected tokens shows their text, and a terminal must not obey it: the model's own vocabulary, with the byte DEL in
# the place of a token that is rejected.
run 0 accept -m "$model" --prompt-tokens 5,6,7 -n 32 --depth 2 --ignore-eos -t 1 --json -q
rejected=$(value configurations.0.rejected_tokens.0.token)
mkdir "$work/del"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/del/"; done
delete=$(sed -n 's/^ *"\xC4\xA1": \([0-9]*\),*$/\1/p' "$model/tokenizer.json")
sed "s/: $rejected\(,*\)\$/: SWAP\1/; s/: $delete\(,*\)\$/: $rejected\1/; s/: SWAP/: $delete/" "$model/tokenizer.json" >"$work/swapped"
mv -f "$work/swapped" "$work/del/tokenizer.json"
run 0 accept -m "$work/del" --prompt-tokens 5,6,7 -n 32 --depth 2 --ignore-eos -t 1 -q
grep -q 'rejected most often: "?" (' "$work/out" || fail "the rejected token is not shown as one that cannot be printed"
! tr -d '\n' <"$work/out" | LC_ALL=C grep -q '[[:cntrl:]]' || fail "accept prints control characters"

# -n limits every prompt; without it each prompt's own limit counts.
run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 8 --ignore-eos --json -q
holds configurations.0.results.0.tokens=8 configurations.0.results.1.tokens=8 environment.options.max_tokens=8
run 0 accept -m "$model" --prompts "$work/p.jsonl" --ignore-eos --json -q
holds configurations.0.results.0.tokens=128 configurations.0.results.1.tokens=12 environment.options.max_tokens=null

# A grid of configurations; the same seed gives the same counts.
run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 24 --depths 2,1 --ignore-eos --json -q --mtp-hidden both --mtp-recycle both
holds configurations#6 configurations.0.depth=2 speculative_decoding.num_accepted_tokens="$first" \
    configurations.0.mtp_hidden=post configurations.0.mtp_recycle=post configurations.5.mtp_hidden=pre environment.options.mtp_recycle=both
run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 24 --depth 3 --ignore-eos --json -q --mtp-recycle all --html "$work/all.html"
holds configurations#3 configurations.1.mtp_recycle=pre configurations.2.mtp_recycle=pinned environment.options.mtp_recycle=all
grep -q 'reads post, pinned' "$work/all.html" || fail 'the page leaves an arm of the ablation out'
run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 8 --temperatures 0,0.5 --verify both --json -q --most-prompts 2
holds configurations#3 configurations.2.verify=rejection configurations.2.temperature=0.5 prompts.count=2

run 0 accept -m "$model" --prompts "$work/p.jsonl" --teacher-forced --depth 2 --json -q
holds configurations.0.mode=teacher-forced configurations.0.along_cycles.num_cycles'>0' speculative_decoding.num_drafts'>5' \
    speculative_decoding.draft_s=null speculative_decoding.verify_bytes=null
run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 16 --drafter ngram --json -q
holds configurations.0.drafter=ngram
run 0 accept -m "$model" --prompt-tokens 1,2,3 -n 4 --json -q --logit-bias 5=-inf,6=0.5
holds prompts.count=1 configurations.0.results.0.tokens=4 environment.options.logit_bias.5=-inf environment.options.logit_bias.6=0.5

# The demo model's path is relative to the working directory where it lies below.
program=$(cd "$(dirname "$FORERUN")" && pwd)/$(basename "$FORERUN")
if [ -e "$golden/../../models/demo/config.json" ]; then
    (cd "$golden/../.." && "$program" accept --most-prompts 1 -n 4 --json -q </dev/null >"$work/out") || fail "the demo model, from above"
    holds environment.model.path=models/demo environment.options.prompts=models/demo/prompts.jsonl command.0=forerun
    (cd "$work" && "$program" accept --prompt-tokens 1,2 -n 2 --json -q </dev/null >out) || fail "the demo model, from elsewhere"
    case $(value environment.model.path) in */models/demo | '"/'*/models/demo'"') ;; *) fail "$(value environment.model.path)" ;; esac
fi

# ---- The table ----------------------------------------------------------------------------------------------------------

run 0 accept -m "$model" --prompts "$work/p.jsonl" -n 24 --depth 2 --ignore-eos
if grep -qv '^memory: ' "$work/err"; then fail "there is a progress bar on what is no terminal"; fi
shows '^3 prompts, texts generated'
shows '^ *2 .* %'
shows 'confidence of a draft'
shows '^3 prompts, texts generated; mtp; no chat template'
shows '^There are no intervals: they are over prompts, and of 3 that drafted they cannot be told; 5 are needed.'
if grep -q 'every position' "$work/out"; then fail "generated texts are shown as teacher-forced ones"; fi
if LC_ALL=C grep -q "$(printf '\033\\|\r')" "$work/out"; then fail "escapes in a pipe"; fi

run 0 accept -m "$model" --prompts "$work/p.jsonl" --teacher-forced --depth 2
shows '^tables count every position'
shows '% of drafts were accepted, mean length [12]'

# ---- Refusals -----------------------------------------------------------------------------------------------------------

refused 2 'none were given'
refused 2 'expected 1 to 7' --prompts "$work/p.jsonl" --depths 1,8
refused 2 'expected numbers' --prompts "$work/p.jsonl" --temperatures 0,,1
refused 2 'expected numbers' --prompts "$work/p.jsonl" --temperatures 0,warm
refused 2 'only one of' --prompts "$work/p.jsonl" --prompt-tokens 1
refused 1 "$work/none" --prompts "$work/none"
printf '{"prompt": "a"}\n{"domain": "x"}\n' >"$work/bad.jsonl"
refused 1 "$work/bad.jsonl:2: expected \"prompt\" or \"tokens\", found neither" --prompts "$work/bad.jsonl"
refused 1 'do not fit in a context of 3' --prompts "$work/p.jsonl" --ctx 3
refused 1 'teacher-forced' --prompts "$work/p.jsonl" --teacher-forced --drafter ngram

# ---- Interruption ---------------------------------------------------------------------------------------------------------

# The signal may come before the study begins (then there is no document) or, on a fast machine, after its end: then try again.
for seconds in 1 2 4 8; do
    "$FORERUN" accept -m "$golden/nano-mtp-s1" --prompt-tokens 1,2,3 -n 2000 --depths 1,2,3,4,5,6,7 --temperatures 0,1,2,3 \
        --mtp-hidden both --ignore-eos -t 1 --isa scalar --json >"$work/out" 2>"$work/err" &
    process=$!
    sleep "$seconds"
    kill -INT "$process" 2>/dev/null || true
    code=0
    wait "$process" || code=$?
    [ ! -s "$work/out" ] || break
done
[ "$code" -eq 130 ] || fail "interrupted: exit $code"
holds complete=false configurations.0.name:string configurations.55.complete=false speculative_decoding.num_cycles:number

[ "$failed" -eq 0 ] && echo "accept keeps its contract"
exit "$failed"
