#!/bin/sh
# The contract of `forerun ab`: keys, exit codes, tables, files, what an interrupt leaves. No speed is tested.
#
#   FORERUN=build/forerun sh tests/test_cli_ab.sh JSON_CHECK
set -eu
json_check=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/program.sh"
model=$golden/pico-mtp-s1
cat >"$work/prompts.jsonl" <<'END'
{"id": "a", "domain": "x", "tokens": [1, 5, 9, 13]}
{"id": "b", "domain": "y", "tokens": [7, 8, 9, 10, 11]}
{"id": "c", "domain": "x", "tokens": [20, 30, 40]}
{"id": "d", "domain": "y", "tokens": [2, 4]}
{"id": "e", "domain": "y", "tokens": [6]}
END
ab() {
    expected=$1
    shift
    run "$expected" ab -m "$model" -t 1 --prompts "$work/prompts.jsonl" "$@"
}
refused() {
    text=$1
    shift
    ab 2 "$@"
    [ ! -s "$work/out" ] || fail "there is output on stdout after: $*"
    grep -q "^forerun: .*$text" "$work/err" || { fail "stderr does not say: $text"; cat "$work/err"; }
}

# ---- Help and wrong usage ---------------------------------------------------------------------------------------------------

run 0 ab --help
for text in '^Example$' '^What to measure$' '^How to measure$' '^Speculation$' '  --synthetic-acceptance P' '  --compare OLD.json'; do
    grep -q -- "$text" "$work/out" || fail "--help does not say: $text"
done
refused "no arm 'fast'" --arms off,fast
refused "no arm 'on:8'" --arms on:8
refused "no arm 'off:2'" --arms off:2
refused "no arm ''" --arms off,
refused 'two arms on:2' --arms on:2,on:2
refused "'1.5' is not a number from 0 to 1" --synthetic-acceptance 0,1.5
refused "'x' is not a number" --synthetic-acceptance x
refused 'only one of' --prompt-tokens 1,2
refused 'rejection' --synthetic-acceptance 0.5 --verify rejection --temperature 1
refused 'repeats' --repeats 0
run 2 ab -m "$model"
grep -q 'prompts.jsonl' "$work/err" || fail "it does not say where prompts would be"
ab 1 --compare "$work/none.json"
ab 1 --from "$work/none.json"
grep -q 'none.json: cannot read: No such file' "$work/err" || fail "it does not say why there is no document"
printf '{"schema": "forerun.ab/1"}\0' >"$work/nul.json"
ab 1 --from "$work/nul.json"
grep -q 'NUL byte' "$work/err" || fail "a document with a NUL byte is read"

# ---- A run ------------------------------------------------------------------------------------------------------------------

ab 0 -n 12 --ignore-eos --arms on:2,off,auto --depth 2 --synthetic-acceptance 0,1 --json -q --html "$work/report.html" \
    --csv "$work/report.csv" --cool-off 0.01
[ ! -s "$work/err" ] || fail "-q: stderr is not empty"
holds schema=forerun.ab/1 created:string command:array command.0=forerun command.1=ab environment.threads=1 environment.seed=0 \
    environment.model.fingerprint:string environment.options.arms=on:2,off,auto environment.options.max_tokens=12 \
    environment.options.cool_off_s=0.01 environment.options.depth=2 prompts.count=5 prompts.tokens=15 prompts.domains#2 \
    prompts.domains.0.domain=x prompts.domains.0.count=2 complete=true arms#3 comparisons#2 results#5 synthetic#2 \
    identical_outputs=true outputs.promised_identical=true noise.a=off noise.b='off (again)' noise.verdict:string noise.says:string
for arm in 0 1 2; do
    for key in decode_tokens_per_s.median decode_tokens_per_s.p05 decode_tokens_per_s.p95 prefill_tokens_per_s.median \
        tpot_ms.p50 tpot_ms.p90 tpot_ms.p99 ttft_ms.p50 ttft_ms.p90 ttft_ms.p99 inter_token_ms.p50 cycle_ms.p99; do
        holds "arms.$arm.$key>0"
    done
    holds "arms.$arm.tokens=120" "arms.$arm.itl_histogram.edges_ms:array" "arms.$arm.speculative_decoding.num_cycles>0" \
        "arms.$arm.speculative_decoding.verify_bytes>0" "arms.$arm.speculative_decoding.sample_s>0"
done
# The others are compared with off, wherever it is in the list.
holds arms.0.name=on:2 arms.0.depth=2 arms.1.name=off arms.1.mtp=off arms.2.name=auto comparisons.0.a=off comparisons.0.b=on:2 \
    comparisons.1.b=auto comparisons.0.speedup.median'>0' comparisons.0.speedup.mean'>0' comparisons.0.speedup.ci95#2 \
    comparisons.0.speedup.geometric_mean'>0' comparisons.0.speedup.geometric_mean_ci95#2 comparisons.0.speedup.total'>0' \
    comparisons.0.speedup.total_ci95#2 arms.0.acceptance_rate_ci95#2 arms.0.per_position_ci95#2 arms.0.per_position_ci95.1#2 \
    comparisons.0.pairs=10 comparisons.0.slower_prompts.count:number comparisons.0.slower_prompts.share:number \
    comparisons.0.verdict:string
holds cost_model.pass_ms#3 cost_model.pass_over_one.0=1 cost_model.draft_ms'>0' cost_model.acceptance_rate:number \
    cost_model.expert_overlap:number cost_model.predicted_speedup'>0' cost_model.measured_speedup'>0' \
    cost_model.of_prediction'>0' cost_model.curve#21 cost_model.break_even_acceptance cost_model.arms#2
holds synthetic.0.target=0 synthetic.0.acceptance=0 synthetic.0.depth=2 synthetic.1.target=1 synthetic.1.acceptance=1 \
    synthetic.1.speedup.median'>0' synthetic.1.speedup.ci95#2
holds results.0.id=a results.0.domain=x results.0.prompt_tokens=4 results.0.tokens=12 results.2.arms.off.ttft_ms'>0' \
    results.2.arms.off.tpot_ms'>0' results.2.arms.auto.decode_tokens_per_s'>0' results.1.speedup:object results.1.speedup.auto'>0' \
    '!results.0.speedup.off'
grep -q '<html' "$work/report.html" || fail "--html wrote no page"
[ "$(wc -l <"$work/report.csv")" -gt 20 ] || fail "--csv wrote no table"
for row in comparison,on:2,off,slower_beyond_noise cost_model,auto,,predicted_speedup synthetic,,1,judged \
    synthetic,,0,decode_tokens_per_s_median comparison,on:2,off,speedup_total comparison,on:2,off,speedup_geometric_mean noise,'off (again),off,resolution'; do
    grep -q "^forerun.ab/1,$row,[0-9]" "$work/report.csv" || fail "--csv has no row $row"
done
[ -z "$(cut -d, -f1-5 "$work/report.csv" | sort | uniq -d)" ] || fail "--csv says something twice"
cp "$work/out" "$work/run.json"

ab 0 -n 8 --arms on,off --repeats 1 --no-noise-check --most-prompts 2 --warm-up 0
for text in '^2 prompts of 9 tokens, 1 text each' '^  off ' '^  on over off ' '^  cost model ' '^passes over one row: 1: 1.000, 2: ' \
    '^All arms gave the same texts' '; no chat template' '^There are no intervals: they are over prompts, and of 2 they cannot'; do
    grep -q "$text" "$work/out" || { fail "the tables do not say: $text"; cat "$work/out"; }
done
grep -q "$(printf '\033')" "$work/out" "$work/err" && fail "there are colours in what is no terminal"
if grep -qv '^memory: ' "$work/err"; then fail "there is a progress bar on what is no terminal"; fi

# -n limits every prompt; without it each prompt's own limit counts.
printf '{"tokens": [1, 5], "max_tokens": 20}\n{"tokens": [7, 8], "max_tokens": 3}\n' >"$work/limits.jsonl"
for case in "-n 6:6:3" ":20:3"; do
    run 0 ab -m "$model" -t 1 --prompts "$work/limits.jsonl" ${case%%:*} --ignore-eos --json -q --repeats 1 --no-noise-check \
        --arms off --warm-up 0
    case=${case#*:}
    holds results.0.tokens="${case%:*}" results.1.tokens="${case#*:}"
done

# Sampling at a temperature with rejection: the texts are not the same, and need not be.
ab 0 -n 24 --temperature 1 --verify rejection --ignore-eos --json -q --arms off,on --repeats 1
holds identical_outputs=false outputs.promised_identical=false outputs.different_texts'>0' outputs.first_difference.arm=on

# ---- Documents of earlier runs ------------------------------------------------------------------------------------------------

# The tables of a document, to the byte.
run 0 ab --from "$here/data/report-ab.json"
cmp "$work/out" "$here/data/report-ab.txt" || fail "the tables of report-ab.json are not those of report-ab.txt"

# A document of the first definitions, which does not number them, is shown (above) and compared; what it lacks is left out.
old=$here/data/report-ab.json
if grep -q '"definitions"' "$old"; then fail "report-ab.json is not of the first definitions"; fi
run 0 ab --from "$work/run.json" --compare "$old" --json
holds compare.warnings:array compare.prompts_in_both=0 statistics.definitions=2
run 0 ab --from "$old" --compare "$old" --html "$work/old.html" --csv "$work/old.csv" --json
holds compare.prompts_in_both'>4' compare.comparisons.0.ratio=1 '!statistics'
grep -q 'Against the run before' "$work/old.html" || fail "--html of a document of the first definitions"
[ "$(wc -l <"$work/old.csv")" -gt 20 ] || fail "--csv of a document of the first definitions"

run 0 ab --from "$work/run.json" --json
cmp -s "$work/out" "$work/run.json" || fail "--from does not give the document back"
sed 's/"identical_outputs":	true/"identical_outputs":	false/' "$work/run.json" >"$work/forged.json"
run 3 ab --from "$work/forged.json" --json
holds identical_outputs=false
grep -q '^forerun: outputs: ' "$work/err" || fail "exit 3 without saying why"

# Control characters of a document do not reach the terminal.
sed 's/"identical_outputs":	true/"identical_outputs":	false/; s/"isa":	"/&\\u001b[31m\\u009b2J/; s/"says":	"/&\\u001b]0;x\\u0007/
    s/"different_texts":	0/"different_texts": 1, "first_difference": {"id": "\\u001b[31mid", "arm": "o\\rn", "token": 3}/' \
    "$work/run.json" >"$work/forged.json"
run 3 ab --from "$work/forged.json"
grep -q '1 thread, ?\[31m?2J' "$work/out" || { fail "the instruction set is not shown"; cat "$work/out"; }
grep -q '^forerun: outputs: 1 texts .* prompt ?\[31mid in arm o?n, from token 3 on$' "$work/err" || { fail "exit 3"; cat "$work/err"; }
if LC_ALL=C grep -q "$(printf '[\001-\010\013-\037]')" "$work/out" "$work/err"; then fail "control characters of a document get out"; fi

run 0 ab --from "$work/run.json" --compare "$work/run.json" --json
holds schema=forerun.ab/1 compare.schema=forerun.ab-compare/1 compare.prompts_in_both=5 compare.texts_changed=0 compare.arms#3 \
    compare.arms.0.ratio=1 compare.arms.0.verdict='no difference shown' compare.comparisons#2 compare.comparisons.1.ratio=1 \
    compare.comparisons.1.verdict='no difference shown' environment.seed=0
cp "$work/out" "$work/compared.json"
run 0 ab --from "$work/run.json" --compare "$work/run.json" -q --html "$work/c.html" --csv "$work/c.csv"
grep -q 'Against the run before' "$work/c.html" || fail "--html does not show the comparison"
[ "$(grep -c '^forerun.ab/1,compare,.*,ratio,1,' "$work/c.csv")" -eq 5 ] || fail "--csv does not show the comparison"
if grep -q 'Against the run before' "$work/report.html"; then fail "a run alone is compared"; fi
sed 's/"threads":	1/"threads":	64/; s/"kv":	"bf16"/"kv":	"f32"/' "$work/run.json" >"$work/other.json"
run 0 ab --from "$work/run.json" --compare "$work/other.json"
grep -q '^! threads differs: 64 before, 1 after' "$work/out" || fail "--compare does not warn of threads"
grep -q '^! option kv differs' "$work/out" || fail "--compare does not warn of options"
grep -q '^  auto over off .*no difference shown' "$work/out" || { fail "--compare shows no verdict"; cat "$work/out"; }
# A document that already has a comparison gets a new one.
run 0 ab --from "$work/compared.json" --compare "$work/other.json" --json
[ "$(grep -c '^"compare": ' "$work/out")" -eq 1 ] || fail "--compare leaves the comparison that was there"
holds compare.warnings.0='threads differs: 64 before, 1 after' compare.arms.0.ratio=1 results#5
echo '{"schema": "forerun.accept/1"}' >"$work/accept.json"
run 1 ab --from "$work/run.json" --compare "$work/accept.json"
run 1 ab --from "$work/accept.json"
ab 1 -n 4 --no-noise-check --most-prompts 1 --repeats 1 --json -q --html "$work/none/report.html"
grep -q 'cannot write' "$work/err" || fail "it does not say that the report cannot be written"

# ---- Interrupted: what was measured until then, as a whole document -------------------------------------------------------------

# Before measuring has begun a signal ends the program without a document: then try again, and wait longer.
for seconds in 1 4 15 60; do
    "$FORERUN" ab -m "$model" --prompts "$work/prompts.jsonl" -n 200 --repeats 1000 --ignore-eos -t 1 --json >"$work/out" 2>"$work/err" &
    process=$!
    sleep "$seconds"
    kill -INT "$process" || fail "there was nothing to interrupt"
    code=0
    wait "$process" || code=$?
    [ ! -s "$work/out" ] || break
done
[ "$code" -eq 130 ] || fail "interrupted: exit $code"
holds complete=false arms#4 identical_outputs=true results:array cost_model:object

[ "$failed" -eq 0 ] || { echo "ab does not keep its contract"; exit 1; }
echo "ab keeps its contract"
